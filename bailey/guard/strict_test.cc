#include "bailey/guard/strict.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "bailey/base/fd.h"
#include "bailey/guard/strict_attempts.h"
#include "bailey/guard/strict_layout.h"
#include "bailey/guard/strict_run.h"

namespace bailey::guard {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using Words = std::vector<std::string>;

constexpr uid_t ordinary_user = 65534;

template <std::size_t n>
Words names(const StrictAttempt (&attempts)[n]) {
  Words words;
  for (const StrictAttempt& one : attempts) words.emplace_back(one.name);
  return words;
}

// Programs that another uid can begin too: the build may lie where it may not come.
class Strict : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/bailey-strict-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    folder_ = pattern;
    ASSERT_EQ(::chmod(pattern, 0755), 0);
    for (const char* name : {BAILEY_HOSTILE, BAILEY_ORDINARY})
      std::filesystem::copy(name, folder_ / std::filesystem::path(name).filename());
    hostile = folder_ / std::filesystem::path(BAILEY_HOSTILE).filename();
    ordinary = folder_ / std::filesystem::path(BAILEY_ORDINARY).filename();
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Ended attempt(const Words& attempts, const How& how = {}) {
    Words words{hostile};
    words.insert(words.end(), attempts.begin(), attempts.end());
    return run(words, how);
  }
  template <std::size_t n>
  void expect_refused(const StrictAttempt (&attempts)[n], const How& how = {}) {
    const Ended ended = attempt(names(attempts), how);
    ASSERT_EQ(ended.exit(), 0) << ended.err << ended.signal();
    auto seen = results(ended.out);
    for (const StrictAttempt& one : attempts) EXPECT_EQ(seen[one.name], refusal_of(one)) << one.name;
  }

  std::filesystem::path folder_;
  std::string hostile, ordinary;
};

TEST_F(Strict, WhatLiesInTheWindowStaysAsItIs) { expect_refused(on_the_window); }
TEST_F(Strict, OtherDoorsAreShut) { expect_refused(other_doors); }
TEST_F(Strict, NoNewCodeAndNoOtherProgram) { expect_refused(new_code); }
TEST_F(Strict, CodeStaysWhereItWasLookedAt) {
  expect_refused(moved_code);
  const std::string exact = "moves-are-refused-for-code-alone";
  EXPECT_EQ(results(attempt({exact}).out)[exact], "done");
}

TEST_F(Strict, AnOrdinaryUserIsHeldLikeRoot) {
  if (::geteuid() != 0) GTEST_SKIP() << "runs as an ordinary user already";
  expect_refused(on_the_window, {.user = ordinary_user});
  expect_refused(other_doors, {.user = ordinary_user});
  expect_refused(new_code, {.user = ordinary_user});
  expect_refused(moved_code, {.user = ordinary_user});
}

// The attempts are real: most get through, the others meet another refusal.
TEST_F(Strict, TheSameAttemptsGetThroughWhereNothingStopsThem) {
  std::map<std::string, std::string> expected{{"own-memory-by-path", "done"}};
  auto add = [&](const auto& attempts) {
    for (const StrictAttempt& one : attempts)
      if (one.unprotected != nullptr) expected[one.name] = one.unprotected;
  };
  add(on_the_window);
  add(other_doors);
  add(new_code);
  add(moved_code);
  for (const auto& [one, result] : expected) {
    auto seen = results(attempt({one}, {.strict = false}).out);
    // Where a container's own filter or Yama is before us this says nothing.
    const bool others_refuse = one == "ptrace" || one.starts_with("process_vm");
    EXPECT_THAT(seen[one], AnyOf(result, others_refuse ? "EPERM" : result)) << one;
  }
}

TEST_F(Strict, CallsOf32BitAndX32Kill) {
  for (const char* one : {"32-bit", "x32"}) {
    const Ended ended = attempt({one});
    EXPECT_EQ(ended.signal(), SIGSYS) << one << ended.out;
    EXPECT_FALSE(WCOREDUMP(ended.status));
  }
}

TEST_F(Strict, LeavesTheLibraryItsWays) {
  auto seen =
      results(attempt({"library-map", "library-map-where-something-is", "library-key", "library-tag",
                       "library-dontfork", "library-dontdump", "library-wipeonfork", "ordinary-mapping",
                       "grow-memory", "grow-allocation", "dumpable-off", "library-bury"})
                  .out);
  EXPECT_EQ(seen["library-map-where-something-is"], "EEXIST");
  for (const char* one :
       {"library-map", "library-dontfork", "library-dontdump", "library-wipeonfork", "ordinary-mapping",
        "grow-memory", "grow-allocation", "dumpable-off", "library-bury"})
    EXPECT_EQ(seen[one], "done") << one;
  // Not the filter's refusal, whether this CPU has keys or not.
  for (const char* one : {"library-key", "library-tag"})
    EXPECT_THAT(seen[one], AnyOf("done", "EINVAL", "ENOSPC", "ENOSYS")) << one;
}

