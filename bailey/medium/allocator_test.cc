#include "bailey/medium/allocator.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <vector>

#include "bailey/base/clock.h"

namespace bailey::medium {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t mib = 1 << 20;

bool wait_until(const std::function<bool()>& done) {
  for (std::uint64_t until = monotonic_ns() + 20'000'000'000; !done(); ::usleep(200))
    if (monotonic_ns() > until) return false;
  return true;
}
bool readable(int fd, int patience_ms = 20'000) {
  pollfd ready{fd, POLLIN, 0};
  return ::poll(&ready, 1, patience_ms) == 1;
}
bool is_over(const Allocation& allocation) {
  pollfd over{allocation.fd(), 0, 0};
  return ::poll(&over, 1, 0) == 1;
}
std::uint64_t taken(const Fd& file) {
  struct stat about;
  return ::fstat(file.get(), &about) == 0 ? static_cast<std::uint64_t>(about.st_blocks) * 512 : 0;
}
std::string line_of(pid_t pid, const char* file, const std::string& word) {
  std::ifstream in(fmt::format("/proc/{}/{}", pid, file));
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(word)) return line;
  return "";
}
std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> found;
  for (auto& entry : std::filesystem::directory_iterator("/proc")) {
    pid_t child = std::atoi(entry.path().filename().c_str());
    if (child > 0 && line_of(child, "status", "PPid:") == fmt::format("PPid:\t{}", pid))
      found.push_back(child);
  }
  return found;
}
Fd watch(pid_t pid) { return Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))); }

// What `work` returns in a child process, which is that of another user than root.
int as_a_user(const std::function<int()>& work) {
  pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);
    // Dumpable, as a program is that such a user starts.
    if (::geteuid() == 0 && (::setuid(65534) != 0 || ::prctl(PR_SET_DUMPABLE, 1) != 0)) ::_exit(101);
    ::_exit(work());
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

class AllocatorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto started = Allocator::start();
    ASSERT_TRUE(started) << started.error().to_string();
    allocator = std::move(*started);
  }
  Fd file_of(std::uint64_t bytes) {
    auto file = create_file({}, "segment-1", bytes);
    EXPECT_TRUE(file);
    return file ? std::move(*file) : Fd();
  }
  // The worker that waits for a request, when no other is at work.
  pid_t waiting() {
    std::vector<pid_t> workers;
    EXPECT_TRUE(wait_until([&] { return (workers = children_of(allocator.pid())).size() == 1; }));
    return workers.size() == 1 ? workers[0] : -1;
  }
  Allocator allocator;
};

TEST_F(AllocatorTest, TakesThePagesOfTheFile) {
  Fd file = file_of(4 * mib);
  ASSERT_TRUE(allocate(allocator, {}, file.get(), 4 * mib, "a segment"));
  EXPECT_EQ(taken(file), 4 * mib);
}

TEST_F(AllocatorTest, CopiesAnotherFileWhereAsked) {
  Fd old = file_of(mib), fresh = file_of(mib);
  ASSERT_EQ(::pwrite(old.get(), "bailey", 6, mib - 6), 6);
  auto allocation = Allocation::start(allocator.line(), {}, fresh.get(), mib, old.get());
  ASSERT_TRUE(allocation && allocation->finish("an index"));
  char end[6];
  ASSERT_EQ(::pread(fresh.get(), end, 6, mib - 6), 6);
  EXPECT_EQ(std::string_view(end, 6), "bailey");
}

TEST_F(AllocatorTest, SaysWhatTheKernelSaid) {
  Fd file = file_of(mib);
  Fd reader(::open(fmt::format("/proc/self/fd/{}", file.get()).c_str(), O_RDONLY | O_CLOEXEC));
  auto allocation = Allocation::start(allocator.line(), {}, reader.get(), mib);
  ASSERT_TRUE(allocation);
  EXPECT_EQ(allocation->finish("a segment").error().os, EBADF);
  Place nowhere{Kind::memory, {}, 1000};
  allocation = Allocation::start(allocator.line(), nowhere, file.get(), mib);
  ASSERT_TRUE(allocation);
  EXPECT_EQ(allocation->finish("a segment").error().code, Code::unsupported);
}

