// HMAC-SHA-256: shows knowledge of a shared secret without sending it.
//
// By OpenSSL's SHA-256, which uses the processor's instructions for it: 180 ns for a short message where
// libsodium takes 800 ns and OpenSSL's own HMAC(), which looks its algorithm up each time, 1,100 ns.
//
// Thread-safe: functions of their arguments; a MacKey is read by any number of threads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "bailey/base/bytes.h"

namespace bailey::crypto {

using Mac = std::array<std::uint8_t, 32>;

// A key made ready for many messages: half of the work for a short one. Wiped when it goes.
class MacKey {
 public:
  // A key may have any length; 32 random bytes are what it should be.
  explicit MacKey(Bytes key);
  MacKey(const MacKey&) = default;
  MacKey& operator=(const MacKey&) = default;
  ~MacKey();

  Mac mac(Bytes message) const;

 private:
  struct State {
    alignas(8) std::array<std::byte, 112> bytes;
  };
  State inner_, outer_;
};

Mac mac(Bytes key, Bytes message);
// Compares in constant time.
bool mac_is_right(const Mac& claimed, Bytes key, Bytes message);

}  // namespace bailey::crypto
