#include "bailey/protocol/socket.h"

#include <grp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cstring>

#include "bailey/base/identity.h"
#include "bailey/protocol/test_support.h"

namespace bailey::protocol {
namespace {

std::pair<Connection, Connection> connected() { return *Connection::pair(); }
std::vector<int> copies_of(int fd, std::size_t count) { return std::vector<int>(count, fd); }

// Sends around Connection's own checks, as a hostile end would.
void send_raw(int socket, std::size_t bytes, const std::vector<int>& fds) {
  std::string payload(bytes, 'x');
  iovec part{payload.data(), payload.size()};
  std::vector<char> control(CMSG_SPACE(sizeof(int) * fds.size()));
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(rights), fds.data(), sizeof(int) * fds.size());
  }
  ASSERT_EQ(sendmsg(socket, &header, MSG_NOSIGNAL), static_cast<ssize_t>(bytes));
}

TEST(Connection, CarriesMessagesWhole) {
  auto [left, right] = connected();
  for (std::size_t bytes : {std::size_t{1}, std::size_t{4097}, message_bytes_max}) {
    std::string payload(bytes, static_cast<char>('a' + bytes % 26));
    ASSERT_TRUE(left.send(as_bytes(payload), soon()));
    auto received = right.receive(soon());
    ASSERT_TRUE(received) << received.error().to_string();
    EXPECT_EQ(received->payload, payload);
    EXPECT_TRUE(received->fds.empty());
  }
}

TEST(Connection, CarriesAsManyDescriptorsAsAMessageHas) {
  auto [left, right] = connected();
  Fd file(memfd_create("carried", MFD_CLOEXEC));
  ASSERT_EQ(write(file.get(), "content", 7), 7);
  for (std::size_t count : {std::size_t{1}, std::size_t{2}, fds_max}) {
    ASSERT_TRUE(left.send(as_bytes("m"), soon(), copies_of(file.get(), count)));
    auto received = right.receive(soon());
    ASSERT_TRUE(received) << received.error().to_string();
    ASSERT_EQ(received->fds.size(), count);
    for (const Fd& fd : received->fds) {
      char content[8] = {};
      EXPECT_EQ(pread(fd.get(), content, 7, 0), 7);
      EXPECT_STREQ(content, "content");
      EXPECT_NE(fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, 0);
    }
  }
}

TEST(Connection, NothingThereIsNothing) {
  auto [left, right] = connected();
  auto received = right.try_receive();
  ASSERT_TRUE(received);
  EXPECT_FALSE(*received);
  EXPECT_EQ(right.receive(monotonic_ns() + 1'000'000).error().code, Code::timed_out);
}

TEST(Connection, AFullQueueIsToldAndDrains) {
  auto [left, right] = connected();
  std::string payload(16384, 'x');
  int sent = 0;
  for (;;) {
    auto outcome = left.try_send(as_bytes(payload));
    ASSERT_TRUE(outcome);
    if (!*outcome) break;
    ASSERT_LT(++sent, 100'000);
  }
  EXPECT_GT(sent, 0);
  EXPECT_EQ(left.send(as_bytes(payload), monotonic_ns() + 1'000'000).error().code, Code::timed_out);
  for (int n = 0; n < sent; ++n) ASSERT_TRUE(right.receive(soon()));
  auto outcome = left.try_send(as_bytes(payload));
  ASSERT_TRUE(outcome);
  EXPECT_TRUE(*outcome);
}

TEST(Connection, AnEndedConnectionIsClosedForBothCalls) {
  auto [left, right] = connected();
  ASSERT_TRUE(left.send(as_bytes("last"), soon()));
  left.close();
  EXPECT_EQ(right.receive(soon())->payload, "last") << "what was sent before the end arrives";
  EXPECT_EQ(right.receive(soon()).error().code, Code::closed);
  // SIGPIPE would end this process.
  EXPECT_EQ(right.try_send(as_bytes("x")).error().code, Code::closed);
}

TEST(Connection, WhatIsOverALimitIsNotSent) {
  auto [left, right] = connected();
  EXPECT_EQ(left.try_send({}).error().code, Code::invalid_argument);
  EXPECT_EQ(left.try_send(as_bytes(std::string(message_bytes_max + 1, 'x'))).error().code, Code::too_large);
  EXPECT_EQ(left.try_send(as_bytes("x"), copies_of(0, fds_max + 1)).error().code, Code::too_large);
  auto received = right.try_receive();
  ASSERT_TRUE(received);
  EXPECT_FALSE(*received);
}

TEST(Connection, ATruncatedMessageIsAnErrorAndItsDescriptorsAreClosed) {
  auto [left, right] = connected();
  int size = 1 << 20;
  setsockopt(left.fd(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  std::size_t before = open_descriptors();
  send_raw(left.fd(), message_bytes_max + 1, copies_of(0, 5));
  EXPECT_EQ(right.try_receive().error().code, Code::corrupt);
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Connection, MoreDescriptorsThanTakenIsAnErrorAndAllAreClosed) {
  // Odd and even limits: a control buffer is padded to 8 bytes, which is two descriptors.
  for (std::size_t limit : {0, 1, 2, 3, 8}) {
    auto [left, right] = connected();
    std::size_t before = open_descriptors();
    send_raw(left.fd(), 1, copies_of(0, limit + 1));
    auto received = right.try_receive(limit);
    ASSERT_FALSE(received) << limit;
    EXPECT_EQ(received.error().code, Code::corrupt) << limit;
    EXPECT_EQ(open_descriptors(), before) << limit;
    send_raw(left.fd(), 1, copies_of(0, limit));
    auto allowed = right.try_receive(limit);
    ASSERT_TRUE(allowed) << limit;
    EXPECT_EQ((*allowed)->fds.size(), limit);
  }
}

TEST(Connection, ADescriptorLimitOfOnesOwnIsToldAndAllAreClosed) {
  auto [left, right] = connected();
  ASSERT_TRUE(left.send(as_bytes("m"), soon(), copies_of(0, 50)));
  std::size_t before = open_descriptors();
  rlimit whole;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &whole), 0);
  Fd highest(dup(0));
  rlimit few{static_cast<rlim_t>(highest.get()) + 10, whole.rlim_max};
  highest.reset();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  auto received = right.try_receive();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &whole), 0);
  ASSERT_FALSE(received);
  EXPECT_EQ(received.error().code, Code::quota);
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Connection, AnEmptyDatagramIsAnEnd) {
  auto [left, right] = connected();
  std::size_t before = open_descriptors();
  send_raw(left.fd(), 0, copies_of(0, 3));
  EXPECT_EQ(right.try_receive().error().code, Code::closed);
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Connection, KnowsItsPeerByTheKernelsWord) {
  auto [left, right] = connected();
  auto peer = left.peer_credentials();
  ASSERT_TRUE(peer);
  EXPECT_EQ(*peer, (Credentials{getpid(), geteuid(), getegid()}));
}