// Those who wait for a large file hold up nobody: each has a worker of its own.
TEST_F(AllocatorTest, ManyAtOnceDoNotWaitForEachOther) {
  Fd large = file_of(128 * mib), small = file_of(mib);
  auto first = Allocation::start(allocator.line(), {}, large.get(), 128 * mib);
  auto second = Allocation::start(allocator.line(), {}, small.get(), mib);
  ASSERT_TRUE(first && second);
  ASSERT_TRUE(second->finish("small"));
  EXPECT_FALSE(is_over(*first)) << "128 MiB are taken sooner than 1 MiB";
  ASSERT_TRUE(first->finish("large"));
  EXPECT_EQ(taken(large), 128 * mib);
}

TEST_F(AllocatorTest, KeepsNoFileAndLeavesNoZombie) {
  for (int i = 0; i < 50; ++i) {
    Fd file = file_of(64 << 10);
    ASSERT_TRUE(allocate(allocator, {}, file.get(), 64 << 10, "a segment"));
    if (i % 2 == 0) continue;
    // One that is dropped goes on for nobody.
    ASSERT_TRUE(Allocation::start(allocator.line(), {}, file.get(), 64 << 10));
  }
  EXPECT_GT(waiting(), 0) << "one waits, and of the others nothing is left";
  if (::geteuid() != 0) GTEST_SKIP() << "the descriptors of a non-dumpable process are seen by root alone";
  auto descriptors = [&] {
    std::filesystem::directory_iterator each(fmt::format("/proc/{}/fd", allocator.pid()));
    return std::distance(begin(each), end(each));
  };
  // The standard streams, its line, its score, and the pipe of the worker that waits.
  EXPECT_TRUE(wait_until([&] { return descriptors() == 6; })) << descriptors();
}

TEST_F(AllocatorTest, IsNotTheFirstToBeKilledItself) {
  Fd file = file_of(mib);
  ASSERT_TRUE(allocate(allocator, {}, file.get(), mib, "a segment"));
  std::string own = line_of(::getpid(), "oom_score_adj", ""), its;
  EXPECT_TRUE(wait_until([&] { return (its = line_of(allocator.pid(), "oom_score_adj", "")) == own; }))
      << its;
}

TEST_F(AllocatorTest, ItsWorkersAreTheFirstToBeKilled) {
  EXPECT_EQ(line_of(waiting(), "oom_score_adj", ""), "1000");
}

// As the kernel may do where memory is short.
TEST_F(AllocatorTest, AWorkerThatIsKilledWhileItWaitsIsReplaced) {
  for (int i = 0; i < 3; ++i) {
    pid_t worker = waiting();
    Fd pidfd = watch(worker);
    ASSERT_EQ(::kill(worker, SIGKILL), 0);
    ASSERT_TRUE(readable(pidfd.get()));
  }
  Fd file = file_of(mib);
  EXPECT_TRUE(allocate(allocator, {}, file.get(), mib, "a segment"));
}

TEST_F(AllocatorTest, RequestsOutliveIt) {
  Fd worker = watch(waiting());
  ASSERT_EQ(::kill(allocator.pid(), SIGKILL), 0);
  ASSERT_TRUE(readable(allocator.pidfd()) && readable(worker.get()));
  Fd file = file_of(mib);
  auto waits = Allocation::start(allocator.line(), {}, file.get(), mib);
  ASSERT_TRUE(waits);
  EXPECT_EQ(allocate(allocator, {}, file.get(), mib, "a segment").error().code, Code::unavailable);
  EXPECT_EQ(allocator.reap(), "of signal 9");
  ASSERT_TRUE(allocator.restart([] {}));
  EXPECT_TRUE(waits->finish("a segment"));
  EXPECT_EQ(taken(file), mib);
  EXPECT_EQ(line_of(allocator.pid(), "oom_score_adj", ""), "1000");
  EXPECT_NE(line_of(::getpid(), "oom_score_adj", ""), "1000") << "raised for the moment of the fork alone";
}

TEST_F(AllocatorTest, AKilledWorkerIsAShortageForItsAskerAlone) {
  Fd file = file_of(mib), empty(::memfd_create("empty", MFD_CLOEXEC)), other = file_of(mib);
  // Of a SIGBUS, where it copies what is not there; a shortage needs a cgroup (medium_test).
  auto allocation = Allocation::start(allocator.line(), {}, file.get(), mib, empty.get());
  ASSERT_TRUE(allocation);
  Status finished = allocation->finish("region big");
  ASSERT_FALSE(finished);
  EXPECT_EQ(finished.error().code, Code::no_space);
  EXPECT_THAT(finished.error().message, HasSubstr("region big needs 1048576 bytes; the kernel ran short"));
  EXPECT_TRUE(allocate(allocator, {}, other.get(), mib, "small"));
}

