#include "bailey/protocol/socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "bailey/base/clock.h"
#include "bailey/base/rights.h"
#include "bailey/protocol/address.h"

namespace bailey::protocol {
namespace {

// Linux 6.5; the headers of Debian 12 are older.
constexpr int so_peerpidfd = 77;

std::unexpected<Error> other_end_gone() {
  return fail(Code::closed, By::peer, "the other end has closed the connection");
}

Status wait_for(int fd, short events, std::uint64_t deadline_ns) {
  for (;;) {
    std::uint64_t now = monotonic_ns();
    if (now >= deadline_ns)
      return fail(Code::timed_out, By::peer, "the other end of the connection did not move");
    std::uint64_t left = deadline_ns - now;
    timespec timeout{static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
    pollfd poll{fd, events, 0};
    int ready = ::ppoll(&poll, 1, &timeout, nullptr);
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return fail_os(errno, "could not wait for a connection");
  }
}

}  // namespace

Result<std::pair<Connection, Connection>> Connection::pair() {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
    return fail_os(errno, "could not make a pair of sockets");
  return std::pair(Connection(Fd(fds[0])), Connection(Fd(fds[1])));
}

Result<bool> Connection::try_send(Bytes payload, std::span<const int> fds) {
  if (payload.empty()) return fail(Code::invalid_argument, By::library, "an empty message can't be sent");
  if (payload.size() > message_bytes_max)
    return fail(
        Code::too_large, By::library,
        fmt::format("a message of {} bytes; at most {} can be sent", payload.size(), message_bytes_max));
  if (fds.size() > fds_max)
    return fail(Code::too_large, By::library,
                fmt::format("{} descriptors in a message; at most {} can be sent", fds.size(), fds_max));
  iovec bytes{const_cast<std::byte*>(payload.data()), payload.size()};
  Rights<fds_max> rights;
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  if (!fds.empty()) rights.put(header, fds);
  for (;;) {
    if (::sendmsg(fd_.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return true;
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) return other_end_gone();
    if (errno == ETOOMANYREFS)
      return fail(Code::quota, By::kernel,
                  "too many descriptors are under way in sockets of this user and have not been taken",
                  "raise the limit of open files (ulimit -n)");
    return fail_os(errno, "could not send a message");
  }
}

Result<std::optional<Received>> Connection::try_receive(std::size_t fds_limit) {
  BAILEY_ASSERT(fds_limit <= fds_max);
  char payload[message_bytes_max];
  Rights<fds_max> rights;
  iovec bytes{payload, sizeof payload};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  if (fds_limit > 0) rights.expect(header, fds_limit);
  ssize_t got;
  do got = ::recvmsg(fd_.get(), &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  while (got < 0 && errno == EINTR);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return std::nullopt;
  if (got < 0 && (errno == ECONNRESET || errno == EPIPE || errno == ENOTCONN)) return other_end_gone();
  if (got < 0) return fail_os(errno, "could not receive a message");
  // From here on what arrived is owned, and closed with any error.
  Received received;
  take_rights(header, [&](int fd) { received.fds.emplace_back(fd); });
  if ((header.msg_flags & MSG_CTRUNC) != 0) {
    if (received.fds.size() < fds_limit)
      return fail(Code::quota, By::kernel, "this process has too few descriptors left to receive a message's",
                  "raise the limit of open files (ulimit -n)");
    return fail(Code::corrupt, By::peer,
                fmt::format("a message carries more than the {} descriptors that are taken", fds_limit));
  }
  if ((header.msg_flags & MSG_TRUNC) != 0)
    return fail(Code::corrupt, By::peer, fmt::format("a message is longer than {} bytes", message_bytes_max));
  // An empty datagram can't be told from the end, and nobody of ours sends one.
  if (got == 0) return other_end_gone();
  received.payload.assign(payload, static_cast<std::size_t>(got));
  return received;
}

Status Connection::send(Bytes payload, std::uint64_t deadline_ns, std::span<const int> fds) {
  while (!BAILEY_TRY(try_send(payload, fds))) BAILEY_TRY(wait_for(fd(), POLLOUT, deadline_ns));
  return {};
}

Result<Received> Connection::receive(std::uint64_t deadline_ns, std::size_t fds_limit) {
  for (;;) {
    if (auto received = BAILEY_TRY(try_receive(fds_limit))) return std::move(*received);
    BAILEY_TRY(wait_for(fd(), POLLIN, deadline_ns));
  }
}

Result<Credentials> Connection::peer_credentials() const {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  if (::getsockopt(fd(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0)
    return fail_os(errno, "could not ask who is at the other end of a socket");
  return Credentials{credentials.pid, credentials.uid, credentials.gid};
}

Result<std::vector<gid_t>> Connection::peer_groups() const {
  std::vector<gid_t> groups(32);
  for (;;) {
    auto length = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    if (::getsockopt(fd(), SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length) == 0) {
      groups.resize(length / sizeof(gid_t));
      return groups;
    }
    // The kernel has written how many bytes it needs; they don't change after the connection is made.
    if (errno != ERANGE || length <= groups.size() * sizeof(gid_t))
      return fail_os(errno, "could not ask for the groups of the other end of a socket");
    groups.resize(length / sizeof(gid_t));
  }
}

Result<Fd> Connection::peer_pidfd() const {
  int pidfd = -1;
  socklen_t length = sizeof pidfd;
  if (::getsockopt(fd(), SOL_SOCKET, so_peerpidfd, &pidfd, &length) == 0) return Fd(pidfd);
  int os = errno;
  if (os == ENOPROTOOPT) {
    Credentials peer = BAILEY_TRY(peer_credentials());
    if (peer.pid <= 0)
      return fail(
          Code::not_found, By::kernel,
          "the process at the other end can't be seen from this pid namespace, and this kernel can't watch "
          "it otherwise",
          "use Linux 6.5 or later, or share the pid namespace");
    pidfd = static_cast<int>(::syscall(SYS_pidfd_open, peer.pid, 0));
    if (pidfd >= 0) return Fd(pidfd);
    os = errno;
  }
  // ESRCH: it is dead; EINVAL: it is dead and has been waited for, in kernels before 6.16.
  if (os == ESRCH || os == EINVAL)
    return fail(Code::not_found, By::kernel, "the process at the other end is gone");
  return fail_os(os, "could not watch the process at the other end of a socket");
}

Result<Connection> connect(const std::string& path, std::uint64_t timeout_ns) {
  sockaddr_un address = BAILEY_TRY(socket_address(path));
  Fd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd) return fail_os(errno, "could not make a socket");
  // Connecting waits where the listener's queue is full; a blocking socket with a timeout waits without
  // polling.
  timeval timeout{static_cast<time_t>(timeout_ns / 1'000'000'000),
                  static_cast<suseconds_t>(timeout_ns / 1000 % 1'000'000)};
  if (timeout.tv_sec == 0 && timeout.tv_usec == 0) timeout.tv_usec = 1;  // 0 would be for ever
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) != 0)
    return fail_os(errno, "could not set a socket's timeout");
  int outcome;
  do outcome = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  while (outcome != 0 && errno == EINTR);
  if (outcome != 0) {
    int os = errno;
    auto refused = [&](Code code, std::string message, std::string remedy) {
      return std::unexpected(Error{code, By::kernel, os, std::move(message), std::move(remedy)});
    };
    if (os == ENOENT || os == ECONNREFUSED || os == ENOTDIR)
      return refused(Code::unavailable, fmt::format("no broker listens at {}", path),
                     "start one with `bailey serve`, or name another socket in BAILEY_SOCKET");
    if (os == EACCES || os == EPERM)
      return refused(Code::denied, fmt::format("may not connect to {}", path),
                     "ask whoever runs the broker for access to the socket and its folder");
    if (os == EAGAIN || os == EWOULDBLOCK)
      return refused(Code::timed_out, fmt::format("the broker at {} accepts no connection", path), {});
    if (os == EPROTOTYPE || os == ENOTSOCK)
      return refused(Code::incompatible, fmt::format("{} is not a broker's socket", path), {});
    return fail_os(os, fmt::format("could not connect to {}", path));
  }
  if (::fcntl(fd.get(), F_SETFL, O_NONBLOCK) != 0)
    return fail_os(errno, "could not make a socket non-blocking");
  return Connection(std::move(fd));
}

namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

std::string default_socket_path() {
  std::string path = variable("BAILEY_SOCKET");
  return path.empty() ? usual_socket_path() : path;
}

std::string usual_socket_path() {
  if (::geteuid() == 0) return "/run/bailey/broker.sock";
  if (std::string folder = variable("XDG_RUNTIME_DIR"); !folder.empty())
    return folder + "/bailey/broker.sock";
  return fmt::format("/tmp/bailey-{}/broker.sock", ::geteuid());
}

}  // namespace bailey::protocol
