#include "bailey/pool/signatures.h"

#include <algorithm>
#include <cstring>

#include "bailey/crypto/kdf.h"

namespace bailey::pool {
namespace {

// What is signed (docs/formats.md).
struct Message {
  static constexpr std::string_view text = "bailey batch of records 1";
  Message(const RegionId& region, const crypto::Hash& root) {
    std::memcpy(bytes.data(), text.data(), text.size());
    std::memcpy(bytes.data() + text.size(), region.data(), region.size());
    std::memcpy(bytes.data() + text.size() + region.size(), root.data(), root.size());
  }
  std::array<std::byte, text.size() + sizeof(RegionId) + sizeof(crypto::Hash)> bytes;
};

// What stands before key and value in a leaf.
struct LeafHead {
  RegionId region;
  std::uint64_t version, key_bytes, value_bytes;
};
static_assert(sizeof(LeafHead) == 40);

}  // namespace

Result<std::unique_ptr<Signatures>> Signatures::create(const RegionId& region, Bytes first_key,
                                                       std::unique_ptr<WriterKeys> keys) {
  crypto::Secret hash_key = BAILEY_TRY(crypto::derive(first_key, "bailey hash of signed records 1"));
  return std::unique_ptr<Signatures>(new Signatures(region, std::move(hash_key), std::move(keys)));
}

Status Signatures::prepare() {
  if (!pair_) pair_.emplace(BAILEY_TRY(keys_->pair()));
  return {};
}

crypto::Hash Signatures::leaf(std::uint64_t version, std::string_view key, std::string_view value) const {
  const LeafHead head{region_, version, key.size(), value.size()};
  return crypto::hash_leaf(hash_key_.span(),
                           {std::as_bytes(std::span(&head, 1)), as_bytes(key), as_bytes(value)});
}

void Signatures::sign(std::uint32_t writer, std::span<const crypto::Hash> leaves, std::span<Proof> proofs) {
  BAILEY_ASSERT(pair_ && leaves.size() == proofs.size());
  const crypto::Tree tree(hash_key_.span(), leaves);
  const crypto::Signature signature = pair_->sign(Message(region_, tree.root()).bytes);
  for (unsigned i = 0; i < proofs.size(); ++i) proofs[i] = {tree.path(i), signature};
  place_of(tree.root()) = {writer, tree.root()};
}

Signatures::Verdict Signatures::verify(std::uint64_t version, std::string_view key, std::string_view value,
                                       const Proof& proof) {
  const auto writer = static_cast<std::uint32_t>(version >> 32);
  const crypto::Hash root = crypto::root_of(hash_key_.span(), leaf(version, key, value), proof.path);
  Verified& before = place_of(root);
  if (before.writer == writer && before.root == root) return Verdict::good;
  auto known = known_.find(writer);
  if (known == known_.end()) return Verdict::unknown;
  if (!crypto::verify(known->second, Message(region_, root).bytes, proof.signature)) return Verdict::bad;
  before = {writer, root};
  return Verdict::good;
}

Result<bool> Signatures::learn(std::uint32_t writer, std::uint64_t membership) {
  Absent& absent = absent_[writer % absent_remembered];
  if (absent.writer == writer && absent.membership == membership + 1) return false;
  const auto rows = BAILEY_TRY(keys_->from(writer));
  if (known_.size() + rows.size() > writers_remembered) known_.clear();
  for (const WriterKeys::Row& row : rows) known_.emplace(row.writer, row.key);
  if (known_.contains(writer)) return true;
  absent = {writer, membership + 1};
  return false;
}

}  // namespace bailey::pool
