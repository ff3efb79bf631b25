// Several texts under one signature: they are the leaves of a tree of hashes, whose root is what is signed.
// (Merkle, "A digital signature based on a conventional encryption function", 1987.) Each text is then proved
// for itself, with one hash a level of the tree.
//
// All hashes are BLAKE2b-256 under one key: who lacks it can't try texts against a hash. Leaves and the nodes
// above them are told apart by the first byte that is hashed, so that none is taken for the other. A tree
// has a power of two of leaves; what is missing is zeros, which are the hash of nothing that is known.
//
// Thread-safe: functions of their arguments.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"

namespace bailey::crypto {

using Hash = std::array<std::uint8_t, 32>;
inline constexpr unsigned batch_max = 16;
inline constexpr unsigned path_max = 4;
static_assert(1u << path_max == batch_max);

// From a leaf to the root: where the leaf is, and the hash beside each node on the way.
struct Path {
  std::uint8_t length = 0;  // at most path_max
  std::uint8_t index = 0;   // below 1 << length
  std::array<Hash, path_max> beside;
};

// Of a text in parts. How long each is must follow from the ones before it.
Hash hash_leaf(Bytes key, std::initializer_list<Bytes> parts);

class Tree {
 public:
  // Of 1..batch_max leaves.
  Tree(Bytes key, std::span<const Hash> leaves);
  const Hash& root() const { return levels_[length_][0]; }
  Path path(unsigned leaf) const;

 private:
  unsigned length_ = 0;
  std::array<std::array<Hash, batch_max>, path_max + 1> levels_{};
};

// What the root is if the leaf is where the path says.
Hash root_of(Bytes key, const Hash& leaf, const Path& path);

}  // namespace bailey::crypto
