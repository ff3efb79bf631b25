#include "bailey/crypto/aead.h"

#include <fmt/format.h>
#include <intel-ipsec-mb.h>
#include <sodium.h>

#include <cstring>

namespace bailey::crypto {
namespace {

static_assert(cipher_key_bytes == IMB_KEY_256_BYTES &&
              cipher_key_bytes == crypto_aead_xchacha20poly1305_ietf_KEYBYTES);
static_assert(tag_bytes == crypto_aead_xchacha20poly1305_ietf_ABYTES);

template <std::size_t bytes>
struct NonceBytes {
  explicit NonceBytes(const Nonce& nonce) {
    std::memcpy(at, &nonce.number, sizeof nonce.number);
    std::memcpy(at + sizeof nonce.number, &nonce.part, sizeof nonce.part);
  }
  unsigned char at[bytes]{};
};
using AesNonce = NonceBytes<12>;
using XChaChaNonce = NonceBytes<crypto_aead_xchacha20poly1305_ietf_NPUBBYTES>;

// The library's functions for this processor; read by all threads once it is made. Never given back: keys
// may be in use until the process ends. Null where there is no memory.
const IMB_MGR* functions() {
  static const IMB_MGR* const made = [] {
    IMB_MGR* const all = ::alloc_mb_mgr(0);
    if (all != nullptr) ::init_mb_mgr_auto(all, nullptr);
    return all;
  }();
  return made;
}

const gcm_key_data* aes(const Secret& state) {
  return reinterpret_cast<const gcm_key_data*>(state.span().data());
}
// Takes the same time wherever they differ.
bool same(const Tag& a, const Tag& b) {
  std::uint64_t of_a[2], of_b[2];
  static_assert(sizeof of_a == sizeof(Tag));
  std::memcpy(of_a, a.data(), sizeof of_a);
  std::memcpy(of_b, b.data(), sizeof of_b);
  return ((of_a[0] ^ of_b[0]) | (of_a[1] ^ of_b[1])) == 0;
}
unsigned char* raw(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }
const unsigned char* raw(const std::byte* bytes) { return reinterpret_cast<const unsigned char*>(bytes); }

}  // namespace

std::string_view name(Cipher cipher) { return cipher == Cipher::aes_256_gcm ? "aes-256-gcm" : "xchacha20"; }

Status check_cipher(Cipher cipher) {
  if (cipher != Cipher::aes_256_gcm) return {};
  if (functions() == nullptr)
    return fail(Code::no_space, By::library, "no memory for the cipher's functions");
  constexpr std::uint64_t needed = IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ;
  if ((functions()->features & needed) == needed && functions()->gcm256_enc != nullptr) return {};
  return fail(Code::unsupported, By::library,
              "aes-256-gcm needs a processor with AES and carry-less multiplication (AES-NI, PCLMUL), which "
              "this one lacks",
              "create the region with cipher = \"xchacha20\"");
}

Result<Aead> Aead::create(Cipher cipher, Bytes key) {
  BAILEY_ASSERT(key.size() == cipher_key_bytes);
  BAILEY_TRY(check_cipher(cipher));
  const bool is_aes = cipher == Cipher::aes_256_gcm;
  Secret state = BAILEY_TRY(Secret::of_bytes(is_aes ? sizeof(gcm_key_data) : key.size()));
  if (is_aes) {
    BAILEY_ASSERT(reinterpret_cast<std::uintptr_t>(state.span().data()) % alignof(gcm_key_data) == 0);
    functions()->gcm256_pre(raw(key.data()), reinterpret_cast<gcm_key_data*>(state.span().data()));
  } else {
    std::memcpy(state.span().data(), key.data(), key.size());
  }
  return Aead(cipher, std::move(state));
}

void Aead::seal(Bytes text, std::byte* out, const Nonce& nonce, Bytes bound, Tag& tag) const {
  if (cipher_ == Cipher::aes_256_gcm) {
    gcm_context_data scratch;
    functions()->gcm256_enc(aes(state_), &scratch, raw(out), raw(text.data()), text.size(),
                            AesNonce(nonce).at, raw(bound.data()), bound.size(), raw(tag.data()), tag.size());
  } else {
    crypto_aead_xchacha20poly1305_ietf_encrypt_detached(raw(out), raw(tag.data()), nullptr, raw(text.data()),
                                                        text.size(), raw(bound.data()), bound.size(), nullptr,
                                                        XChaChaNonce(nonce).at, raw(state_.span().data()));
  }
}

bool Aead::open(Bytes text, std::byte* out, const Nonce& nonce, Bytes bound, const Tag& tag) const {
  if (cipher_ == Cipher::aes_256_gcm) {
    gcm_context_data scratch;
    Tag expected;
    functions()->gcm256_dec(aes(state_), &scratch, raw(out), raw(text.data()), text.size(),
                            AesNonce(nonce).at, raw(bound.data()), bound.size(), raw(expected.data()),
                            expected.size());
    if (same(expected, tag)) [[likely]]
      return true;
    // It decrypts before it knows the tag.
    wipe({out, text.size()});
    return false;
  }
  return crypto_aead_xchacha20poly1305_ietf_decrypt_detached(
             raw(out), nullptr, raw(text.data()), text.size(), raw(tag.data()), raw(bound.data()),
             bound.size(), XChaChaNonce(nonce).at, raw(state_.span().data())) == 0;
}

}  // namespace bailey::crypto
