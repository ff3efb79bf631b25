// For tests that exist in a short and in a long form: ./test --long runs the long one (LONG in
// cmake/bailey.cmake).
#pragma once

#include <cstdlib>

namespace bailey {

inline bool long_form() { return std::getenv("BAILEY_LONG") != nullptr; }

}  // namespace bailey