TEST_F(Strict, WhatIsBuriedStaysDead) {
  const Ended ended = attempt({"library-bury", "mprotect", "mmap-over", "munmap", "touch-what-is-buried"});
  EXPECT_EQ(ended.signal(), SIGSEGV);
  auto seen = results(ended.out);
  EXPECT_EQ(seen["library-bury"], "done");
  for (const char* one : {"mprotect", "mmap-over", "munmap"}) EXPECT_EQ(seen[one], "EPERM") << one;
}

TEST_F(Strict, AnOrdinaryUserDoesNotOpenItsOwnMemory) {
  const uid_t user = ::geteuid() == 0 ? ordinary_user : ::geteuid();
  EXPECT_EQ(results(attempt({"own-memory-by-path"}, {.user = user}).out)["own-memory-by-path"], "EACCES");
  EXPECT_EQ(
      results(attempt({"own-memory-by-path"}, {.strict = false, .user = user}).out)["own-memory-by-path"],
      "done");
}

TEST_F(Strict, AllCodeIsACopyThatNoFileStandsBehind) {
  const Ended ended = run({"/bin/cat", "/proc/self/maps"});
  ASSERT_EQ(ended.exit(), 0) << ended.err;
  std::istringstream lines(ended.out);
  int copies = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string range, rights, offset, device, inode, name;
    fields >> range >> rights >> offset >> device >> inode >> name;
    if (rights.find('x') == std::string::npos || name == "[vdso]" || name == "[vsyscall]") continue;
    EXPECT_EQ(rights, "r-xp") << line;
    EXPECT_EQ(inode, "0") << line;
    ++copies;
  }
  EXPECT_GE(copies, 4);  // the program, libc, ld.so, the agent
}

TEST_F(Strict, OrdinaryProgramsWork) {
  EXPECT_EQ(run({"ls", "/"}).exit(), 0);
  EXPECT_EQ(run({"sh", "-c", "exit 7"}).exit(), 7);
  EXPECT_EQ(run({ordinary, "threads"}).exit(), 0);
  // Children that it knows are all that it has, and no descriptor but the grave's is left over.
  const Words forks{"/usr/bin/python3", "-c",
                    "import os\n"
                    "try: os.wait()\n"
                    "except ChildProcessError: print('none')\n"
                    "pid = os.fork()\n"
                    "if pid == 0: os._exit(3)\n"
                    "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
                    "for fd in range(3, 1100):\n"
                    "    try: os.fstat(fd); print(fd)\n"
                    "    except OSError: pass\n"};
  const Ended plain = run(forks, {.strict = false}), strict = run(forks);
  EXPECT_THAT(plain.out, testing::StartsWith("none\n3\n")) << plain.err;
  EXPECT_EQ(strict.out, plain.out + fmt::format("{}\n", grave_fd)) << strict.err;
}

TEST_F(Strict, StrayBytesInACallAreMended) {
  EXPECT_EQ(run({ordinary, "mended"}, {.strict = false}).exit(), 42);
  const Ended ended = run({ordinary, "mended"});
  EXPECT_EQ(ended.exit(), 42) << ended.err << ended.signal();
}

TEST_F(Strict, AProgramThatSwitchesKeysItselfIsRefused) {
  // Into padding, which never runs.
  const std::string spoiled = folder_ / "spoiled";
  std::ifstream from(ordinary, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(from)), {});
  const std::size_t nops = bytes.find(std::string(4096, '\x90'));
  ASSERT_NE(nops, std::string::npos);
  for (const auto& [what, code] :
       {std::pair{"WRPKRU", "\x0f\x01\xef"}, std::pair{"XRSTOR", "\x0f\xae\x2f"}}) {
    std::string changed = bytes;
    // Over the border of two pages.
    changed.replace((nops + 8192) / 4096 * 4096 - 1, 3, code, 3);
    std::ofstream(spoiled, std::ios::binary) << changed;
    ASSERT_EQ(::chmod(spoiled.c_str(), 0755), 0);
    EXPECT_EQ(run({spoiled, "threads"}, {.strict = false}).exit(), 0);
    const Ended ended = run({spoiled, "threads"});
    EXPECT_EQ(ended.exit(), exit_not_begun);
    EXPECT_THAT(ended.err, HasSubstr("spoiled has the bytes of " + std::string(what)));
  }
}

TEST_F(Strict, ALibraryThatIsLoadedLateIsRefusedWithTheReason) {
  const Ended ended = run({ordinary, "late"});
  EXPECT_EQ(ended.exit(), 0) << ended.out;
  EXPECT_THAT(ended.err, HasSubstr("libm.so.6 is asked for after the start"));
  EXPECT_THAT(ended.err, HasSubstr("--preload FILE"));
  // Named at the start it is there.
  const Ended named = run({ordinary, "late"}, {.before = [] { ::setenv("LD_PRELOAD", "libm.so.6", 1); }});
  EXPECT_EQ(named.exit(), 1);
  EXPECT_EQ(named.out, "loaded\n");
}

