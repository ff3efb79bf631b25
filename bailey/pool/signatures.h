// Signatures: who wrote a record of a signed region, in the hands of one view.
//
// Whoever may read an encrypted region holds its key and could seal records of its own. In a signed region
// each record carries a signature by its writer, which readers verify: over the root of a tree
// (crypto/batch.h) whose leaves are the records of one batch. A leaf is over the record in the clear, so that
// a record that was moved keeps its signature. The hashes are keyed under the
// region's first key: who lacks that can't try guesses at a record against its signature.
//
// Which key is a writer's is the broker's word alone (WriterKeys). A writer signs what it is about to
// publish: what it then does not publish, since another came before it or the write was refused, is signed
// all the same.
//
// Thread safety: one thread at a time, that of its view.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "bailey/base/error.h"
#include "bailey/crypto/batch.h"
#include "bailey/crypto/secret.h"
#include "bailey/crypto/sign.h"

namespace bailey::pool {

using RegionId = std::array<std::uint8_t, 16>;

// Behind a signed record.
struct Proof {
  crypto::Path path;
  crypto::Signature signature;
};

// Where writers' keys come from and go to. Calls may take milliseconds.
class WriterKeys {
 public:
  struct Row {
    std::uint32_t writer = 0;
    crypto::PublicKey key{};
  };
  virtual ~WriterKeys() = default;
  // The key of a writer, if it has one, and of some that came after it.
  virtual Result<std::vector<Row>> from(std::uint32_t writer) = 0;
  // Makes the pair of this view's own writer, and tells the others its public half.
  virtual Result<crypto::SecretKey> pair() = 0;
};

class Signatures {
 public:
  // `first_key`: of the region's first generation. Error: no_space (memory can't be locked).
  static Result<std::unique_ptr<Signatures>> create(const RegionId& region, Bytes first_key,
                                                    std::unique_ptr<WriterKeys> keys);

  // To be had before sign(). Asks the first time.
  Status prepare();
  crypto::Hash leaf(std::uint64_t version, std::string_view key, std::string_view value) const;
  // Signs 1..crypto::batch_max leaves of records of `writer` at once; a proof for each.
  void sign(std::uint32_t writer, std::span<const crypto::Hash> leaves, std::span<Proof> proofs);

  enum class Verdict : std::uint8_t {
    good,
    bad,
    unknown,  // whose key it should be is not known here: learn()
  };
  // Of a record that was opened.
  Verdict verify(std::uint64_t version, std::string_view key, std::string_view value, const Proof& proof);
  // Whether the writer has a key. What is absent is not asked again while `membership` stays.
  Result<bool> learn(std::uint32_t writer, std::uint64_t membership);

 private:
  // A batch costs one verification, as long as it is remembered.
  struct Verified {
    std::uint32_t writer = 0;
    crypto::Hash root{};
  };
  struct Absent {
    std::uint32_t writer = 0;
    std::uint64_t membership = 0;  // 1 + it
  };
  static constexpr std::size_t verified_remembered = 256;
  static constexpr std::size_t absent_remembered = 64;
  static constexpr std::size_t writers_remembered = 4096;

  Signatures(const RegionId& region, crypto::Secret hash_key, std::unique_ptr<WriterKeys> keys)
      : region_(region), hash_key_(std::move(hash_key)), keys_(std::move(keys)) {}
  Verified& place_of(const crypto::Hash& root) { return verified_[root[0] % verified_remembered]; }

  RegionId region_;
  crypto::Secret hash_key_;
  std::unique_ptr<WriterKeys> keys_;
  std::optional<crypto::SecretKey> pair_;
  std::unordered_map<std::uint32_t, crypto::PublicKey> known_;
  std::vector<Verified> verified_ = std::vector<Verified>(verified_remembered);
  std::array<Absent, absent_remembered> absent_{};
};

}  // namespace bailey::pool
