// The checks of single fields that come in a message; the codec's own.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "bailey/abi/control.h"
#include "bailey/base/error.h"
#include "bailey/protocol/codec.h"

namespace bailey::protocol {

// Sizes of files: more than any machine has, less than what overflows when a few are added.
inline constexpr std::uint64_t file_bytes_max = std::uint64_t{1} << 50;
inline constexpr std::uint32_t writer_max = 0x7fffffff;
inline constexpr std::uint32_t os_max = 4095;  // the kernel's MAX_ERRNO
static_assert(code_max == static_cast<std::uint32_t>(Code::busy) &&
              by_max == static_cast<std::uint32_t>(By::peer));
inline constexpr std::uint32_t mode_max = 2;
inline constexpr std::uint64_t control_bytes_max = std::uint64_t{1} << 30;

inline std::unexpected<Error> malformed(std::string_view field, std::string what) {
  return fail(Code::corrupt, By::peer, fmt::format("malformed message: {} {}", field, what));
}

// ---- checks of single fields

template <std::size_t size>
Result<std::array<std::uint8_t, size>> fixed([[maybe_unused]] std::string_view field,
                                             const std::string& bytes) {
  std::array<std::uint8_t, size> out;
#ifdef BAILEY_FUZZ_CANARY
  // A planted defect: believes the length that was sent.
  std::memcpy(out.data(), bytes.data(), bytes.size());
#else
  if (bytes.size() != size)
    return malformed(field, fmt::format("has {} bytes and not {}", bytes.size(), size));
  std::memcpy(out.data(), bytes.data(), size);
#endif
  return out;
}

inline Result<std::uint64_t> within(std::string_view field, std::uint64_t value, std::uint64_t low,
                                    std::uint64_t high) {
  if (value < low || value > high)
    return malformed(field, fmt::format("is {}, outside of {}..{}", value, low, high));
  return value;
}
inline Result<std::uint32_t> within32(std::string_view field, std::uint32_t value, std::uint32_t low,
                                      std::uint32_t high) {
  return static_cast<std::uint32_t>(BAILEY_TRY(within(field, value, low, high)));
}
inline Result<std::uint32_t> grant(std::uint32_t value) {
  return within32("grant", value, 0, BAILEY_GRANT_WORDS - 1);
}
inline Result<std::uint16_t> segment(std::uint32_t value) {
  return static_cast<std::uint16_t>(BAILEY_TRY(within32("segment", value, 1, 65535)));
}

template <class List>
Status at_most(std::string_view field, const List& list, std::size_t count_max) {
  if (static_cast<std::size_t>(list.size()) > count_max)
    return malformed(field, fmt::format("has {} entries where at most {} are taken", list.size(), count_max));
  return {};
}
template <class List>
Result<std::vector<std::uint16_t>> segment_list(std::string_view field, const List& list,
                                                std::size_t count_max) {
  BAILEY_TRY(at_most(field, list, count_max));
  std::vector<std::uint16_t> out;
  out.reserve(static_cast<std::size_t>(list.size()));
  for (std::uint32_t value : list) out.push_back(BAILEY_TRY(segment(value)));
  return out;
}

inline bool is_printable(char c) { return c >= 0x20 && c < 0x7f; }
// What may stand in a text: no zero, and nothing that a terminal obeys but tabs and ends of lines.
inline bool is_text(char c) {
  auto byte = static_cast<unsigned char>(c);
  return (byte >= 0x20 && byte != 0x7f) || c == '\n' || c == '\t';
}

inline Result<std::string> text(std::string_view field, const std::string& bytes, std::size_t bytes_max) {
  if (bytes.size() > bytes_max)
    return malformed(field, fmt::format("has {} bytes where at most {} are taken", bytes.size(), bytes_max));
#ifndef BAILEY_FUZZ_CANARY  // the second planted defect
  if (!std::ranges::all_of(bytes, is_text)) return malformed(field, "has control characters");
#endif
  return bytes;
}
// A short word that people read: a kind, a rung, a principal.
inline Result<std::string> label(std::string_view field, const std::string& bytes) {
  if (bytes.empty() || bytes.size() > text_name_bytes_max)
    return malformed(field, fmt::format("has {} bytes, outside of 1..{}", bytes.size(), text_name_bytes_max));
  if (!std::ranges::all_of(bytes, is_printable)) return malformed(field, "is not printable ASCII");
  return bytes;
}
template <class List>
Result<std::vector<std::string>> labels(std::string_view field, const List& list, std::size_t count_max) {
  BAILEY_TRY(at_most(field, list, count_max));
  std::vector<std::string> out;
  for (const std::string& bytes : list) out.push_back(BAILEY_TRY(label(field, bytes)));
  return out;
}
inline Result<std::string> token(std::string_view field, const std::string& bytes, std::size_t bytes_min) {
  if (bytes.size() < bytes_min || bytes.size() > token_bytes_max)
    return malformed(
        field, fmt::format("has {} bytes, outside of {}..{}", bytes.size(), bytes_min, token_bytes_max));
  return bytes;
}
inline Result<std::string> region_name(const std::string& bytes) {
  if (bytes.empty() || bytes.size() > name_bytes_max)
    return malformed("region", fmt::format("has {} bytes, outside of 1..{}", bytes.size(), name_bytes_max));
  if (!is_region_name(bytes)) return malformed("region", "has characters that a region's name may not have");
  return bytes;
}

}  // namespace bailey::protocol
