// ed25519 signatures (RFC 8032).
//
// Thread safety: SecretKey is immutable once made; any number of threads may sign with it. Verifying is
// thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"
#include "bailey/crypto/secret.h"

namespace bailey::crypto {

using PublicKey = std::array<std::uint8_t, 32>;
using Signature = std::array<std::uint8_t, 64>;
inline constexpr std::size_t seed_bytes = 32;

// The secret half of a key pair, in locked memory that is wiped when it goes.
class SecretKey {
 public:
  // A new one. Error no_space where memory can't be locked.
  static Result<SecretKey> generate();
  // The one that belongs to a seed (what key files hold). The caller wipes its copy of the seed.
  static Result<SecretKey> from_seed(std::span<const std::uint8_t, seed_bytes> seed);

  const PublicKey& public_key() const { return public_key_; }
  Signature sign(Bytes message) const;
  // A copy of the seed, for writing it to a file.
  Result<Secret> seed() const;

 private:
  SecretKey(Secret expanded, const PublicKey& public_key)
      : expanded_(std::move(expanded)), public_key_(public_key) {}
  Secret expanded_;  // 64 bytes: seed, public key
  PublicKey public_key_{};
};

// Whether `signature` is by the holder of `key` over exactly `message`. Signatures in a second, malleated
// form and keys of small order are refused.
bool verify(const PublicKey& key, Bytes message, const Signature& signature);

}  // namespace bailey::crypto
