// What the tests of sockets and handshakes share.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>

#include "bailey/base/clock.h"

namespace bailey::protocol {

inline std::uint64_t soon() { return monotonic_ns() + 10'000'000'000; }

// A folder of its own a test, which goes with it.
class FolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/bailey-test-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
    // Other users have to get through to what is below.
    ASSERT_EQ(chmod(name, 0755), 0);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

// Runs `work` in a child, which ends with the code that it returns.
inline pid_t in_child(const std::function<int()>& work) {
  pid_t child = fork();
  if (child == 0) {
    // A test that hangs must not leave its children behind.
    alarm(60);
    _exit(work());
  }
  return child;
}
// The code that a child ended with, or -1 for a signal.
inline int ended_with(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

inline std::size_t open_descriptors() {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
    count += !entry.path().empty();
  return count;
}

}  // namespace bailey::protocol