TEST_F(AllocatorTest, AFullLineIsAnErrorAndNeverAWait) {
  pid_t worker = waiting();
  ASSERT_EQ(::kill(worker, SIGSTOP), 0);
  Fd file = file_of(4096);
  std::vector<Allocation> started;
  Code code{};
  std::uint64_t begun = monotonic_ns();
  for (int i = 0; i < 100'000 && code == Code{}; ++i) {
    auto next = Allocation::start(allocator.line(), {}, file.get(), 4096);
    if (next)
      started.push_back(std::move(*next));
    else
      code = next.error().code;
  }
  EXPECT_EQ(code, Code::busy);
  EXPECT_GT(started.size(), 20u);
  EXPECT_LT(monotonic_ns() - begun, 10'000'000'000u);
  ASSERT_EQ(::kill(worker, SIGCONT), 0);
  for (Allocation& each : started) EXPECT_TRUE(each.finish("a segment"));
}

TEST_F(AllocatorTest, DiesWithItsStarterAndOfNoSignalButAKill) {
  int told[2];
  ASSERT_EQ(::pipe2(told, O_CLOEXEC), 0);
  pid_t starter = ::fork();
  if (starter == 0) {
    auto started = Allocator::start();
    auto file = create_file({}, "segment-1", mib);
    bool serves = started && file && allocate(*started, {}, file->get(), mib, "a segment");
    pid_t pid = serves ? started->pid() : -1;
    if (::write(told[1], &pid, sizeof pid) != sizeof pid) ::_exit(1);
    for (;;) ::pause();
  }
  pid_t pid = -1;
  ASSERT_EQ(::read(told[0], &pid, sizeof pid), static_cast<ssize_t>(sizeof pid));
  ::close(told[0]);
  ::close(told[1]);
  ASSERT_GT(pid, 0);
  Fd pidfd = watch(pid);
  ASSERT_EQ(::kill(pid, SIGTERM), 0);
  EXPECT_FALSE(readable(pidfd.get(), 50)) << "a signal to the whole group is for its starter";
  ASSERT_EQ(::kill(starter, SIGKILL), 0);
  EXPECT_TRUE(readable(pidfd.get()));
  ::waitpid(starter, nullptr, 0);
}

// A broker is non-dumpable, which takes /proc/self from it unless it is root.
TEST(AllocatorOfAUser, WorksForANonDumpableAskerAndIsClosedToItsUid) {
  EXPECT_EQ(as_a_user([] {
              auto allocator = Allocator::start();
              if (!allocator || ::prctl(PR_SET_DUMPABLE, 0) != 0) return 1;
              auto serves = [&] {
                auto file = create_file({}, "segment-1", mib);
                return file && allocate(*allocator, {}, file->get(), mib, "a segment") &&
                       taken(*file) == mib && reopen_read_only(file->get());
              };
              if (!serves()) return 2;
              auto is_closed = [&] {
                return ::ptrace(PTRACE_SEIZE, allocator->pid(), nullptr, nullptr) != 0 && errno == EPERM &&
                       ::open(fmt::format("/proc/{}/mem", allocator->pid()).c_str(), O_RDWR) < 0 &&
                       errno == EACCES;
              };
              if (!is_closed()) return 3;
              std::vector<Fd> workers;
              for (pid_t worker : children_of(allocator->pid())) workers.push_back(watch(worker));
              ::kill(allocator->pid(), SIGKILL);
              allocator->reap();
              // One that dies could take a request along.
              for (const Fd& worker : workers)
                if (worker && !readable(worker.get())) return 6;
              if (!allocator->restart([] {}) || !serves()) return 4;
              return is_closed() ? 0 : 5;
            }),
            0);
}

TEST(AllocatorOfAUser, IsRefusedToAProcessThatIsNotDumpableAnyMore) {
  EXPECT_EQ(as_a_user([] {
              if (::prctl(PR_SET_DUMPABLE, 0) != 0) return 1;
              auto refused = Allocator::start();
              return !refused && refused.error().code == Code::denied ? 0 : 2;
            }),
            0);
}

}  // namespace
}  // namespace bailey::medium
