// The keyed hash of a record's key: SipHash-2-4 of 128 bits (Aumasson, Bernstein, 2012). It tells whoever
// lacks the hash's key nothing but whether two are the same.
//
// Thread safety: functions of their arguments.
#pragma once

#include <cstdint>
#include <string_view>

#include "bailey/base/bytes.h"

namespace bailey::crypto {

struct KeyHash {
  std::uint64_t first = 0, second = 0;
  bool operator==(const KeyHash&) const = default;
};

inline constexpr std::size_t hash_key_bytes = 16;

// `hash_key` leads to hash_key_bytes bytes.
KeyHash key_hash(const std::byte* hash_key, std::string_view key);

}  // namespace bailey::crypto
