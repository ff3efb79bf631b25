#include "bailey/medium/allocator.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/mempolicy.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "bailey/base/rights.h"
#include "bailey/medium/reserve.h"

namespace bailey::medium {
namespace {

// One datagram. With it come the answer's pipe, the file, and perhaps the file to copy from.
struct Request {
  std::uint64_t bytes;
  std::int32_t numa;  // -1: any
  std::int32_t copies;
};
constexpr std::size_t fds_max = 3;

// What a worker writes into the answer's pipe: that it has begun, and its outcome, which is 0, an errno, or
// this one. Less than both, and the end: it was killed, or nobody came to begin.
constexpr int begun = 0, numa_refused = -1;

// ---- in the allocator and its workers: system calls alone, since a fork may have left the heap in any state

void close_all_but(int fd) {
  auto kept = static_cast<unsigned>(fd);
  if (kept > 0) ::syscall(SYS_close_range, 0, kept - 1, 0);
  ::syscall(SYS_close_range, kept + 1, ~0u, 0);
}

int copy(int to, int from, std::uint64_t bytes) {
  void* target = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, to, 0);
  void* source = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, from, 0);
  if (target == MAP_FAILED || source == MAP_FAILED) return errno;
  std::memcpy(target, source, bytes);
  return 0;
}

int take_pages(const Request& request, int file, int copy_from) {
  if (request.numa >= 0) {
    std::array<unsigned long, 16> nodes{};
    constexpr unsigned bits = 8 * sizeof(unsigned long);
    auto node = static_cast<unsigned>(request.numa);
    if (node >= nodes.size() * bits) return numa_refused;
    nodes[node / bits] = 1ul << (node % bits);
    if (::syscall(SYS_set_mempolicy, MPOL_BIND, nodes.data(), nodes.size() * bits) != 0) return numa_refused;
  }
  int failed;
  do failed = ::fallocate(file, 0, 0, static_cast<off_t>(request.bytes));
  while (failed != 0 && errno == EINTR);
  if (failed != 0) return errno;
  return copy_from >= 0 ? copy(file, copy_from, request.bytes) : 0;
}

void say(int answer, int outcome) {
  // An asker that is gone needs no answer. SIGPIPE is blocked, as all signals are.
  if (::write(answer, &outcome, sizeof outcome) < 0) return;
}

// The request and its descriptors; how many of those, or -1 where nobody is left to ask.
int hear(int line, Request& request, std::array<int, fds_max>& fds) {
  iovec part{&request, sizeof request};
  Rights<fds_max> rights;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  rights.expect(message);
  ssize_t got;
  do got = ::recvmsg(line, &message, MSG_CMSG_CLOEXEC);
  while (got < 0 && errno == EINTR);
  if (got <= 0) return -1;
  std::size_t count = 0;
  take_rights(message, [&](int fd) { fds.at(count++) = fd; });
  return static_cast<int>(count);
}

// A worker: waits for one request, and serves it. It says so on `waits` when it has one.
[[noreturn]] void work(int line, int waits, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(0);
  Request request{};
  std::array<int, fds_max> fds{};
  int count = hear(line, request, fds);
  say(waits, begun);
  ::close(waits);
  bool copies = request.copies != 0;
  if (count != (copies ? 3 : 2)) ::_exit(0);
  say(fds[0], begun);
  say(fds[0], take_pages(request, fds[1], copies ? fds[2] : -1));
  ::_exit(0);
}

}  // namespace

// ---- the score

Result<Allocator::Score> Allocator::Score::open() {
  constexpr const char* path = "/proc/self/oom_score_adj";
  Score score;
  score.file = Fd(::open(path, O_RDWR | O_CLOEXEC));
  if (!score.file && errno == EACCES)
    return fail(Code::denied, By::kernel, fmt::format("{} is closed to a process that is not dumpable", path),
                "start the broker as a program of its own, or before its process gives up being dumpable");
  if (!score.file) return fail_os(errno, fmt::format("could not open {}", path), "is /proc mounted?");
  std::array<char, 16> text;
  ssize_t got = ::pread(score.file.get(), text.data(), text.size(), 0);
  if (got <= 0) return fail_os(errno, fmt::format("could not read {}", path));
  score.before.assign(text.data(), static_cast<std::size_t>(got));
  return score;
}

