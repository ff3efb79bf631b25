// Authenticated encryption with associated data, under one key that is used many times.
//
// AES-256-GCM, where the processor does AES and carry-less multiplication itself (a table in memory would
// tell its timing), by Intel's multi-buffer library: a text of 256 bytes takes it a quarter of the time that
// libsodium 1.0.18 takes, which has no wide vectors. XChaCha20-Poly1305, for all other machines, by
// libsodium.
//
// A number must never be used twice under one key with different texts: with AES-GCM that gives the text and
// the key of the authenticator away. Callers take it from a counter that nobody else has; see
// docs/formats.md.
//
// Thread safety: const use by any number of threads.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"
#include "bailey/crypto/secret.h"

namespace bailey::crypto {

// The numbers are part of the protocol and of the broker's state.
enum class Cipher : std::uint8_t { aes_256_gcm = 1, xchacha20_poly1305 = 2 };
inline constexpr unsigned cipher_max = 2;
// As policies write them: "aes-256-gcm", "xchacha20".
std::string_view name(Cipher cipher);

// Error unsupported, naming the algorithm, where this machine lacks it.
Status check_cipher(Cipher cipher);

inline constexpr std::size_t cipher_key_bytes = 32;
inline constexpr std::size_t tag_bytes = 16;
using Tag = std::array<std::byte, tag_bytes>;

// Little-endian, and zeros to the cipher's length.
struct Nonce {
  std::uint64_t number = 0;
  std::uint32_t part = 0;  // of what the number is of
};

class Aead {
 public:
  // Errors: unsupported (see check_cipher); no_space where memory can't be locked.
  static Result<Aead> create(Cipher cipher, Bytes key);

  // Encrypts `text` to `out`, which may be the same memory. `bound` is authenticated and not encrypted.
  void seal(Bytes text, std::byte* out, const Nonce& nonce, Bytes bound, Tag& tag) const;
  // Decrypts likewise. False, and zeros in `out`, unless all is as it was sealed; until it returns `out` may
  // hold what is not.
  [[nodiscard]] bool open(Bytes text, std::byte* out, const Nonce& nonce, Bytes bound, const Tag& tag) const;

 private:
  Aead(Cipher cipher, Secret state) : cipher_(cipher), state_(std::move(state)) {}
  Cipher cipher_;
  Secret state_;  // AES: the key's schedule and the authenticator's table; XChaCha20: the key
};

}  // namespace bailey::crypto
