// What tests of gates begin with.
#pragma once

#include <gtest/gtest.h>

#include "bailey/guard/probe.h"

namespace bailey::guard {

// A test of gates begins with this: where there are no protection keys it says so.
#define BAILEY_NEEDS_PROTECTION_KEYS()                   \
  if (auto there = ::bailey::guard::available(); !there) \
  GTEST_SKIP() << there.error().message << " (pku_guest_test runs it in a guest that has them)"

}  // namespace bailey::guard
