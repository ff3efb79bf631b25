#include "bailey/crypto/key_chain.h"

#include <sodium.h>

#include <algorithm>
#include <cstring>

#include "bailey/crypto/kdf.h"

namespace bailey::crypto {
namespace {

// The key of the generation before that of `key`.
void previous(Bytes key, MutableBytes out) {
  static constexpr std::string_view label = "bailey key of the generation before 1";
  unsigned char block[label.size() + cipher_key_bytes];  // one of BLAKE2b's
  std::memcpy(block, label.data(), label.size());
  std::memcpy(block + label.size(), key.data(), cipher_key_bytes);
  crypto_generichash(reinterpret_cast<unsigned char*>(out.data()), cipher_key_bytes, block, sizeof block,
                     nullptr, 0);
  sodium_memzero(block, sizeof block);
}

}  // namespace

Result<Secret> key_of_generation(Bytes secret, Bytes context, Generation generation) {
  BAILEY_ASSERT(generation >= 1 && generation <= generations_max);
  Secret key = BAILEY_TRY(derive(secret, "bailey last key of a region 1", context));
  for (Generation at = generations_max; at > generation; --at) previous(key.span(), key.span());
  return key;
}

Result<KeyChain> KeyChain::create(Generation newest, Bytes key) {
  BAILEY_ASSERT(newest >= 1 && newest <= generations_max && key.size() == cipher_key_bytes);
  KeyChain chain(newest, BAILEY_TRY(Secret::of_bytes(newest * cipher_key_bytes)));
  MutableBytes keys = chain.keys_.span();
  auto of = [&](Generation at) { return keys.subspan((at - 1) * cipher_key_bytes, cipher_key_bytes); };
  std::ranges::copy(key, of(newest).begin());
  for (Generation at = newest; at > 1; --at) previous(of(at), of(static_cast<Generation>(at - 1)));
  return chain;
}

}  // namespace bailey::crypto
