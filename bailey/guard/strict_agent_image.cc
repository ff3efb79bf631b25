#include "bailey/guard/strict_agent_image.h"

asm(R"(
  .section .rodata
  .balign 16
bailey_strict_agent_begin:
  .incbin ")" BAILEY_STRICT_AGENT R"("
bailey_strict_agent_end:
  .previous
)");

extern "C" {
[[gnu::visibility("hidden")]] extern const std::byte bailey_strict_agent_begin[], bailey_strict_agent_end[];
}

namespace bailey::guard {

std::span<const std::byte> strict_agent_image() {
  return {bailey_strict_agent_begin, bailey_strict_agent_end};
}

}  // namespace bailey::guard
