// Something that a principal tried and should not get, and what came of it. Lives in memory that processes
// share.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "bailey/base/error.h"

namespace bailey::demo {

struct Attempt {
  char what[112] = {};
  char by[16] = {};  // who refused; empty: nobody did
  char answer[640] = {};
  bool refused = false;

  static Attempt refused_by(std::string_view what, const Error& error);
  // A system call's outcome; os 0: it was let through.
  static Attempt system_call(std::string_view what, std::string_view call, int os);
  static Attempt let_through(std::string_view what);
};
static_assert(std::is_trivially_copyable_v<Attempt>);

}  // namespace bailey::demo
