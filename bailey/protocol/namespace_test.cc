// What the handshake binds between namespaces: the table in handshake.h.
//
// A session or a broker runs as `unshare --user --pid --map-root-user --fork` starts it, once with the outer
// /proc and once with a /proc of its own (`--mount-proc`). Where the machine lets nobody make namespaces
// these tests are skipped and say so.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>

#include <fstream>

#include "bailey/protocol/handshake_support.h"

namespace bailey::protocol {
namespace {

enum class Proc { outer, own };
constexpr int no_namespace = 77;
constexpr int no_proc = 78;

bool write_file(const char* path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  return static_cast<bool>(file.flush());
}

// Runs `work` as root of a new user namespace and process 1 of a new pid namespace.
int in_namespaces(Proc proc, const std::function<int()>& work) {
  std::string uid = std::to_string(geteuid()), gid = std::to_string(getegid());
  if (unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS) != 0) return no_namespace;
  if (!write_file("/proc/self/setgroups", "deny") || !write_file("/proc/self/uid_map", "0 " + uid + " 1") ||
      !write_file("/proc/self/gid_map", "0 " + gid + " 1"))
    return no_namespace;
  int code = ended_with(in_child([&] {
    if (proc == Proc::own && (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
                              mount("proc", "/proc", "proc", 0, nullptr) != 0))
      return no_proc;
    return work();
  }));
  return code;
}

class Namespaces : public FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    int code = ended_with(in_child([] { return in_namespaces(Proc::own, [] { return 0; }); }));
    if (code == no_namespace) GTEST_SKIP() << "this machine lets nobody make user and pid namespaces";
    if (code == no_proc) GTEST_SKIP() << "this machine lets nobody mount /proc in a pid namespace";
    ASSERT_EQ(code, 0);
  }
  std::string path() const { return folder_ + "/broker.sock"; }
  std::string outcome_path() const { return folder_ + "/outcome"; }

  int serve_one(const std::function<void()>& ready) const {
    auto listener = Listener::bind(path());
    if (!listener) return 2;
    ready();
    auto connection = accept_one(*listener);
    if (!connection) return 3;
    return admit(*connection, listener->place()) ? 0 : 1;
  }
  int enter_and_tell(const std::string& at) const {
    crypto::SecretKey key = session_key();
    SessionHandshake::Options options;
    options.key = &key;
    options.broker_key = broker_key().public_key();
    auto bound = enter(at, options);
    std::ofstream(outcome_path()) << (bound ? *bound : bound.error().to_string());
    return bound ? 0 : 1;
  }
  // What the last session was told.
  std::string outcome() const {
    std::ifstream in(outcome_path());
    return {std::istreambuf_iterator<char>(in), {}};
  }
};

TEST_F(Namespaces, AnOwnPlaceIsTheSameWhicheverProcShowsIt) {
  for (Proc proc : {Proc::outer, Proc::own}) {
    int code = ended_with(in_child([&] {
      return in_namespaces(proc, [] {
        auto place = own_place();
        if (!place) return 1;
        if (place->pid != 1 || place->uid != 0 || place->gid != 0) return 2;
        // Started after this test's own process, whatever pid 1 of an outer /proc says.
        return place->start_ticks > 0 ? 0 : 3;
      });
    }));
    EXPECT_EQ(code, 0);
  }
}

TEST_F(Namespaces, ASessionInAContainerIsBoundAsItCountsItself) {
  const std::pair<Proc, const char*> cases[] = {{Proc::own, "session's pid, session's ids"},
                                                {Proc::outer, "session's pid, session's ids, broker's pid"}};
  for (auto [proc, bound] : cases) {
    pid_t broker = ready_child([&](const auto& ready) { return serve_one(ready); });
    int code =
        ended_with(in_child([&] { return in_namespaces(proc, [&] { return enter_and_tell(path()); }); }));
    EXPECT_EQ(code, 0) << outcome();
    EXPECT_EQ(outcome(), bound);
    EXPECT_EQ(ended_with(broker), 0);
  }
}

TEST_F(Namespaces, ABrokerInAContainerIsBoundAsItCountsItself) {
  const std::pair<Proc, const char*> cases[] = {{Proc::own, "broker's pid, broker's ids"},
                                                {Proc::outer, "session's pid, broker's pid, broker's ids"}};
  for (auto [proc, bound] : cases) {
    pid_t broker =
        ready_child([&](const auto& ready) { return in_namespaces(proc, [&] { return serve_one(ready); }); });
    EXPECT_EQ(ended_with(in_child([&] { return enter_and_tell(path()); })), 0) << outcome();
    EXPECT_EQ(outcome(), bound);
    EXPECT_EQ(ended_with(broker), 0);
  }
}

TEST_F(Namespaces, ContainersSideBySideAreBoundByNothingAndSayIt) {
  pid_t broker = ready_child(
      [&](const auto& ready) { return in_namespaces(Proc::own, [&] { return serve_one(ready); }); });
  EXPECT_EQ(
      ended_with(in_child([&] { return in_namespaces(Proc::own, [&] { return enter_and_tell(path()); }); })),
      0)
      << outcome();
  EXPECT_EQ(outcome(), "nothing");
  EXPECT_EQ(ended_with(broker), 0);
}

// Squatters in containers: all have the uid of the session, and are process 1 as it is.

TEST_F(Namespaces, ASquatterOutsideOfTheSessionsContainerIsRefused) {
  pid_t broker = ready_child([&](const auto& ready) { return serve_one(ready); });
  std::string front = folder_ + "/front/s";
  pid_t squatter =
      ready_child([&](const auto& ready) { return squat(front, path(), Squatter::passes_on, ready); });
  EXPECT_EQ(
      ended_with(in_child([&] { return in_namespaces(Proc::own, [&] { return enter_and_tell(front); }); })),
      1);
  EXPECT_NE(outcome().find("the session is not whom the other end"), std::string::npos) << outcome();
  EXPECT_EQ(ended_with(broker), 1);
  EXPECT_EQ(ended_with(squatter), 0);
}

TEST_F(Namespaces, ASquatterInTheSessionsContainerIsRefused) {
  pid_t broker = ready_child([&](const auto& ready) { return serve_one(ready); });
  std::string front = folder_ + "/front/s";
  EXPECT_EQ(ended_with(in_child([&] {
              return in_namespaces(Proc::own, [&] {
                pid_t squatter = ready_child(
                    [&](const auto& ready) { return squat(front, path(), Squatter::passes_on, ready); });
                int code = enter_and_tell(front);
                return ended_with(squatter) == 0 ? code : 5;
              });
            })),
            1);
  EXPECT_NE(outcome().find("is not whom the other end"), std::string::npos) << outcome();
  EXPECT_EQ(ended_with(broker), 1);
}

TEST_F(Namespaces, ASquatterInAContainerJustLikeTheSessionsIsRefused) {
  pid_t broker = ready_child([&](const auto& ready) { return serve_one(ready); });
  std::string front = folder_ + "/front/s";
  pid_t squatter = ready_child([&](const auto& ready) {
    return in_namespaces(Proc::own, [&] { return squat(front, path(), Squatter::passes_on, ready); });
  });
  EXPECT_EQ(
      ended_with(in_child([&] { return in_namespaces(Proc::own, [&] { return enter_and_tell(front); }); })),
      1);
  // Both are process 1 and root in their namespaces; the namespaces differ.
  EXPECT_NE(outcome().find("it says pid namespace"), std::string::npos) << outcome();
  EXPECT_EQ(ended_with(broker), 1);
  EXPECT_EQ(ended_with(squatter), 0);
}

}  // namespace
}  // namespace bailey::protocol
