#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "bailey/base/bytes.h"
#include "bailey/base/clock.h"
#include "bailey/base/count.h"
#include "bailey/base/error.h"
#include "bailey/base/fd.h"
#include "bailey/base/identity.h"
#include "bailey/base/rights.h"
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

TEST(Error, TellsAFailedCallInTheKernelsWords) {
  EXPECT_EQ(fail_os(ENOENT, "could not open x").error().to_string(),
            "could not open x [No such file or directory, by the kernel]");
  EXPECT_EQ((Error{Code::no_space, By::kernel, ENOSPC, "full", ""}.to_string()),
            "full [no space, by the kernel: No space left on device]");
}

TEST(Count, OneIsSingular) {
  EXPECT_EQ(counted(0, "region"), "0 regions");
  EXPECT_EQ(counted(1, "region"), "1 region");
  EXPECT_EQ(counted(2, "region"), "2 regions");
}

// A pair of sockets, and a message over it with that many descriptors; those that came with room for `limit`.
std::vector<Fd> sent_and_taken(std::size_t count, std::size_t limit, bool& cut) {
  int ends[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  Fd to(ends[0]), from(ends[1]);
  char byte = 'x';
  iovec part{&byte, 1};
  const std::vector<int> fds(count, to.get());
  Rights<4> out, in;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  out.put(message, fds);
  EXPECT_EQ(::sendmsg(to.get(), &message, 0), 1);
  message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  in.expect(message, limit);
  EXPECT_EQ(::recvmsg(from.get(), &message, MSG_CMSG_CLOEXEC), 1);
  cut = (message.msg_flags & MSG_CTRUNC) != 0;
  std::vector<Fd> taken;
  take_rights(message, [&](int fd) { taken.emplace_back(fd); });
  return taken;
}

TEST(Rights, TakesAsManyDescriptorsAsAreAllowedAndNoMore) {
  bool cut = true;
  std::vector<Fd> taken = sent_and_taken(3, 4, cut);
  EXPECT_EQ(taken.size(), 3u);
  EXPECT_FALSE(cut);
  for (const Fd& fd : taken) EXPECT_NE(::fcntl(fd.get(), F_GETFD), -1);
  EXPECT_EQ(sent_and_taken(4, 3, cut).size(), 3u);
  EXPECT_TRUE(cut);
  EXPECT_EQ(sent_and_taken(2, 1, cut).size(), 1u);
  EXPECT_TRUE(cut);
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

// A process of an inner pid namespace may still see the outer one's /proc, where its own number is another's.
TEST(Identity, InAnInnerPidNamespaceItIsStillItsOwn) {
  constexpr int no_namespace = 200;
  int said[2];
  ASSERT_EQ(pipe(said), 0);
  pid_t outer = fork();
  if (outer == 0) {
    if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) _exit(no_namespace);
    pid_t inner = fork();  // the first of the namespace: 1 there, as init is here
    if (inner == 0) {
      auto ticks = start_ticks_of(getpid());
      std::uint64_t told[2] = {static_cast<std::uint64_t>(getpid()), ticks.value_or(0)};
      _exit(write(said[1], told, sizeof told) == sizeof told ? 0 : 1);
    }
    // Here it still has the number that fork gave.
    std::uint64_t told[2] = {0, start_ticks_of(inner).value_or(0)};
    if (write(said[1], told, sizeof told) != sizeof told) _exit(1);
    int status = 0;
    _exit(waitpid(inner, &status, 0) == inner && status == 0 ? 0 : 2);
  }
  int status = 0;
  ASSERT_EQ(waitpid(outer, &status, 0), outer);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == no_namespace) GTEST_SKIP() << "no pid namespace can be made here";
  ASSERT_EQ(WEXITSTATUS(status), 0);
  std::uint64_t inner[2], outside[2];
  ASSERT_EQ(read(said[0], inner, sizeof inner), static_cast<ssize_t>(sizeof inner));
  ASSERT_EQ(read(said[0], outside, sizeof outside), static_cast<ssize_t>(sizeof outside));
  if (inner[0] == 0) std::swap(inner, outside);  // they write in any order
  EXPECT_EQ(inner[0], 1u);
  EXPECT_NE(inner[1], 0u);
  EXPECT_EQ(inner[1], outside[1]);
}

TEST(Identity, AMissingProcessIsNotFound) {
  EXPECT_EQ(start_ticks_of(999'999'999).error().code, Code::not_found);
}

}  // namespace
}  // namespace bailey