std::string file_of(const char* library, const char* function) {
  void* const loaded = ::dlopen(library, RTLD_NOW | RTLD_LOCAL);
  Dl_info about{};
  if (loaded == nullptr || ::dladdr(::dlsym(loaded, function), &about) == 0) return {};
  return std::filesystem::canonical(about.dli_fname);
}

TEST_F(Strict, WhatIsPreloadedIsThere) {
  const std::string math = file_of("libm.so.6", "jnl"), standard = file_of("libc.so.6", "puts");
  const std::filesystem::path own = folder_ / "own";
  std::filesystem::create_directory(own);
  std::filesystem::copy_file(math, own / "libm.so.6");
  for (const How& how :
       {How{.preload = {math}}, How{.preload = {standard, math}},
        // A name that ld.so would look for elsewhere.
        How{.before = [&] { std::filesystem::current_path(own); }, .preload = {"libm.so.6"}},
        // What is named already stays.
        How{.before = [&] { ::setenv("LD_PRELOAD", math.c_str(), 1); }, .preload = {standard}}}) {
    const Ended named = run({ordinary, "late"}, how);
    EXPECT_EQ(named.out, "loaded\n") << named.err;
    EXPECT_THAT(named.err, testing::Not(HasSubstr("ERROR: ld.so")));
  }
}

// As jemalloc's, of which redis-server has its own.
TEST_F(Strict, LibrariesWithStorageOfThreadsAtAFixedPlaceFit) {
  const auto with = [&](const char* tunables) {
    return run({"/bin/sh", "-c", "echo $GLIBC_TUNABLES"}, {.before =
                                                               [=] {
                                                                 if (tunables != nullptr)
                                                                   ::setenv("GLIBC_TUNABLES", tunables, 1);
                                                               },
                                                           .preload = {BAILEY_STORAGE}});
  };
  for (const char* before : {"", "glibc.malloc.check=0"}) {
    const Ended ended = with(before);
    EXPECT_EQ(ended.exit(), 0) << ended.err;
    EXPECT_THAT(ended.out, testing::StartsWith(before));
  }
  // What somebody has chosen is left to them, and it does not fit into what ld.so has by itself.
  const Ended chosen = with("glibc.rtld.optional_static_tls=512");
  EXPECT_EQ(chosen.exit(), 127);
  EXPECT_THAT(chosen.err, HasSubstr("static TLS"));
  // Threads with the least of stacks begin all the same.
  EXPECT_EQ(run({ordinary, "threads"}, {.preload = {BAILEY_STORAGE}}).exit(), 0);
}

TEST_F(Strict, AFileThatCanNotBePreloadedIsRefusedBeforeTheStart) {
  const std::string text = folder_ / "text", colon = folder_ / "a:b";
  std::ofstream(text) << "no library";
  std::filesystem::copy_file(ordinary, colon);
  for (const auto& [file, why] : {std::pair<std::string, std::string>{folder_ / "none", "No such file"},
                                  {text, "it is no 64-bit x86 program"},
                                  {colon, "':' and ' '"}}) {
    const Ended ended = run({"/bin/echo", "begun"}, {.preload = {file}});
    EXPECT_EQ(ended.exit(), exit_not_begun) << file;
    EXPECT_EQ(ended.out, "") << file;
    EXPECT_THAT(ended.err, HasSubstr(file));
    EXPECT_THAT(ended.err, HasSubstr(why));
  }
}

TEST_F(Strict, RefusesWithTheReasonWhatItCanNotHold) {
  const auto refusal = [](const Words& words, const How& how = {}) {
    const Ended ended = run(words, how);
    EXPECT_EQ(ended.exit(), exit_not_begun);
    return ended.err;
  };
  EXPECT_THAT(refusal({"no-such-program"}), HasSubstr("PATH"));
  EXPECT_THAT(refusal({"/sbin/ldconfig"}), HasSubstr("statically linked"));
  EXPECT_THAT(refusal({"/tmp"}), HasSubstr("/tmp"));
  const std::string script = folder_ / "script";
  std::ofstream(script) << "#!/bin/sh\nexit 0\n";
  ASSERT_EQ(::chmod(script.c_str(), 0755), 0);
  EXPECT_THAT(refusal({script}), HasSubstr("name its interpreter"));
  EXPECT_THAT(refusal({"/bin/true"}, {.before = [] { ::setenv("LD_AUDIT", "x.so", 1); }}),
              HasSubstr("LD_AUDIT"));
  EXPECT_THAT(refusal({"/bin/true"}, {.before = [] { ::dup2(0, grave_fd); }}), HasSubstr("1023"));
}

}  // namespace
}  // namespace bailey::guard