class Peer : public FolderTest {};

TEST_F(Peer, GroupsAreThoseOfTheConnectingProcess) {
  if (geteuid() != 0) GTEST_SKIP() << "choosing groups needs root";
  auto listener = Listener::bind(folder_ + "/s");
  ASSERT_TRUE(listener);
  // More than the first guess of 32, so that the longer answer is asked for too.
  std::vector<gid_t> groups;
  for (gid_t group = 5000; group < 5070; ++group) groups.push_back(group);
  int done[2];
  ASSERT_EQ(pipe2(done, O_CLOEXEC), 0);
  pid_t child = in_child([&] {
    ::close(done[1]);
    if (setgroups(groups.size(), groups.data()) != 0 || setgid(5070) != 0 || setuid(5071) != 0) return 1;
    auto connection = connect(folder_ + "/s");
    char byte;
    return connection && read(done[0], &byte, 1) == 0 ? 0 : 2;
  });
  pollfd poll{listener->fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&poll, 1, 10'000), 1);
  auto connection = listener->try_accept();
  ASSERT_TRUE(connection && *connection);
  auto seen = (*connection)->peer_groups();
  ASSERT_TRUE(seen) << seen.error().to_string();
  EXPECT_EQ(*seen, groups);
  EXPECT_EQ(*(*connection)->peer_credentials(), (Credentials{child, 5071, 5070}));
  ::close(done[1]);
  ::close(done[0]);
  EXPECT_EQ(ended_with(child), 0);
}

TEST_F(Peer, DeathIsSeenThroughThePidfdEvenIfAForkKeepsTheSocketOpen) {
  auto listener = Listener::bind(folder_ + "/s");
  ASSERT_TRUE(listener);
  int hold[2];
  ASSERT_EQ(pipe2(hold, O_CLOEXEC), 0);
  pid_t child = in_child([&] {
    ::close(hold[1]);
    auto connection = connect(folder_ + "/s");
    if (!connection) return 1;
    in_child([&] {
      char byte;
      return read(hold[0], &byte, 1) == 0 ? 0 : 1;
    });
    for (;;) pause();
  });
  pollfd poll{listener->fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&poll, 1, 10'000), 1);
  auto connection = listener->try_accept();
  ASSERT_TRUE(connection && *connection);
  auto pidfd = (*connection)->peer_pidfd();
  ASSERT_TRUE(pidfd) << pidfd.error().to_string();
  pollfd death{pidfd->get(), POLLIN, 0};
  EXPECT_EQ(::poll(&death, 1, 0), 0) << "it lives";
  ASSERT_EQ(kill(child, SIGKILL), 0);
  EXPECT_EQ(::poll(&death, 1, 10'000), 1);
  EXPECT_EQ(ended_with(child), -1);
  auto gone = (*connection)->peer_pidfd();
  if (!gone) {
    EXPECT_EQ(gone.error().code, Code::not_found);
  } else {
    pollfd dead{gone->get(), POLLIN, 0};
    EXPECT_EQ(::poll(&dead, 1, 0), 1) << "a descriptor of a dead process says so at once";
  }
  ::close(hold[1]);
  ::close(hold[0]);
}

}  // namespace
}  // namespace bailey::protocol
