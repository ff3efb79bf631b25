// Sealer: the keys of an encrypted region in the hands of one view, and what a structure does with them.
//
// A record is sealed under the key of the region's newest generation, and opened under that of its own. What
// it is bound to beside its text: the region's id, the hash of its key, its version and its lengths. A record
// of another key, version or region, or of other bytes, does not open.
//
// Records of older versions are records as good as new ones to anybody who can only open them. A sealer
// therefore remembers the newest version that it met of many keys (versions_remembered, by hash): who is
// shown an older one of the same writer is shown the past. What it does not notice: an older version of a key
// that it has never met or has forgotten, one of another writer, and the record's absence.
//
// Thread safety: one thread at a time, that of its view.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"
#include "bailey/crypto/aead.h"
#include "bailey/crypto/key_chain.h"
#include "bailey/crypto/key_hash.h"
#include "bailey/crypto/secret.h"
#include "bailey/pool/signatures.h"

namespace bailey::pool {

// What a sealed text is bound to.
struct Bound {
  crypto::KeyHash hash;
  std::uint64_t version = 0;
  std::uint64_t lengths = 0;
};

class Sealer {
 public:
  struct Parts {
    crypto::Cipher cipher{};
    RegionId region{};
    std::string name;                   // of the region, for messages
    crypto::Generation generation = 1;  // the newest
    Bytes key;                          // of that generation
  };
  // Errors: unsupported (this process can't do the cipher); no_space (memory can't be locked).
  static Result<std::unique_ptr<Sealer>> create(const Parts& parts);

  // The region is signed, too. Error: no_space.
  Status set_signed(std::unique_ptr<WriterKeys> keys);
  // Null where it is not.
  Signatures* signatures() const { return signatures_.get(); }

  // There is a newer generation. An older one than is known changes nothing. Error: no_space.
  Status renew(crypto::Generation generation, Bytes key);
  crypto::Generation generation() const { return keys_.newest(); }

  crypto::KeyHash hash(std::string_view key) const { return crypto::key_hash(hash_key_.span().data(), key); }

  // Memory of its own for a text; until the next call.
  std::byte* room(std::size_t bytes) {
    if (bytes > room_.size()) [[unlikely]]
      make_room(bytes);
    return room_.data();
  }

  // A record's key and its value are sealed each for itself, so that who knows the key need not open it.
  enum class Part : std::uint8_t { value = 0, key = 1 };
  // Under the newest generation. A part of a version is sealed with one text alone. `out` may be the text
  // itself; it is never memory that others can write: the tag is made of what is read there.
  void seal(Bytes text, std::byte* out, Part part, const Bound& bound, crypto::Tag& tag) const;

  enum class Opened : std::uint8_t {
    yes,
    forged,   // not what any holder of the key sealed
    unheard,  // sealed under a generation that this view has not heard of
    failed,   // `failure` says why
  };
  // `text` likewise is private memory. Where it does not open, `out` holds nothing of it.
  Opened open(Bytes text, std::byte* out, Part part, crypto::Generation generation, const Bound& bound,
              const crypto::Tag& tag, Error& failure);

  void prefetch(const crypto::KeyHash& hash) const {
    __builtin_prefetch(&met_[hash.second % versions_remembered]);
  }
  // Whether a newer record of the key by the same writer was met before this one, which was opened. Remembers
  // the newest.
  bool rolled_back(const crypto::KeyHash& hash, std::uint64_t version) {
    Met& met = met_[hash.second % versions_remembered];
    if (met.first == hash.first && met.version >> 32 == version >> 32 && met.version > version) [[unlikely]]
      return true;
    met = {hash.first, version};
    return false;
  }
  // The same of what this view published itself; of an erased record, one more than its version.
  void remember(const crypto::KeyHash& hash, std::uint64_t version) {
    met_[hash.second % versions_remembered] = {hash.first, version};
  }
  // What was published may have been lost, and older records are the truth again: after a change of the
  // index.
  void forget_versions();
  static constexpr std::size_t versions_remembered = 4096;

  // What is reported of a record that does not open or is of the past.
  Error corrupt(std::string_view what) const;
  Error replaced() const;
  // And of one that opens, and is not its writer's.
  Error not_signed() const;

 private:
  struct Older {
    crypto::Generation generation = 0;
    std::optional<crypto::Aead> aead;
  };
  struct Met {
    std::uint64_t first = 0;  // of the hash
    std::uint64_t version = 0;
  };
  Sealer(const Parts& parts, crypto::KeyChain keys, crypto::Aead newest, crypto::Secret hash_key);
  Result<const crypto::Aead*> of(crypto::Generation generation);
  void make_room(std::size_t bytes);

  crypto::Cipher cipher_;
  RegionId region_;
  std::string name_;
  crypto::KeyChain keys_;
  crypto::Aead newest_;
  crypto::Secret hash_key_;
  std::array<Older, 4> older_;  // made when they are needed, by the last bits of the generation
  std::unique_ptr<Signatures> signatures_;
  std::vector<std::byte> room_;
  std::vector<Met> met_ = std::vector<Met>(versions_remembered);
};

}  // namespace bailey::pool
