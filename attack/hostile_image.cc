#include "attack/hostile_image.h"

asm(R"(
  .section .rodata
  .balign 16
bailey_hostile_begin:
  .incbin ")" BAILEY_HOSTILE R"("
bailey_hostile_end:
  .previous
)");

extern "C" {
[[gnu::visibility("hidden")]] extern const std::byte bailey_hostile_begin[], bailey_hostile_end[];
}

namespace bailey::attack {

std::span<const std::byte> hostile_image() { return {bailey_hostile_begin, bailey_hostile_end}; }

}  // namespace bailey::attack