Status Allocator::Score::raise() const {
  if (::pwrite(file.get(), "1000", 4, 0) != 4) return fail_os(errno, "could not raise an oom_score_adj");
  return {};
}

// The kernel lets everybody go back to where they were.
void Allocator::Score::restore() const {
  BAILEY_ASSERT(::pwrite(file.get(), before.data(), before.size(), 0) == static_cast<ssize_t>(before.size()));
}

// ---- the process

Result<Allocator> Allocator::start() {
  Allocator allocator;
  allocator.score_ = BAILEY_TRY(Score::open());
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return fail_os(errno, "could not make the allocator's line");
  allocator.line_ = Fd(ends[0]);
  allocator.served_ = Fd(ends[1]);
  allocator.owner_ = ::getpid();
  BAILEY_TRY(allocator.fork_it(Start::first, [] {}));
  return allocator;
}

Status Allocator::restart(const std::function<void()>& forget) {
  BAILEY_ASSERT(child_.pid < 0 && owner_ == ::getpid());
  BAILEY_TRY(score_.raise());
  Status started = fork_it(Start::next, forget);
  score_.restore();
  return started;
}

Status Allocator::fork_it(Start start, const std::function<void()>& forget) {
  pid_t parent = ::getpid();
  pid_t pid = ::fork();
  if (pid < 0) return fail_os(errno, "could not start the allocator");
  if (pid == 0) {
    forget();
    run(served_.get(), parent, start);
  }
  child_.pid = pid;
  // Ours and not reaped: the pid is its own.
  child_.file = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!child_.file) {
    int os = errno;
    end();
    return fail_os(os, "could not watch the allocator");
  }
  return {};
}

void Allocator::run(int served, pid_t parent, Start start) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(0);
  ::prctl(PR_SET_NAME, "bailey-alloc");
  // Signals of a terminal are for the keeper, which ends us.
  sigset_t all;
  sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  ::signal(SIGCHLD, SIG_IGN);  // the kernel reaps the workers

  // The numbers of the standard streams stay taken: what a runtime writes there in despair must not land in
  // a file of the pool.
  int line = ::fcntl(served, F_DUPFD_CLOEXEC, 3);
  if (line < 0) ::_exit(1);
  close_all_but(line);
  for (int number = ::open("/dev/null", O_RDWR); number >= 0 && number < 2; number = ::dup(number)) {}

  // The next one is not dumpable any more: it is born with the raised score, and keeps it.
  Result<Score> score = fail(Code::denied);
  if (start == Start::first && !(score = Score::open())) ::_exit(1);
  if (::prctl(PR_SET_DUMPABLE, 0) != 0) ::_exit(1);
  // One worker waits in the line, forked ahead, so that who asks waits for a sleeper and not for a fork.
  for (;;) {
    std::array<int, 2> waits;
    ssize_t heard = 0;
    if (::pipe2(waits.data(), O_CLOEXEC) == 0) {
      pid_t self = ::getpid();
      if (!score || score->raise()) {
        if (::fork() == 0) work(line, waits[1], self);
        if (score) score->restore();
      }
      ::close(waits[1]);
      int taken;
      do heard = ::read(waits[0], &taken, sizeof taken);
      while (heard < 0 && errno == EINTR);
      ::close(waits[0]);
    }
    // There was none, or it was killed while it waited. In a shortage the next one would only be the next to
    // be killed, in place of who takes the memory.
    timespec pause{0, 50'000'000};
    if (heard <= 0) ::nanosleep(&pause, nullptr);
  }
}

Allocator& Allocator::operator=(Allocator&& other) noexcept {
  if (this != &other) {
    end();
    owner_ = other.owner_;
    line_ = std::move(other.line_);
    served_ = std::move(other.served_);
    score_ = std::move(other.score_);
    child_ = std::move(other.child_);
    other.child_.pid = -1;
  }
  return *this;
}

void Allocator::only_ask() {
  served_.reset();
  score_.file.reset();
  child_.file.reset();
}

