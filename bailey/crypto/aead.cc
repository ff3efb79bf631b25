#include "bailey/crypto/aead.h"

#include <fmt/format.h>
#include <sodium.h>

#include <cstring>

namespace bailey::crypto {
namespace {

static_assert(cipher_key_bytes == crypto_aead_aes256gcm_KEYBYTES &&
              cipher_key_bytes == crypto_aead_xchacha20poly1305_ietf_KEYBYTES);
static_assert(tag_bytes == crypto_aead_aes256gcm_ABYTES &&
              tag_bytes == crypto_aead_xchacha20poly1305_ietf_ABYTES);

template <std::size_t bytes>
struct NonceBytes {
  explicit NonceBytes(const Nonce& nonce) {
    std::memcpy(at, &nonce.number, sizeof nonce.number);
    std::memcpy(at + sizeof nonce.number, &nonce.part, sizeof nonce.part);
  }
  unsigned char at[bytes]{};
};
using AesNonce = NonceBytes<crypto_aead_aes256gcm_NPUBBYTES>;
using XChaChaNonce = NonceBytes<crypto_aead_xchacha20poly1305_ietf_NPUBBYTES>;

const crypto_aead_aes256gcm_state* aes(const Secret& state) {
  return reinterpret_cast<const crypto_aead_aes256gcm_state*>(state.span().data());
}
unsigned char* raw(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }
const unsigned char* raw(const std::byte* bytes) { return reinterpret_cast<const unsigned char*>(bytes); }

}  // namespace

std::string_view name(Cipher cipher) { return cipher == Cipher::aes_256_gcm ? "aes-256-gcm" : "xchacha20"; }

Status check_cipher(Cipher cipher) {
  BAILEY_ASSERT(sodium_init() >= 0);
  if (cipher != Cipher::aes_256_gcm || crypto_aead_aes256gcm_is_available() != 0) return {};
  return fail(Code::unsupported, By::library,
              "aes-256-gcm needs a processor with AES and carry-less multiplication (AES-NI, PCLMUL), which "
              "this one lacks",
              "create the region with cipher = \"xchacha20\"");
}

Result<Aead> Aead::create(Cipher cipher, Bytes key) {
  BAILEY_ASSERT(key.size() == cipher_key_bytes);
  BAILEY_TRY(check_cipher(cipher));
  Secret state = BAILEY_TRY(
      Secret::of_bytes(cipher == Cipher::aes_256_gcm ? sizeof(crypto_aead_aes256gcm_state) : key.size()));
  if (cipher == Cipher::aes_256_gcm) {
    BAILEY_ASSERT(reinterpret_cast<std::uintptr_t>(state.span().data()) % 16 == 0);
    crypto_aead_aes256gcm_beforenm(reinterpret_cast<crypto_aead_aes256gcm_state*>(state.span().data()),
                                   raw(key.data()));
  } else {
    std::memcpy(state.span().data(), key.data(), key.size());
  }
  return Aead(cipher, std::move(state));
}

void Aead::seal(Bytes text, std::byte* out, const Nonce& nonce, Bytes bound, Tag& tag) const {
  if (cipher_ == Cipher::aes_256_gcm)
    crypto_aead_aes256gcm_encrypt_detached_afternm(raw(out), raw(tag.data()), nullptr, raw(text.data()),
                                                   text.size(), raw(bound.data()), bound.size(), nullptr,
                                                   AesNonce(nonce).at, aes(state_));
  else
    crypto_aead_xchacha20poly1305_ietf_encrypt_detached(raw(out), raw(tag.data()), nullptr, raw(text.data()),
                                                        text.size(), raw(bound.data()), bound.size(), nullptr,
                                                        XChaChaNonce(nonce).at, raw(state_.span().data()));
}

bool Aead::open(Bytes text, std::byte* out, const Nonce& nonce, Bytes bound, const Tag& tag) const {
  if (cipher_ == Cipher::aes_256_gcm)
    return crypto_aead_aes256gcm_decrypt_detached_afternm(raw(out), nullptr, raw(text.data()), text.size(),
                                                          raw(tag.data()), raw(bound.data()), bound.size(),
                                                          AesNonce(nonce).at, aes(state_)) == 0;
  return crypto_aead_xchacha20poly1305_ietf_decrypt_detached(
             raw(out), nullptr, raw(text.data()), text.size(), raw(tag.data()), raw(bound.data()),
             bound.size(), XChaChaNonce(nonce).at, raw(state_.span().data())) == 0;
}

}  // namespace bailey::crypto
