// What a mistyped word was probably meant to be.
//
// Thread safety: pure functions. Cost: bounded, words over 64 bytes get no suggestion.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace bailey::policy {

// How many single mistakes (a letter wrong, missing, too many, or two swapped) lie between two words; upper
// and lower case count as equal. Words over 64 bytes are as far apart as they are long.
unsigned edit_distance(std::string_view a, std::string_view b);

// The nearest of `known`, or empty where none is near: at most one mistake in three letters.
std::string_view nearest(std::string_view word, std::span<const std::string> known);

// `did you mean "size"?`, or, where nothing is near and the list is short, `known: "r", "rw"`; else empty.
std::string suggestion(std::string_view word, std::span<const std::string> known);

}  // namespace bailey::policy
