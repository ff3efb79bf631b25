// Keys of one generation after the other, of which each gives all before it and none after: whoever is given
// the newest one opens what is still there of every generation, and who has an old one opens nothing newer.
// (Key regression by a chain of hashes: Fu, Kamara, Kohno, "Key Regression", NDSS 2006; Plutus, FAST 2003.)
//
// The last key of the chain is derived from a secret; each other one is the hash of the one after it. So one
// key goes to a reader however many generations there were.
//
// Thread safety: functions of their arguments; a KeyChain is constant.
#pragma once

#include <cstdint>

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"
#include "bailey/crypto/aead.h"
#include "bailey/crypto/secret.h"

namespace bailey::crypto {

using Generation = std::uint16_t;  // from 1 on
// A chain's length. To find a key of the chain takes up to so many hashes, about 2 ms.
inline constexpr Generation generations_max = 8192;

// The key of a generation, from the secret and what tells this chain from others. For the broker.
// Error no_space where memory can't be locked.
Result<Secret> key_of_generation(Bytes secret, Bytes context, Generation generation);

// The keys of all generations up to one, from that one's key. For who was given it.
class KeyChain {
 public:
  static Result<KeyChain> create(Generation newest, Bytes key);

  Generation newest() const { return newest_; }
  Bytes key(Generation generation) const {
    BAILEY_ASSERT(generation >= 1 && generation <= newest_);
    return keys_.span().subspan((generation - 1) * cipher_key_bytes, cipher_key_bytes);
  }

 private:
  KeyChain(Generation newest, Secret keys) : newest_(newest), keys_(std::move(keys)) {}
  Generation newest_;
  Secret keys_;  // from generation 1 on
};

}  // namespace bailey::crypto
