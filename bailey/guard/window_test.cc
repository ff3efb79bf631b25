#include "bailey/guard/window.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cerrno>

namespace bailey::guard {
namespace {

TEST(Window, IsMetByAnyByteWithinIt) {
  const auto at = [](std::uintptr_t address) { return reinterpret_cast<const void*>(address); };
  const std::uintptr_t end = window_base + window_bytes;
  EXPECT_TRUE(meets_window(at(window_base), 1));
  EXPECT_TRUE(meets_window(at(end - 1), 1));
  EXPECT_TRUE(meets_window(at(window_base - 1), 2));
  EXPECT_TRUE(meets_window(at(end - 1), 4096));
  EXPECT_TRUE(meets_window(at(0), ~std::size_t{0}));
  EXPECT_TRUE(meets_window(at(window_base - 4096), ~std::size_t{0})) << "an end that wraps around";
  EXPECT_FALSE(meets_window(at(window_base - 1), 1));
  EXPECT_FALSE(meets_window(at(end), 4096));
  EXPECT_FALSE(meets_window(at(window_base), 0)) << "nothing is nowhere";
  EXPECT_FALSE(meets_window(nullptr, 0));
}

#ifndef __SANITIZE_THREAD__
TEST(Window, IsReservedOnceAndIsFullOfNothing) {
  ASSERT_TRUE(reserve_window());
  ASSERT_TRUE(reserve_window());
  for (std::uintptr_t at : {window_base, window_base + window_bytes - 4096}) {
    void* got = ::mmap(reinterpret_cast<void*>(at), 4096, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    EXPECT_EQ(got, MAP_FAILED);
    EXPECT_EQ(errno, EEXIST);
  }
}

TEST(Window, PlacesAreApartAndAreGivenOutAgain) {
  ASSERT_TRUE(reserve_window());
  Places places;
  auto a = places.take(4096), b = places.take((2 << 20) - 4096), c = places.take(2 << 20), d = places.take(1);
  ASSERT_TRUE(a && b && c && d);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(*a), window_base);
  EXPECT_EQ(*b - *a, 2 << 20);
  EXPECT_EQ(*c - *b, 2 << 20);
  EXPECT_EQ(*d - *c, 4 << 20);  // a page of nothing wants another 2 MiB
  // What is free on both sides becomes one.
  places.give_back(*a, 4096);
  places.give_back(*c, 2 << 20);
  places.give_back(*b, (2 << 20) - 4096);
  auto all = places.take((8 << 20) - 4096);
  ASSERT_TRUE(all);
  EXPECT_EQ(*all, *a);
  places.give_back(*d, 1);
  places.give_back(*all, (8 << 20) - 4096);
  EXPECT_FALSE(places.take(window_bytes));
  auto nearly_all = places.take(window_bytes - 4096);
  ASSERT_TRUE(nearly_all);
  EXPECT_EQ(places.take(1).error().code, Code::no_space);
}
#endif

}  // namespace
}  // namespace bailey::guard
