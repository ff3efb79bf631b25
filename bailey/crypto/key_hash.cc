#include "bailey/crypto/key_hash.h"

#include <sodium.h>

#include <cstring>

namespace bailey::crypto {

static_assert(hash_key_bytes == crypto_shorthash_siphashx24_KEYBYTES &&
              sizeof(KeyHash) == crypto_shorthash_siphashx24_BYTES);

KeyHash key_hash(const std::byte* hash_key, std::string_view key) {
  unsigned char out[crypto_shorthash_siphashx24_BYTES];
  crypto_shorthash_siphashx24(out, reinterpret_cast<const unsigned char*>(key.data()), key.size(),
                              reinterpret_cast<const unsigned char*>(hash_key));
  KeyHash hash;
  std::memcpy(&hash, out, sizeof hash);
  return hash;
}

}  // namespace bailey::crypto
