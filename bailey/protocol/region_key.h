// The key of an encrypted region, on its way from the broker to a session: never logged, wiped when it goes.
#pragma once

#include <array>
#include <cstdint>

#include "bailey/base/bytes.h"
#include "bailey/crypto/aead.h"
#include "bailey/crypto/key_chain.h"
#include "bailey/crypto/secret.h"

namespace bailey::protocol {

struct RegionKey {
  crypto::Cipher cipher = crypto::Cipher::aes_256_gcm;
  crypto::Generation generation = 1;  // the newest
  std::array<std::uint8_t, crypto::cipher_key_bytes> key{};

  RegionKey() = default;
  RegionKey(const RegionKey&) = default;
  RegionKey& operator=(const RegionKey&) = default;
  ~RegionKey() { crypto::wipe(std::as_writable_bytes(std::span(key))); }
  Bytes bytes() const { return std::as_bytes(std::span(key)); }
  bool operator==(const RegionKey&) const = default;
};

}  // namespace bailey::protocol
