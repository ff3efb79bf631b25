#include "bailey/crypto/batch.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace bailey::crypto {
namespace {

const Hash key{1, 2, 3};
Bytes key_bytes() { return std::as_bytes(std::span(key)); }

std::vector<Hash> leaves(unsigned count) {
  std::vector<Hash> all;
  for (unsigned i = 0; i < count; ++i)
    all.push_back(hash_leaf(key_bytes(), {as_bytes("text"), std::as_bytes(std::span(&i, 1))}));
  return all;
}

// Of every size and leaf: the path leads to the root, and no other place, leaf or bit of it does.
TEST(Batch, EachLeafIsProvedAtItsPlaceAlone) {
  for (unsigned count = 1; count <= batch_max; ++count) {
    const auto all = leaves(count);
    const Tree tree(key_bytes(), all);
    for (unsigned at = 0; at < count; ++at) {
      const Path path = tree.path(at);
      EXPECT_GE(1u << path.length, count);
      EXPECT_TRUE(path.length == 0 || 1u << (path.length - 1) < count) << "no longer than it has to be";
      EXPECT_EQ(root_of(key_bytes(), all[at], path), tree.root());
      for (unsigned other = 0; other < count; ++other) {
        EXPECT_EQ(root_of(key_bytes(), all[other], path) == tree.root(), other == at);
      }
      for (unsigned level = 0; level < path.length; ++level) {
        Path wrong = path;
        wrong.index ^= static_cast<std::uint8_t>(1u << level);
        EXPECT_NE(root_of(key_bytes(), all[at], wrong), tree.root());
        wrong = path;
        wrong.beside[level][at] ^= 1;
        EXPECT_NE(root_of(key_bytes(), all[at], wrong), tree.root());
      }
    }
  }
}

// Two hashes side by side, given as a text, are no node; nor does another key lead to the same.
TEST(Batch, ALeafIsNotTakenForANode) {
  const auto two = leaves(2);
  const Tree tree(key_bytes(), two);
  EXPECT_NE(hash_leaf(key_bytes(), {std::as_bytes(std::span(two[0])), std::as_bytes(std::span(two[1]))}),
            tree.root());
  const Hash other{9};
  EXPECT_NE(hash_leaf(std::as_bytes(std::span(other)), {as_bytes("text")}),
            hash_leaf(key_bytes(), {as_bytes("text")}));
  EXPECT_EQ(hash_leaf(key_bytes(), {as_bytes("te"), as_bytes("xt")}),
            hash_leaf(key_bytes(), {as_bytes("text")}));
}

TEST(Batch, WhatIsInItMakesAnotherRoot) {
  std::set<Hash> roots;
  for (unsigned count = 1; count <= batch_max; ++count) roots.insert(Tree(key_bytes(), leaves(count)).root());
  EXPECT_EQ(roots.size(), batch_max);
}

}  // namespace
}  // namespace bailey::crypto
