#include "bailey/guard/window.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cerrno>

namespace bailey::guard {
namespace {

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
#endif

}  // namespace
}  // namespace bailey::guard
