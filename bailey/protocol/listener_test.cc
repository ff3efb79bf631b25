#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "bailey/protocol/socket.h"
#include "bailey/protocol/test_support.h"

namespace bailey::protocol {
namespace {

class ListenerTest : public FolderTest {
 protected:
  std::string path() const { return folder_ + "/broker.sock"; }
  bool exists(const std::string& file) const {
    return std::filesystem::exists(std::filesystem::symlink_status(file));
  }
  mode_t mode(const std::string& file) const {
    struct stat about{};
    stat(file.c_str(), &about);
    return about.st_mode & 07777;
  }
  // A child that listens; returns once it does.
  pid_t listening_child(int* stop) {
    int ready[2], hold[2];
    EXPECT_EQ(pipe2(ready, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(hold, O_CLOEXEC), 0);
    pid_t child = in_child([&] {
      ::close(hold[1]);
      auto listener = Listener::bind(path());
      char byte = listener ? 'y' : 'n';
      if (write(ready[1], &byte, 1) != 1) return 1;
      return read(hold[0], &byte, 1) == 0 ? 0 : 2;
    });
    char byte = 0;
    EXPECT_EQ(read(ready[0], &byte, 1), 1);
    EXPECT_EQ(byte, 'y');
    for (int fd : {ready[0], ready[1], hold[0]}) ::close(fd);
    *stop = hold[1];
    return child;
  }
};

TEST_F(ListenerTest, AcceptsWhoConnectsAndLeavesNothing) {
  {
    auto listener = Listener::bind(path());
    ASSERT_TRUE(listener) << listener.error().to_string();
    auto none = listener->try_accept();
    ASSERT_TRUE(none);
    EXPECT_FALSE(*none);
    auto client = connect(path());
    ASSERT_TRUE(client) << client.error().to_string();
    auto accepted = listener->try_accept();
    ASSERT_TRUE(accepted && *accepted);
    for (int fd : {client->fd(), (*accepted)->fd(), listener->fd()}) {
      EXPECT_NE(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
      EXPECT_NE(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    }
    ASSERT_TRUE(client->send(as_bytes("hello"), soon()));
    EXPECT_EQ((*accepted)->receive(soon())->payload, "hello");
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(ListenerTest, MakesItsFolderWithTheModesAskedForWhateverTheUmask) {
  std::string inside = folder_ + "/run/s";
  mode_t before = umask(077);
  {
    auto listener = Listener::bind(inside, {.socket_mode = 0666, .folder_mode = 0755});
    umask(before);
    ASSERT_TRUE(listener) << listener.error().to_string();
    EXPECT_EQ(mode(folder_ + "/run"), 0755u);
    EXPECT_EQ(mode(inside), 0666u);
  }
  EXPECT_FALSE(exists(folder_ + "/run")) << "what it made it removes";
  auto tight = Listener::bind(inside, {.socket_mode = 0600, .folder_mode = 0700});
  ASSERT_TRUE(tight);
  EXPECT_EQ(mode(folder_ + "/run"), 0700u);
  EXPECT_EQ(mode(inside), 0600u);
}

TEST_F(ListenerTest, APathTooLongIsRefusedWithBothNumbers) {
  std::string longest = folder_ + "/" + std::string(107 - folder_.size() - 1, 's');
  EXPECT_TRUE(Listener::bind(longest));
  for (const auto& error : {Listener::bind(longest + "s").error(), connect(longest + "s").error()}) {
    EXPECT_EQ(error.code, Code::too_large);
    EXPECT_NE(error.message.find("108 bytes"), std::string::npos) << error.message;
    EXPECT_NE(error.message.find("at most 107"), std::string::npos) << error.message;
  }
  EXPECT_EQ(Listener::bind("").error().code, Code::invalid_argument);
  EXPECT_EQ(Listener::bind(folder_ + std::string("/a\0b", 4)).error().code, Code::invalid_argument);
}

TEST_F(ListenerTest, ALiveBrokerIsBusyAndNamed) {
  int stop = -1;
  pid_t child = listening_child(&stop);
  auto second = Listener::bind(path());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::busy);
  EXPECT_NE(second.error().message.find(std::to_string(child)), std::string::npos) << second.error().message;
  EXPECT_TRUE(connect(path())) << "the refused one did the first no harm";
  // Somebody has "cleaned up" its lock.
  unlink((path() + ".lock").c_str());
  second = Listener::bind(path());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::busy);
  EXPECT_TRUE(connect(path()));
  ::close(stop);
  EXPECT_EQ(ended_with(child), 0);
}

TEST_F(ListenerTest, AHolderOfTheLockThatDoesNotListenIsNamedByTheLockFile) {
  int stop = -1;
  pid_t child = listening_child(&stop);
  unlink(path().c_str());
  auto second = Listener::bind(path());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::busy);
  EXPECT_NE(second.error().message.find(std::to_string(child)), std::string::npos) << second.error().message;
  ::close(stop);
  EXPECT_EQ(ended_with(child), 0);
}

TEST_F(ListenerTest, WhatAKilledBrokerLeftIsReplaced) {
  int stop = -1;
  pid_t child = listening_child(&stop);
  kill(child, SIGKILL);
  EXPECT_EQ(ended_with(child), -1);
  ::close(stop);
  ASSERT_TRUE(exists(path()));
  ASSERT_TRUE(exists(path() + ".lock"));
  EXPECT_EQ(connect(path()).error().code, Code::unavailable);
  auto listener = Listener::bind(path());
  ASSERT_TRUE(listener) << listener.error().to_string();
  EXPECT_TRUE(connect(path()));
}

TEST_F(ListenerTest, AForkedCopyRemovesNothing) {
  std::optional<Listener> listener(std::move(*Listener::bind(path())));
  pid_t short_lived = in_child([&] {
    listener.reset();
    return 0;
  });
  EXPECT_EQ(ended_with(short_lived), 0);
  EXPECT_TRUE(connect(path())) << "a child that ended took the socket along";
  EXPECT_EQ(Listener::bind(path()).error().code, Code::busy);
}

TEST_F(ListenerTest, TheForkedCopyOfAKilledBrokerStillHoldsThePath) {
  int hold[2], ready[2];
  ASSERT_EQ(pipe2(hold, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  pid_t parent = in_child([&]() -> int {
    ::close(hold[1]);
    auto listener = Listener::bind(path());
    in_child([&] {
      char byte = 'y';
      if (write(ready[1], &byte, 1) != 1) return 1;
      return read(hold[0], &byte, 1) == 0 ? 0 : 2;
    });
    for (;;) pause();
  });
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  kill(parent, SIGKILL);
  EXPECT_EQ(ended_with(parent), -1);
  EXPECT_EQ(Listener::bind(path()).error().code, Code::busy);
  for (int fd : {hold[0], hold[1], ready[0], ready[1]}) ::close(fd);
}

TEST_F(ListenerTest, OfManyThatStartAtOnceOneServes) {
  int stale = -1;
  pid_t dead = listening_child(&stale);
  kill(dead, SIGKILL);
  ended_with(dead);
  ::close(stale);
  int start[2], hold[2], said[2];
  ASSERT_EQ(pipe2(start, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(hold, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(said, O_CLOEXEC), 0);
  std::vector<pid_t> children;
  for (int n = 0; n < 16; ++n)
    children.push_back(in_child([&] {
      ::close(start[1]);
      ::close(hold[1]);
      char byte;
      if (read(start[0], &byte, 1) != 0) return 1;
      auto listener = Listener::bind(path());
      byte = listener ? 'y' : listener.error().code == Code::busy ? 'n' : '?';
      if (write(said[1], &byte, 1) != 1) return 2;
      // Whoever serves does so until all have tried.
      return read(hold[0], &byte, 1) == 0 ? 0 : 3;
    }));
  ::close(start[1]);
  std::string answers(16, '-');
  for (char& answer : answers) ASSERT_EQ(read(said[0], &answer, 1), 1);
  std::ranges::sort(answers);
  EXPECT_EQ(answers, std::string(15, 'n') + "y");
  EXPECT_TRUE(connect(path()));
  ::close(hold[1]);
  for (pid_t child : children) EXPECT_EQ(ended_with(child), 0);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
  for (int fd : {start[0], hold[0], said[0], said[1]}) ::close(fd);
}

TEST_F(ListenerTest, SomethingThatIsNoSocketIsLeftAlone) {
  std::ofstream(path()) << "precious";
  auto listener = Listener::bind(path());
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().code, Code::exists);
  std::string content;
  std::ifstream(path()) >> content;
  EXPECT_EQ(content, "precious");
  EXPECT_FALSE(exists(path() + ".lock"));
}

TEST_F(ListenerTest, AFolderThatOthersCanChangeIsRefused) {
  for (mode_t open : {0775, 0757, 01777}) {
    chmod(folder_.c_str(), open);
    auto listener = Listener::bind(path());
    ASSERT_FALSE(listener) << open;
    EXPECT_EQ(listener.error().code, Code::denied) << open;
  }
  chmod(folder_.c_str(), 0755);
  ASSERT_EQ(symlink(folder_.c_str(), (folder_ + "/link").c_str()), 0);
  EXPECT_EQ(Listener::bind(folder_ + "/link/s").error().code, Code::denied);
  EXPECT_EQ(Listener::bind(folder_ + "/none/further/s").error().os, ENOENT);
}

TEST_F(ListenerTest, SomebodyElsesFolderIsRefused) {
  if (geteuid() != 0) GTEST_SKIP() << "giving a folder away needs root";
  ASSERT_EQ(chown(folder_.c_str(), 4242, 4242), 0);
  auto listener = Listener::bind(path());
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().code, Code::denied);
  EXPECT_NE(listener.error().message.find("4242"), std::string::npos);
}

TEST_F(ListenerTest, ALinkInThePlaceOfTheLockIsNotFollowed) {
  std::ofstream(folder_ + "/victim") << "precious";
  ASSERT_EQ(symlink((folder_ + "/victim").c_str(), (path() + ".lock").c_str()), 0);
  EXPECT_EQ(Listener::bind(path()).error().os, ELOOP);
  std::string content;
  std::ifstream(folder_ + "/victim") >> content;
  EXPECT_EQ(content, "precious");
}

TEST_F(ListenerTest, ConnectingSaysWhyItCannot) {
  EXPECT_EQ(connect(folder_ + "/none").error().code, Code::unavailable);
  EXPECT_EQ(connect(folder_ + "/none/s").error().code, Code::unavailable);
  // A stream socket is another protocol.
  Fd stream(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, (folder_ + "/stream").c_str());
  ASSERT_EQ(bind(stream.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(stream.get(), 1), 0);
  EXPECT_EQ(connect(folder_ + "/stream").error().code, Code::incompatible);
  if (geteuid() != 0) GTEST_SKIP() << "trying as another user needs root";
  auto listener = Listener::bind(path(), {.socket_mode = 0600, .folder_mode = 0755});
  ASSERT_TRUE(listener);
  EXPECT_EQ(ended_with(in_child([&] {
              if (setgid(4242) != 0 || setuid(4242) != 0) return 1;
              auto connection = connect(path());
              return !connection && connection.error().code == Code::denied ? 0 : 2;
            })),
            0);
}

TEST_F(ListenerTest, AListenerThatAcceptsNobodyIsWaitedForNoLongerThanAsked) {
  auto listener = Listener::bind(path());
  ASSERT_TRUE(listener);
  std::vector<Connection> waiting;
  for (int n = 0; n < 1000; ++n) {
    std::uint64_t begin = monotonic_ns();
    auto connection = connect(path(), 50'000'000);
    if (!connection) {
      EXPECT_EQ(connection.error().code, Code::timed_out);
      EXPECT_GE(monotonic_ns() - begin, 40'000'000u);
      EXPECT_EQ(Listener::bind(path()).error().code, Code::busy) << "a full queue has a broker behind it";
      return;
    }
    waiting.push_back(std::move(*connection));
  }
  FAIL() << "the queue never filled";
}

TEST(DefaultSocketPath, ComesFromTheEnvironment) {
  auto in_environment = [](std::optional<const char*> socket, std::optional<const char*> runtime,
                           const std::string& expected) {
    return ended_with(in_child([&] {
      socket ? setenv("BAILEY_SOCKET", *socket, 1) : unsetenv("BAILEY_SOCKET");
      runtime ? setenv("XDG_RUNTIME_DIR", *runtime, 1) : unsetenv("XDG_RUNTIME_DIR");
      if (geteuid() == 0 && expected != "/run/bailey/broker.sock" && !socket && setuid(4242) != 0) return 2;
      return default_socket_path() == expected ? 0 : 1;
    }));
  };
  std::string uid = std::to_string(geteuid() == 0 ? 4242 : geteuid());
  EXPECT_EQ(in_environment("/a/b.sock", "/r", "/a/b.sock"), 0);
  EXPECT_EQ(in_environment({}, "/r", "/r/bailey/broker.sock"), 0);
  EXPECT_EQ(in_environment({}, {}, "/tmp/bailey-" + uid + "/broker.sock"), 0);
  EXPECT_EQ(in_environment({}, "", "/tmp/bailey-" + uid + "/broker.sock"), 0);
  if (geteuid() == 0) {
    EXPECT_EQ(in_environment("", "/r", "/run/bailey/broker.sock"), 0);
    EXPECT_EQ(in_environment({}, "/r", "/run/bailey/broker.sock"), 0);
  }
}

}  // namespace
}  // namespace bailey::protocol
