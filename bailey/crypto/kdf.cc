#include "bailey/crypto/kdf.h"

#include <sodium.h>

namespace bailey::crypto {
namespace {
void add(crypto_auth_hmacsha256_state& state, const void* bytes, std::size_t count) {
  crypto_auth_hmacsha256_update(&state, static_cast<const unsigned char*>(bytes), count);
}
}  // namespace

Result<Secret> derive(Bytes key, std::string_view label, Bytes context) {
  BAILEY_ASSERT(key.size() == derived_bytes);
  static_assert(derived_bytes == crypto_auth_hmacsha256_BYTES);
  Secret out = BAILEY_TRY(Secret::of_bytes(derived_bytes));
  crypto_auth_hmacsha256_state state;
  crypto_auth_hmacsha256_init(&state, reinterpret_cast<const unsigned char*>(key.data()), key.size());
  // info = label | 0 | context: the zero ends the label, which holds none.
  add(state, label.data(), label.size());
  const unsigned char zero = 0, block = 1;
  add(state, &zero, 1);
  add(state, context.data(), context.size());
  add(state, &block, 1);
  crypto_auth_hmacsha256_final(&state, reinterpret_cast<unsigned char*>(out.span().data()));
  sodium_memzero(&state, sizeof state);
  return out;
}

}  // namespace bailey::crypto
