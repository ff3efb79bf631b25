// The program that is begun to be hostile (bailey/guard/strict_hostile.cc): carried, since an installed
// bailey has no other file.
#pragma once

#include <cstddef>
#include <span>

namespace bailey::attack {

std::span<const std::byte> hostile_image();

}  // namespace bailey::attack
