// Size classes: which sizes blocks have.
//
// Steps of 16 B to 512 B, of an eighth to 8 KiB, then what divides a page by 7, 6 ... 2. A larger record
// takes a run of whole pages. At most 12.5 % of a block is waste, from 512 B on; 15 B below. Part of the
// format (docs/formats.md): page words name classes by number.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "bailey/abi/segment.h"

namespace bailey::table {

inline constexpr unsigned class_count = 69;  // classes 1..69; 0 is a free page, 255 a run

namespace detail {
constexpr std::array<std::uint32_t, class_count + 1> make_class_bytes() {
  std::array<std::uint32_t, class_count + 1> bytes{};
  unsigned at = 1;
  for (std::uint32_t size = 32; size <= 512; size += 16) bytes[at++] = size;
  for (std::uint32_t base = 512; base < 8192; base *= 2)
    for (std::uint32_t step = 1; step <= 8; ++step) bytes[at++] = base + step * base / 8;
  for (std::uint32_t parts = 7; parts >= 2; --parts) bytes[at++] = BAILEY_PAGE_BYTES / parts / 16 * 16;
  return bytes;
}
}  // namespace detail

inline constexpr auto class_bytes = detail::make_class_bytes();
static_assert(class_bytes[1] == 32 && class_bytes[31] == 512 && class_bytes[63] == 8192 &&
              class_bytes[class_count] == 32768);

// The largest block that shares its page.
inline constexpr std::uint32_t block_bytes_max = class_bytes[class_count];

// The smallest class that holds `bytes`, or BAILEY_CLASS_RUN.
constexpr unsigned class_of(std::uint64_t bytes) {
  if (bytes <= 32) return 1;
  if (bytes <= 512) return static_cast<unsigned>((bytes + 15) / 16 - 1);
  if (bytes <= 8192) {
    unsigned power = static_cast<unsigned>(std::bit_width(bytes - 1)) - 1;  // 2^power < bytes <= 2^(power+1)
    std::uint64_t step = (std::uint64_t{1} << power) / 8;
    return 31 + (power - 9) * 8 +
           static_cast<unsigned>((bytes - (std::uint64_t{1} << power) + step - 1) / step);
  }
  for (unsigned cls = 64; cls <= class_count; ++cls)
    if (bytes <= class_bytes[cls]) return cls;
  return BAILEY_CLASS_RUN;
}

// Whether `in_page` is the start of a block of the class: a multiplication in place of a division.
namespace detail {
constexpr std::array<std::uint64_t, class_count + 1> make_reciprocals() {
  std::array<std::uint64_t, class_count + 1> reciprocals{};
  for (unsigned cls = 1; cls <= class_count; ++cls)
    reciprocals[cls] = ((std::uint64_t{1} << 32) + class_bytes[cls] - 1) / class_bytes[cls];
  return reciprocals;
}
inline constexpr auto reciprocals = make_reciprocals();
}  // namespace detail
constexpr std::uint32_t block_number(unsigned cls, std::uint32_t in_page) {
  return static_cast<std::uint32_t>(in_page * detail::reciprocals[cls] >> 32);
}
constexpr bool starts_block(unsigned cls, std::uint32_t in_page) {
  std::uint32_t number = block_number(cls, in_page);
  return number * class_bytes[cls] == in_page && in_page + class_bytes[cls] <= BAILEY_PAGE_BYTES;
}
constexpr std::uint32_t blocks_in_page(unsigned cls) { return BAILEY_PAGE_BYTES / class_bytes[cls]; }

}  // namespace bailey::table
