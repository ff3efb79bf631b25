// Where a key belongs. A header of its own: the hash is compiled into each file that needs it, which costs a
// compiler more than the rest of the file, and saves a call a lookup.
#pragma once

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "bailey/table/index.h"

namespace bailey::table {

inline Home home_of_hash(std::uint64_t hash, const Geometry& geometry) {
  Home home;
  // The high bits choose the bucket, the low ones the tag.
  home.bucket = static_cast<std::uint64_t>((static_cast<unsigned __int128>(hash) * geometry.buckets) >> 64);
  home.tag = hash & BAILEY_SLOT_TAG_MASK;
  home.tag += home.tag == 0;
  return home;
}

// By XXH3 of 64 bits (xxHash, Collet) under the table's seed.
inline Home home_of(std::string_view key, const Geometry& geometry) {
  return home_of_hash(XXH3_64bits_withSeed(key.data(), key.size(), geometry.hash_seed), geometry);
}

// By the first half of the keyed hash, where the table is encrypted.
inline Home home_of(const crypto::KeyHash& hash, const Geometry& geometry) {
  Home home = home_of_hash(hash.first, geometry);
  home.hash = hash;
  return home;
}

}  // namespace bailey::table
