#include "bailey/crypto/sign.h"

#include <sodium.h>

#include <cstring>

#include "bailey/base/identity.h"

namespace bailey::crypto {
namespace {
unsigned char* raw(MutableBytes bytes) { return reinterpret_cast<unsigned char*>(bytes.data()); }
const unsigned char* raw(Bytes bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }
}  // namespace

static_assert(seed_bytes == crypto_sign_SEEDBYTES);
static_assert(sizeof(PublicKey) == crypto_sign_PUBLICKEYBYTES);
static_assert(sizeof(Signature) == crypto_sign_BYTES);

Result<SecretKey> SecretKey::generate() {
  Secret seed = BAILEY_TRY(Secret::of_bytes(seed_bytes));
  random_bytes(seed.span().data(), seed_bytes);
  return from_seed(std::span<const std::uint8_t, seed_bytes>(raw(seed.span()), seed_bytes));
}

Result<SecretKey> SecretKey::from_seed(std::span<const std::uint8_t, seed_bytes> seed) {
  Secret expanded = BAILEY_TRY(Secret::of_bytes(crypto_sign_SECRETKEYBYTES));
  PublicKey public_key;
  crypto_sign_seed_keypair(public_key.data(), raw(expanded.span()), seed.data());
  return SecretKey(std::move(expanded), public_key);
}

Signature SecretKey::sign(Bytes message) const {
  Signature signature;
  crypto_sign_detached(signature.data(), nullptr, raw(message), message.size(), raw(expanded_.span()));
  return signature;
}

Result<Secret> SecretKey::seed() const {
  Secret seed = BAILEY_TRY(Secret::of_bytes(seed_bytes));
  std::memcpy(seed.span().data(), expanded_.span().data(), seed_bytes);
  return seed;
}

bool verify(const PublicKey& key, Bytes message, const Signature& signature) {
  return crypto_sign_verify_detached(signature.data(), raw(message), message.size(), key.data()) == 0;
}

}  // namespace bailey::crypto
