#include "bailey/guard/usher.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "bailey/guard/strict_layout.h"

namespace bailey::guard {
namespace {

struct Descriptor {
  alignas(cmsghdr) char bytes[CMSG_SPACE(sizeof(int))]{};
};

msghdr message_with(Descriptor& descriptor, iovec& byte) {
  msghdr message{};
  message.msg_iov = &byte;
  message.msg_iovlen = 1;
  message.msg_control = descriptor.bytes;
  message.msg_controllen = sizeof descriptor.bytes;
  return message;
}

Fd take_listener(int socket) {
  char said = 0;
  iovec byte{&said, 1};
  Descriptor descriptor;
  msghdr message = message_with(descriptor, byte);
  if (::recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1) return Fd();
  const cmsghdr* part = CMSG_FIRSTHDR(&message);
  if (part == nullptr || part->cmsg_type != SCM_RIGHTS) return Fd();
  int fd;
  std::memcpy(&fd, CMSG_DATA(part), sizeof fd);
  return Fd(fd);
}

bool same_file(int file, pid_t process, std::uint64_t descriptor) {
  struct stat ours, theirs;
  return ::fstat(file, &ours) == 0 &&
         ::stat(fmt::format("/proc/{}/fd/{}", process, static_cast<int>(descriptor)).c_str(), &theirs) == 0 &&
         ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

class Usher {
 public:
  Usher(int socket, int agent, int listener) : socket_(socket), agent_(agent), listener_(listener) {}

  // Until the agent, or whoever has its socket, has closed it.
  void serve() {
    pollfd both[]{{socket_, POLLIN, 0}, {listener_, POLLIN, 0}};
    for (;;) {
      if (::poll(both, 2, -1) < 0 && errno != EINTR) return;
      // In this order: the agent says hello before ld.so goes on.
      if (both[0].revents != 0 && !hear()) return;
      if (both[1].revents != 0 && !answer()) return;
    }
  }

 private:
  bool hear() {
    char said = 0;
    if (::recv(socket_, &said, 1, MSG_DONTWAIT) != 1) return errno == EAGAIN || errno == EINTR;
    agent_is_there_ = said == agent_hello;
    // Not getpid(): the C library does not know of this fork.
    const auto me = static_cast<std::int32_t>(::syscall(SYS_getpid));
    return ::send(socket_, &me, sizeof me, MSG_NOSIGNAL) == sizeof me;
  }

  bool answer() {
    seccomp_notif question{};
    if (::ioctl(listener_, SECCOMP_IOCTL_NOTIF_RECV, &question) != 0)
      return errno == EINTR || errno == ENOENT;
    seccomp_notif_resp says{};
    says.id = question.id;
    // Arguments are registers of a thread that waits, and the program has no other thread and no code of its
    // own running yet: what is looked at is what is mapped.
    if (agent_is_there_ || same_file(agent_, static_cast<pid_t>(question.pid), question.data.args[4])) {
      says.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    } else {
      std::fputs("bailey exec: ld.so did not load the agent of --strict before all else: refused\n", stderr);
      says.error = -EPERM;
    }
    return ::ioctl(listener_, SECCOMP_IOCTL_NOTIF_SEND, &says) == 0 || errno == ENOENT;
  }

  int socket_, agent_, listener_;
  bool agent_is_there_ = false;
};

[[noreturn]] void be_usher(int socket, int agent) {
  // It ends with the start; what ends the program meanwhile closes the socket.
  for (int number : {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(number, SIG_IGN);
  if (Fd listener = take_listener(socket)) Usher(socket, agent, listener.get()).serve();
  ::_exit(0);
}

}  // namespace

Result<Fd> call_usher(int agent_file) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return fail_os(errno, "socketpair");
  Fd ours(ends[0]), ushers(ends[1]);
  // A fork whose end raises no signal and is seen by no wait() of the program.
  const long usher = ::syscall(SYS_clone, 0, nullptr, nullptr, nullptr, 0);
  if (usher < 0) return fail_os(errno, "could not begin the usher (fork)");
  if (usher == 0) {
    ours.reset();
    be_usher(ushers.get(), agent_file);
  }
  return ours;
}

Status give_listener(const Fd& usher, Fd listener) {
  char said = 0;
  iovec byte{&said, 1};
  Descriptor descriptor;
  msghdr message = message_with(descriptor, byte);
  cmsghdr* part = CMSG_FIRSTHDR(&message);
  part->cmsg_level = SOL_SOCKET;
  part->cmsg_type = SCM_RIGHTS;
  part->cmsg_len = CMSG_LEN(sizeof(int));
  const int fd = listener.get();
  std::memcpy(CMSG_DATA(part), &fd, sizeof fd);
  if (::sendmsg(usher.get(), &message, MSG_NOSIGNAL) != 1) return fail_os(errno, "the usher is gone");
  return {};
}

}  // namespace bailey::guard
