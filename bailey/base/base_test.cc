#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bailey/base/bytes.h"
#include "bailey/base/clock.h"
#include "bailey/base/error.h"
#include "bailey/base/fd.h"
#include "bailey/base/identity.h"
#include "bailey/base/wild.h"

namespace bailey {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) return fail(Code::invalid_argument, By::library, "odd", "pass an even number");
  return value / 2;
}
Result<int> quarter(int value) {
  int once = BAILEY_TRY(half(value));
  return BAILEY_TRY(half(once));
}

TEST(Error, TryReturnsTheErrorOfTheInnerCall) {
  EXPECT_EQ(*quarter(8), 2);
  EXPECT_EQ(quarter(6).error().code, Code::invalid_argument);
}

TEST(Error, SaysWhoWhyAndWhatToDo) {
  EXPECT_EQ(half(1).error().to_string(),
            "odd [invalid argument, by the library]\n  what to do: pass an even number");
}

TEST(Wild, IsUsableOnlyThroughACheck) {
  Wild<std::uint32_t> length(17);
  EXPECT_EQ(length.below(18), 17u);
  EXPECT_EQ(length.below(17), std::nullopt);
  EXPECT_EQ(length.within(0, 16), std::nullopt);
  EXPECT_TRUE(length.is(17));
}

TEST(Mapping, AReadWriteMappingIsNotInheritedByAChild) {
  auto mapping = Mapping::anonymous(4096, Mapping::Fork::dropped);
  ASSERT_TRUE(mapping);
  pid_t child = fork();
  if (child == 0) {
    *mapping->data() = std::byte{1};
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGSEGV);
}

TEST(Identity, AForkHasItsOwn) {
  auto parent = own_identity();
  ASSERT_TRUE(parent);
  EXPECT_EQ(*own_identity(), *parent);
  pid_t child = fork();
  if (child == 0) {
    auto own = own_identity();
    _exit(own && own->random != parent->random && own->boot == parent->boot ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(Identity, AMissingProcessIsNotFound) {
  EXPECT_EQ(start_ticks_of(999'999'999).error().code, Code::not_found);
}

}  // namespace
}  // namespace bailey
