#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>

#include "bailey/medium/access.h"
#include "bailey/medium/allocator.h"
#include "bailey/medium/cgroup_test_support.h"
#include "bailey/medium/file.h"
#include "bailey/medium/reserve.h"

namespace bailey::medium {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t mib = 1 << 20;

class Folder {
 public:
  Folder() {
    std::string pattern = std::filesystem::temp_directory_path() / "bailey-medium-XXXXXX";
    path = ::mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string path;
};

// 0, or the errno of what `call` did.
int errno_of(const std::function<long()>& call) {
  errno = 0;
  return call() == -1 ? errno : 0;
}
int map_errno(int fd, int protection) {
  void* base = ::mmap(nullptr, 4096, protection, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) return errno;
  ::munmap(base, 4096);
  return 0;
}

TEST(File, IsBornWithZerosAndForItsOwnerAlone) {
  auto file = create_file({}, "segment-1", mib);
  ASSERT_TRUE(file);
  struct stat about;
  ASSERT_EQ(::fstat(file->get(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0600u);
  EXPECT_EQ(about.st_size, static_cast<off_t>(mib));
  EXPECT_EQ(about.st_blocks, 0) << "nothing is taken before it is reserved";
  EXPECT_NE(::fcntl(file->get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(File, RefusesSizesAndNamesThatItCantHave) {
  EXPECT_EQ(create_file({}, "a", 4095).error().code, Code::invalid_argument);
  EXPECT_EQ(create_file({}, "a", 0).error().code, Code::invalid_argument);
  EXPECT_EQ(create_file({}, "a/b", 4096).error().code, Code::invalid_argument);
  EXPECT_EQ(create_file({}, "..", 4096).error().code, Code::invalid_argument);
  Place huge{Kind::hugepages, {}, {}};
  EXPECT_EQ(create_file(huge, "a", mib).error().code, Code::invalid_argument);
}

// Every way to write a segment once its writer has mapped it and the broker has sealed it, with the errno
// received.
TEST(Seals, NobodyCanOpenASegmentForWritingAgain) {
  Place place;
  auto file = create_file(place, "segment-1", mib);
  ASSERT_TRUE(file);
  auto writer = Mapping::of_file(file->get(), mib, Access::read_write);
  ASSERT_TRUE(writer);
  ASSERT_TRUE(seal(place, file->get(), Purpose::segment));
  int fd = file->get();

  EXPECT_EQ(map_errno(fd, PROT_READ | PROT_WRITE), EPERM) << "a new writable mapping";
  EXPECT_EQ(errno_of([&] { return ::pwrite(fd, "x", 1, 0); }), EPERM);
  EXPECT_EQ(errno_of([&] { return ::ftruncate(fd, 0); }), EPERM);
  EXPECT_EQ(errno_of([&] { return ::ftruncate(fd, 2 * mib); }), EPERM);
  EXPECT_EQ(errno_of([&] { return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096); }),
            EPERM);
  EXPECT_EQ(errno_of([&] { return ::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE); }), EPERM) << "sealed for good";

  auto reader = Mapping::of_file(fd, mib, Access::read_only);
  ASSERT_TRUE(reader);
  EXPECT_EQ(errno_of([&] { return ::mprotect(reader->data(), 4096, PROT_READ | PROT_WRITE); }), EACCES);

  // A reopen gives a descriptor that is open for writing, and is worth nothing.
  Fd again(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_RDWR | O_CLOEXEC));
  if (again) {
    EXPECT_EQ(map_errno(again.get(), PROT_READ | PROT_WRITE), EPERM);
    EXPECT_EQ(errno_of([&] { return ::pwrite(again.get(), "x", 1, 0); }), EPERM);
  }

  *reinterpret_cast<Word*>(writer->data()) = 7;  // the writer goes on
  EXPECT_EQ(load_acquire(reinterpret_cast<const Word*>(reader->data())), 7u);
}

TEST(Seals, ASharedIndexKeepsItsSizeAndTakesWriters) {
  Place place;
  auto file = create_file(place, "index", mib);
  ASSERT_TRUE(file && seal(place, file->get(), Purpose::shared_index));
  EXPECT_EQ(map_errno(file->get(), PROT_READ | PROT_WRITE), 0);
  EXPECT_EQ(errno_of([&] { return ::ftruncate(file->get(), 0); }), EPERM);
  EXPECT_EQ(errno_of([&] { return ::fcntl(file->get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE); }), EPERM)
      << "a writer must not lock the other writers out";
  EXPECT_EQ(verify_seals(file->get(), Purpose::segment).error().code, Code::corrupt);
}

TEST(Seals, AReadOnlyDescriptorOfASharedIndexStaysReadOnly) {
  Place place;
  auto file = create_file(place, "index", mib);
  ASSERT_TRUE(file && seal(place, file->get(), Purpose::shared_index));
  auto reader = reopen_read_only(file->get());
  ASSERT_TRUE(reader);
  EXPECT_EQ(map_errno(reader->get(), PROT_READ | PROT_WRITE), EACCES);
  EXPECT_EQ(errno_of([&] { return ::pwrite(reader->get(), "x", 1, 0); }), EBADF);
  if (::geteuid() != 0) GTEST_SKIP() << "whether another uid can open it anew is only for root to try";
  // Another uid that holds the read-only descriptor can't open it anew.
  pid_t child = ::fork();
  if (child == 0) {
    if (::setuid(65534) != 0) ::_exit(255);
    ::_exit(errno_of([&] { return ::open(fmt::format("/proc/self/fd/{}", reader->get()).c_str(), O_RDWR); }));
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), EACCES);
}

TEST(Seals, AHolderThatSealedTooMuchIsNoticed) {
  Place place;
  auto file = create_file(place, "index", mib);
  ASSERT_TRUE(file);
  ASSERT_EQ(::fcntl(file->get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL), 0);
  EXPECT_EQ(seal(place, file->get(), Purpose::shared_index).error().code, Code::corrupt);
  EXPECT_EQ(seal(place, file->get(), Purpose::segment).error().code, Code::corrupt);
}

TEST(FileMedium, TakesNoSealsAndIsForItsOwnerAlone) {
  Folder folder;
  Place place{Kind::file, folder.path, {}};
  auto file = create_file(place, "segment-1", mib);
  ASSERT_TRUE(file);
  EXPECT_EQ(create_file(place, "segment-1", mib).error().os, EEXIST);
  EXPECT_TRUE(seal(place, file->get(), Purpose::segment));
  auto reader = reopen_read_only(file->get());
  ASSERT_TRUE(reader);
  EXPECT_EQ(map_errno(reader->get(), PROT_READ | PROT_WRITE), EACCES);
  EXPECT_TRUE(open_file(place, "segment-1"));
  ASSERT_EQ(::fchmod(file->get(), 0644), 0);
  EXPECT_EQ(open_file(place, "segment-1").error().code, Code::corrupt);
  EXPECT_TRUE(remove_file(place, "segment-1"));
  EXPECT_TRUE(remove_file(place, "segment-1"));
  ASSERT_EQ(::symlink("/etc/passwd", (folder.path + "/link").c_str()), 0);
  EXPECT_EQ(open_file(place, "link").error().os, ELOOP);
}

TEST(Reserve, SaysHowManyBytesAreMissing) {
  auto room = room_at({});
  ASSERT_TRUE(room);
  auto refused = room_for({}, room->bytes + (std::uint64_t{1} << 40), 0, "region orders");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::no_space);
  EXPECT_THAT(refused.error().message, HasSubstr("region orders needs"));
  EXPECT_THAT(refused.error().message, HasSubstr("are missing"));
  EXPECT_TRUE(room_for({}, 4096, 0, "region orders"));
  EXPECT_EQ(room_for({}, 4096, UINT64_MAX, "region orders").error().code, Code::no_space)
      << "what others were promised is not there any more";
}

TEST(Reserve, HugePagesAreRefusedWhereNoneAreFree) {
  Place huge{Kind::hugepages, {}, {}};
  auto room = room_at(huge);
  if (!room) GTEST_SKIP() << room.error().message;
  auto refused = room_for(huge, room->bytes + huge_page_bytes, 0, "a segment");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("2097152 are missing"));
  auto file = create_file(huge, "segment-1", room->bytes + huge_page_bytes);
  if (!file) GTEST_SKIP() << file.error().to_string();
  auto allocator = Allocator::start();
  ASSERT_TRUE(allocator);
  auto allocation = Allocation::start(allocator->line(), huge, file->get(), room->bytes + huge_page_bytes);
  ASSERT_TRUE(allocation);
  EXPECT_EQ(allocation->finish("a segment").error().code, Code::no_space);
}

TEST(Reserve, AFileSystemThatIsFullIsAnError) {
  Folder folder;
  Place place{Kind::file, folder.path, {}};
  auto room = room_at(place);
  ASSERT_TRUE(room);
  EXPECT_THAT(room_for(place, room->bytes + (std::uint64_t{1} << 50), 0, "a segment").error().message,
              HasSubstr("are missing"));
}

// A tree of files as the kernel would show it: limits of parents count, dropped file pages don't.
class FakeMachine : public ::testing::Test {
 protected:
  void put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(folder.path + path).parent_path());
    std::ofstream(folder.path + path) << text;
  }
  Room room() {
    auto found = room_at({}, folder.path);
    EXPECT_TRUE(found);
    return found.value_or(Room{});
  }
  void SetUp() override { put("/proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable:    524288 kB\n"); }
  Folder folder;
};

