// Keys as YCSB makes them: "user" and a number, hashed so that neighbours in time are not neighbours in name.
#pragma once

#include <charconv>
#include <cstdint>
#include <string_view>

namespace bailey::bench {

// "user" and 19 digits.
inline constexpr std::size_t ycsb_key_bytes_max = 23;

// FNV-1a of the eight bytes of `value`, least significant first, made non-negative as a signed 64-bit number.
constexpr std::uint64_t fnv_hash64(std::uint64_t value) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (int i = 0; i < 8; ++i) {
    hash ^= value & 0xff;
    hash *= 1099511628211;
    value >>= 8;
  }
  return hash >> 63 != 0 ? 0 - hash : hash;
}

struct YcsbKey {
  char text[24];
  std::uint8_t bytes = 0;
  std::string_view view() const { return {text, bytes}; }
};

// The key of record `number`, counted from 0. `hashed` is YCSB's insertorder=hashed, the default.
inline YcsbKey ycsb_key(std::uint64_t number, bool hashed = true) {
  YcsbKey key;
  key.text[0] = 'u', key.text[1] = 's', key.text[2] = 'e', key.text[3] = 'r';
  const std::uint64_t shown = hashed ? fnv_hash64(number) : number;
  const auto end = std::to_chars(key.text + 4, key.text + sizeof key.text, shown);
  key.bytes = static_cast<std::uint8_t>(end.ptr - key.text);
  return key;
}

}  // namespace bailey::bench
