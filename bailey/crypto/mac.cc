#include "bailey/crypto/mac.h"

// What replaces these functions in OpenSSL 3 allocates for each message.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include <algorithm>
#include <cstring>

#include "bailey/crypto/secret.h"

namespace bailey::crypto {
namespace {

constexpr std::size_t block_bytes = 64;

void begin(SHA256_CTX& state, std::array<unsigned char, block_bytes>& padded, unsigned char with) {
  for (unsigned char& byte : padded) byte ^= with;
  SHA256_Init(&state);
  SHA256_Update(&state, padded.data(), padded.size());
}

template <class State>
SHA256_CTX unpacked(const State& from) {
  SHA256_CTX state;
  static_assert(sizeof state == sizeof from);
  std::memcpy(&state, &from, sizeof state);
  return state;
}

void wipe_object(auto& object) { wipe({reinterpret_cast<std::byte*>(&object), sizeof object}); }

}  // namespace

MacKey::MacKey(Bytes key) {
  std::array<unsigned char, block_bytes> padded{};
  if (key.size() <= padded.size())
    std::copy_n(reinterpret_cast<const unsigned char*>(key.data()), key.size(), padded.begin());
  else
    SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), padded.data());
  SHA256_CTX state;
  begin(state, padded, 0x36);
  std::memcpy(&inner_, &state, sizeof inner_);
  begin(state, padded, 0x36 ^ 0x5c);
  std::memcpy(&outer_, &state, sizeof outer_);
  wipe_object(state);
  wipe_object(padded);
}

MacKey::~MacKey() {
  wipe_object(inner_);
  wipe_object(outer_);
}

Mac MacKey::mac(Bytes message) const {
  Mac out;
  SHA256_CTX state = unpacked(inner_);
  SHA256_Update(&state, message.data(), message.size());
  SHA256_Final(out.data(), &state);
  state = unpacked(outer_);
  SHA256_Update(&state, out.data(), out.size());
  SHA256_Final(out.data(), &state);
  wipe_object(state);
  return out;
}

Mac mac(Bytes key, Bytes message) { return MacKey(key).mac(message); }

bool mac_is_right(const Mac& claimed, Bytes key, Bytes message) {
  Mac right = mac(key, message);
  return equal_secret(std::as_bytes(std::span(claimed)), std::as_bytes(std::span(right)));
}

}  // namespace bailey::crypto
