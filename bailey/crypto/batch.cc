#include "bailey/crypto/batch.h"

#include <sodium.h>

namespace bailey::crypto {
namespace {

enum : unsigned char { leaf_mark = 0, node_mark = 1 };

class Hashing {
 public:
  Hashing(Bytes key, unsigned char mark) {
    crypto_generichash_init(&state_, reinterpret_cast<const unsigned char*>(key.data()), key.size(),
                            sizeof(Hash));
    crypto_generichash_update(&state_, &mark, 1);
  }
  void add(Bytes bytes) {
    crypto_generichash_update(&state_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  }
  Hash done() {
    Hash out;
    crypto_generichash_final(&state_, out.data(), out.size());
    sodium_memzero(&state_, sizeof state_);
    return out;
  }

 private:
  crypto_generichash_state state_;
};

Hash hash_node(Bytes key, const Hash& left, const Hash& right) {
  Hashing hashing(key, node_mark);
  hashing.add(std::as_bytes(std::span(left)));
  hashing.add(std::as_bytes(std::span(right)));
  return hashing.done();
}

}  // namespace

Hash hash_leaf(Bytes key, std::initializer_list<Bytes> parts) {
  Hashing hashing(key, leaf_mark);
  for (Bytes part : parts) hashing.add(part);
  return hashing.done();
}

Tree::Tree(Bytes key, std::span<const Hash> leaves) {
  BAILEY_ASSERT(!leaves.empty() && leaves.size() <= batch_max);
  while (1u << length_ < leaves.size()) ++length_;
  for (std::size_t i = 0; i < leaves.size(); ++i) levels_[0][i] = leaves[i];
  for (unsigned level = 0; level < length_; ++level)
    for (unsigned i = 0; i < 1u << (length_ - level - 1); ++i)
      levels_[level + 1][i] = hash_node(key, levels_[level][2 * i], levels_[level][2 * i + 1]);
}

Path Tree::path(unsigned leaf) const {
  BAILEY_ASSERT(leaf < 1u << length_);
  Path path;
  path.length = static_cast<std::uint8_t>(length_);
  path.index = static_cast<std::uint8_t>(leaf);
  for (unsigned level = 0; level < length_; ++level) path.beside[level] = levels_[level][leaf >> level ^ 1];
  return path;
}

Hash root_of(Bytes key, const Hash& leaf, const Path& path) {
  Hash node = leaf;
  for (unsigned level = 0; level < path.length; ++level)
    node = (path.index >> level & 1) != 0 ? hash_node(key, path.beside[level], node)
                                          : hash_node(key, node, path.beside[level]);
  return node;
}

}  // namespace bailey::crypto
