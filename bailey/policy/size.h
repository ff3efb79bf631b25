// Sizes in bytes, as people write and read them.
//
// Thread safety: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "bailey/base/error.h"

namespace bailey::policy {

// "256MiB", "4096", "64B": a whole number and one of B KiB MiB GiB TiB; no unit means bytes. No sign, no
// fraction, no space. Error invalid_argument: `message` says what is wrong, `remedy` what was probably meant.
// Zero is a size; whether it makes sense is the caller's to say.
Result<std::uint64_t> parse_size(std::string_view text);

// The shortest text that parse_size reads back as the same number: 268435456 is "256MiB", 1000 is "1000B".
std::string size_text(std::uint64_t bytes);

// For people, rounded down to a tenth: "256 MiB", "1.4 GiB", "17 B".
std::string format_size(std::uint64_t bytes);

}  // namespace bailey::policy
