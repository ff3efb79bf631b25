// HMAC-SHA-256: shows knowledge of a shared secret without sending it.
//
// Thread-safe: functions of their arguments.
#pragma once

#include <array>
#include <cstdint>

#include "bailey/base/bytes.h"

namespace bailey::crypto {

using Mac = std::array<std::uint8_t, 32>;

// A key may have any length; 32 random bytes are what it should be.
Mac mac(Bytes key, Bytes message);
// Compares in constant time.
bool mac_is_right(const Mac& claimed, Bytes key, Bytes message);

}  // namespace bailey::crypto