std::string Allocator::reap() {
  int status = 0;
  pid_t waited;
  do waited = ::waitpid(child_.pid, &status, 0);
  while (waited < 0 && errno == EINTR);
  child_ = {};
  if (waited < 0) return "in an unknown way";
  return WIFSIGNALED(status) ? fmt::format("of signal {}", WTERMSIG(status))
                             : fmt::format("with status {}", WEXITSTATUS(status));
}

void Allocator::end() {
  if (child_.pid < 0 || owner_ != ::getpid()) return;
  ::kill(child_.pid, SIGKILL);
  reap();
}

// ---- one allocation

Result<Allocation> Allocation::start(int line, const Place& place, int fd, std::uint64_t bytes,
                                     int copy_from) {
  int pipe[2];
  if (::pipe2(pipe, O_CLOEXEC) != 0)
    return fail_os(errno, "could not make a pipe for the allocator's answer");
  Allocation allocation;
  allocation.answer_ = Fd(pipe[0]);
  allocation.bytes_ = bytes;
  Fd answer(pipe[1]);

  bool numa = place.numa && place.kind != Kind::file;
  Request request{bytes, numa ? static_cast<std::int32_t>(*place.numa) : -1, copy_from >= 0 ? 1 : 0};
  std::array<int, fds_max> fds{answer.get(), fd, copy_from};
  iovec part{&request, sizeof request};
  Rights<fds_max> rights;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  rights.put(message, std::span(fds).first(copy_from >= 0 ? 3 : 2));
  ssize_t sent;
  do sent = ::sendmsg(line, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent < 0 && (errno == EAGAIN || errno == ETOOMANYREFS))
    return fail(Code::busy, By::broker, "too many files are being made at once", "try again in a moment");
  if (sent < 0) return fail_os(errno, "could not ask the allocator");
  return allocation;
}

Status Allocation::finish(const std::string& what) {
  BAILEY_ASSERT(answer_);
  std::array<int, 2> said{};
  std::size_t bytes = 0;
  for (;;) {
    ssize_t got = ::read(answer_.get(), reinterpret_cast<char*>(said.data()) + bytes, sizeof said - bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_os(errno, "could not read the allocator's answer");
    if (got == 0) break;
    bytes += static_cast<std::size_t>(got);
  }
  answer_.reset();
  int os = said[1];
  if (bytes == 0)
    return fail(Code::unavailable, By::broker, fmt::format("the allocator died before it came to {}", what),
                "try again");
  if (bytes != sizeof said)
    return fail(
        Code::no_space, By::kernel,
        fmt::format("{} needs {} bytes; the kernel ran short of memory and ended the process that took them",
                    what, bytes_),
        "free memory or raise the cgroup's limit");
  if (os == 0) return {};
  if (os == ENOSPC || os == ENOMEM || os == EDQUOT || os == EFBIG)
    return std::unexpected(Error{Code::no_space, By::kernel, os,
                                 fmt::format("{} needs {} bytes; there are not so many left", what, bytes_),
                                 "free memory or disk, or make the region smaller"});
  if (os == numa_refused)
    return fail(Code::unsupported, By::kernel,
                "the kernel gives this process no memory of the node asked for",
                "look at the cpuset of its cgroup, or leave numa= out");
  return fail_os(os, fmt::format("could not allocate {} bytes for {}", bytes_, what));
}

Status allocate(const Allocator& allocator, const Place& place, int fd, std::uint64_t bytes,
                const std::string& what) {
  BAILEY_TRY(room_for(place, bytes, 0, what));
  auto allocation = BAILEY_TRY(Allocation::start(allocator.line(), place, fd, bytes));
  std::array<pollfd, 2> ready{{{allocation.fd(), 0, 0}, {allocator.pidfd(), POLLIN, 0}}};
  while (::poll(ready.data(), ready.size(), -1) < 0 && errno == EINTR) {}
  if (ready[0].revents == 0)
    return fail(Code::unavailable, By::broker, "the allocator died before it answered", "start again");
  return allocation.finish(what);
}

}  // namespace bailey::medium