TEST_F(FakeMachine, WithoutCgroupsHasWhatIsAvailable) {
  EXPECT_EQ(room().bytes, 512 * mib - headroom_bytes);
  EXPECT_EQ(room().limit, "MemAvailable");
}

TEST_F(FakeMachine, AParentOfVersion2Limits) {
  put("/proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  put("/proc/self/cgroup", "0::/outer/inner\n");
  put("/sys/fs/cgroup/outer/memory.max", "134217728\n");
  put("/sys/fs/cgroup/outer/memory.current", "67108864\n");
  put("/sys/fs/cgroup/outer/memory.stat", "anon 4096\ninactive_file 33554432\n");
  put("/sys/fs/cgroup/outer/inner/memory.max", "max\n");
  put("/sys/fs/cgroup/outer/inner/memory.current", "67108864\n");
  EXPECT_EQ(room().bytes, 96 * mib - headroom_bytes);
  EXPECT_EQ(room().limit, "memory limit of the cgroup /outer");
}

TEST_F(FakeMachine, AContainersMountShowsOnlyItsPart) {
  put("/proc/self/mountinfo", "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  put("/proc/self/cgroup", "7:cpu:/\n4:hugetlb,memory:/docker/abc\n0::/\n");
  put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864\n");
  put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "16777216\n");
  EXPECT_EQ(room().bytes, 48 * mib - headroom_bytes);
}

TEST_F(FakeMachine, NoLimitIsNoLimit) {
  put("/proc/self/mountinfo", "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  put("/proc/self/cgroup", "4:memory:/\n");
  put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "16777216\n");
  EXPECT_EQ(room().limit, "MemAvailable");
}

TEST_F(FakeMachine, ANodeThatIsNotThereIsRefused) {
  EXPECT_EQ(room_at({Kind::memory, {}, 7}, folder.path).error().code, Code::unsupported);
}

// 128 MiB in a cgroup of 64 MiB: refused up front; and where the look is left out, a worker is killed, and
// neither the asker nor the allocator.
void take_too_much(const LimitedCgroup& cgroup, uid_t uid) {
  int pipe_fds[2];
  ASSERT_EQ(::pipe(pipe_fds), 0);
  pid_t child = ::fork();
  if (child == 0) {
    if (!cgroup.enter()) ::_exit(2);
    // Dumpable, as a program is that such a user starts; then not, as a broker is.
    if (::setuid(uid) != 0 || ::prctl(PR_SET_DUMPABLE, 1) != 0) ::_exit(8);
    auto allocator = Allocator::start();
    if (!allocator || ::prctl(PR_SET_DUMPABLE, 0) != 0) ::_exit(9);
    auto say = [&](const std::string& text) {
      return ::write(pipe_fds[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
    };
    auto up_front = room_for({}, 128 * mib, 0, "region big");
    if (up_front) ::_exit(3);
    auto file = create_file({}, "segment-1", 128 * mib);
    if (!file) ::_exit(4);
    auto allocation = Allocation::start(allocator->line(), {}, file->get(), 128 * mib);
    if (!allocation) ::_exit(5);
    auto refused = allocation->finish("region big");
    if (refused) ::_exit(6);
    file->reset();
    auto small = create_file({}, "segment-2", 16 * mib);
    if (!small || !allocate(*allocator, {}, small->get(), 16 * mib, "region small")) ::_exit(7);
    pollfd dead{allocator->pidfd(), POLLIN, 0};
    if (::poll(&dead, 1, 0) != 0) ::_exit(10);
    ::_exit(say(up_front.error().to_string() + "\n" + refused.error().to_string()) ? 0 : 11);
  }
  ::close(pipe_fds[1]);
  std::string said(4096, 0);
  ssize_t got = ::read(pipe_fds[0], said.data(), said.size());
  ::close(pipe_fds[0]);
  said.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << "the asker was killed by signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_THAT(said, HasSubstr("region big needs 134217728 bytes; memory limit of the cgroup "));
  EXPECT_THAT(said, HasSubstr("the kernel ran short of memory and ended the process"));
}

TEST(Cgroup, AShortageIsAnErrorAndTheAskerSurvives) {
  LimitedCgroup cgroup(64 * mib);
  if (!cgroup.why_not().empty()) GTEST_SKIP() << cgroup.why_not();
  for (uid_t uid : {0u, 65534u}) {
    SCOPED_TRACE(uid);
    take_too_much(cgroup, uid);
  }
}

TEST(Access, CopiesWordsAndPads) {
  alignas(8) std::byte words[32]{};
  for (std::size_t bytes = 0; bytes <= 17; ++bytes) {
    std::string text = std::string("abcdefghijklmnopq").substr(0, bytes);
    std::memset(words, 0xff, sizeof words);
    copy_in(words, text.data(), text.size());
    std::string out(bytes, 0);
    copy_out(out.data(), words, bytes);
    EXPECT_EQ(out, text);
    EXPECT_TRUE(equal(words, text));
    for (std::size_t i = bytes; i < padded(bytes); ++i) EXPECT_EQ(words[i], std::byte{0});
    EXPECT_FALSE(bytes > 0 && equal(words, std::string(bytes, 'z')));
  }
}

}  // namespace
}  // namespace bailey::medium
