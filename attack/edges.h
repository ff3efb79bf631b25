// Offsets, lengths and numbers at which arithmetic goes wrong.
#pragma once

#include <cstdint>

namespace bailey::attack {

inline constexpr std::uint64_t edges[] = {0,          1,           2,           7,           8,
                                          255,        256,         4095,        4096,        65535,
                                          65536,      0x7fff'ffff, 0x8000'0000, 0xffff'ffff, 1ull << 32,
                                          1ull << 47, 1ull << 62,  1ull << 63,  ~0ull - 7,   ~0ull};

}  // namespace bailey::attack
