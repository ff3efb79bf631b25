#include "bailey/crypto/mac.h"

#include <sodium.h>

#include "bailey/crypto/secret.h"

namespace bailey::crypto {
namespace {
const unsigned char* raw(Bytes bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }
}  // namespace

Mac mac(Bytes key, Bytes message) {
  Mac out;
  static_assert(sizeof out == crypto_auth_hmacsha256_BYTES);
  crypto_auth_hmacsha256_state state;
  crypto_auth_hmacsha256_init(&state, raw(key), key.size());
  crypto_auth_hmacsha256_update(&state, raw(message), message.size());
  crypto_auth_hmacsha256_final(&state, out.data());
  sodium_memzero(&state, sizeof state);
  return out;
}

bool mac_is_right(const Mac& claimed, Bytes key, Bytes message) {
  Mac right = mac(key, message);
  return equal_secret(std::as_bytes(std::span(claimed)), std::as_bytes(std::span(right)));
}

}  // namespace bailey::crypto
