#include "attack/attacker.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <functional>
#include <limits>

#include "bailey/base/fd.h"

namespace bailey::attack {
namespace {

constexpr std::size_t page = 4096;
constexpr int descriptors_tried = 256;

const char* errno_name(int os) { return ::strerrorname_np(os); }

std::string not_stopped(const Attacker& attacker) { return "not stopped: " + attacker.name; }
std::string not_stopped(const Attacker& attacker, bool writers) {
  return writers ? "not stopped: a writer's right" : not_stopped(attacker);
}

// ---- one step each, in the attacker: 0, or errno

off_t last_page(std::uint64_t bytes) { return static_cast<off_t>(bytes - page); }

int write_through(void* mapping) {
  auto* byte = static_cast<volatile std::uint8_t*>(mapping);
  *byte = *byte;
  ::munmap(mapping, page);
  return 0;
}
int map_writable(int fd, std::uint64_t bytes) {
  void* mapping = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, last_page(bytes));
  return mapping == MAP_FAILED ? errno : write_through(mapping);
}
int make_mapping_writable(int fd, std::uint64_t bytes) {
  void* mapping = ::mmap(nullptr, page, PROT_READ, MAP_SHARED, fd, last_page(bytes));
  if (mapping == MAP_FAILED) return errno;
  return ::mprotect(mapping, page, PROT_READ | PROT_WRITE) != 0 ? errno : write_through(mapping);
}
int write_into(int fd, std::uint64_t bytes) {
  std::uint8_t byte;
  if (::pread(fd, &byte, 1, last_page(bytes)) != 1) return errno;
  return ::pwrite(fd, &byte, 1, last_page(bytes)) == 1 ? 0 : errno;
}
int truncate_to_less(int fd, std::uint64_t bytes) {
  if (::ftruncate(fd, last_page(bytes)) != 0) return errno;
  return ::ftruncate(fd, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
}
int truncate_to_more(int fd, std::uint64_t bytes) {
  if (::ftruncate(fd, static_cast<off_t>(bytes + page)) != 0) return errno;
  return ::ftruncate(fd, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
}
// What gets through either way got through.
int truncate(int fd, std::uint64_t bytes) {
  int less = truncate_to_less(fd, bytes), more = truncate_to_more(fd, bytes);
  return less == 0 || more == 0 ? 0 : less;
}
int punch(int fd, std::uint64_t bytes) {
  return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, last_page(bytes), page) == 0 ? 0 : errno;
}

Fd reopen(int fd) { return Fd(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_RDWR | O_CLOEXEC)); }

// Having a descriptor is no harm yet: what can be written through it, or through one that it leads to? Of the
// latter is the errno where there is one: it is the stronger.
std::string what_it_is_good_for(int fd, std::uint64_t bytes, const Attacker& attacker, bool writers) {
  int refused = 0;
  Fd again = reopen(fd);
  for (int with : {fd, again.get()}) {
    if (with < 0) continue;
    int mapped = map_writable(with, bytes), written = write_into(with, bytes);
    if (mapped == 0 || written == 0) return not_stopped(attacker, writers);
    refused = written;
  }
  return fmt::format("opens; write {}", errno_name(refused));
}

// ---- doors to other processes' descriptors

// Descriptor `number` of a process: >= 0, or -errno.
using Door = std::function<int(int number)>;

Door proc_door(pid_t pid, int flags) {
  return [=](int number) {
    int fd =
        ::open(fmt::format("/proc/{}/fd/{}", pid, number).c_str(), flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    return fd >= 0 ? fd : -errno;
  };
}
Door pidfd_door(pid_t pid) {
  int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  int os = pidfd < 0 ? errno : 0;
  return [=](int number) {
    if (pidfd < 0) return -os;
    int fd = static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, number, 0));
    return fd >= 0 ? fd : -errno;
  };
}
// Nothing is at that number, or what is there can't be opened by a path, as sockets.
bool is_no_refusal(int os) { return os == ENOENT || os == EBADF || os == ENXIO; }

std::string through(const Door& door, const FileTarget& target, const Attacker& attacker) {
  for (int number = 0; number < descriptors_tried; ++number) {
    Fd fd(std::max(-1, door(number)));
    int os = fd ? 0 : -door(number);
    if (!fd && !is_no_refusal(os)) return errno_name(os);
    struct stat about;
    if (!fd || ::fstat(fd.get(), &about) != 0) continue;
    if (about.st_dev == target.device && about.st_ino == target.inode)
      return what_it_is_good_for(fd.get(), target.bytes, attacker, false);
  }
  return "no such descriptor";
}
std::string through_each(const FileTarget& target, const Attacker& attacker, bool by_path) {
  std::string worst;
  for (pid_t pid : target.holders) {
    std::string came = through(by_path ? proc_door(pid, O_PATH) : pidfd_door(pid), target, attacker);
    if (worst.empty() || came.starts_with("not stopped") ||
        (came.starts_with("opens") && !worst.starts_with("not stopped")))
      worst = came;
  }
  return worst;
}

// ---- attempts

// With the descriptor held and, where it can be opened anew for writing, with that.
std::string with_both(int (*step)(int, std::uint64_t), const FileTarget& target, const Attacker& attacker) {
  int held = step(target.held, target.bytes);
  if (held == 0) return not_stopped(attacker, target.writers);
  Fd again = reopen(target.held);
  if (!again) return errno_name(held);
  int reopened = step(again.get(), target.bytes);
  if (reopened == 0) return not_stopped(attacker);
  if (held == reopened) return errno_name(held);
  return fmt::format("{}, reopened {}", errno_name(held), errno_name(reopened));
}

std::string try_file(const FileTarget& target, std::size_t attempt, const Attacker& attacker) {
  if (attempt == 0) return through_each(target, attacker, true);
  if (attempt == 1) return through_each(target, attacker, false);
  if (target.held < 0) return "–";
  if (attempt == 2) {
    Fd again = reopen(target.held);
    if (!again) return errno_name(errno);
    return what_it_is_good_for(again.get(), target.bytes, attacker, target.writers);
  }
  constexpr std::array<int (*)(int, std::uint64_t), 5> steps{map_writable, make_mapping_writable, write_into,
                                                             truncate, punch};
  return with_both(steps.at(attempt - 3), target, attacker);
}

std::string any_descriptor(const Door& door, const Attacker& attacker) {
  for (int number = 0; number < descriptors_tried; ++number) {
    int fd = door(number);
    if (fd >= 0) return not_stopped(attacker);
    if (!is_no_refusal(-fd)) return errno_name(-fd);
  }
  return "no such descriptor";
}

std::string trace(pid_t pid, const Attacker& attacker) {
  if (::ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) == 0) return not_stopped(attacker);
  int os = errno;
  if (::ptrace(PTRACE_ATTACH, pid, nullptr, nullptr) == 0) return not_stopped(attacker);
  return errno_name(os);
}

std::string try_process(const ProcessTarget& target, std::size_t attempt, const Attacker& attacker) {
  switch (attempt) {
    case 0:
      return any_descriptor(proc_door(target.pid, O_RDONLY), attacker);
    case 1:
      return any_descriptor(pidfd_door(target.pid), attacker);
    case 2:
      return trace(target.pid, attacker);
    default:
      break;
  }
  Fd memory(::open(fmt::format("/proc/{}/mem", target.pid).c_str(), O_RDWR | O_CLOEXEC));
  return memory ? not_stopped(attacker) : errno_name(errno);
}

void keep_only(std::vector<int> kept) {
  std::sort(kept.begin(), kept.end());
  unsigned from = 3;
  for (int fd : kept) {
    if (fd < static_cast<int>(from)) continue;
    if (static_cast<unsigned>(fd) > from) ::syscall(SYS_close_range, from, static_cast<unsigned>(fd) - 1, 0);
    from = static_cast<unsigned>(fd) + 1;
  }
  ::syscall(SYS_close_range, from, std::numeric_limits<unsigned>::max(), 0);
}

}  // namespace

std::string in_attacker(const Attacker& attacker, std::vector<int> kept,
                        const std::function<std::string()>& work) {
  int said[2];
  if (::pipe2(said, O_CLOEXEC) != 0) return fmt::format("no pipe: {}", errno_name(errno));
  std::fflush(nullptr);
  pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    kept.push_back(said[1]);
    keep_only(std::move(kept));
    std::string words = become(attacker.uid) ? work() : "could not become the attacker";
    ::_exit(::write(said[1], words.data(), words.size()) == static_cast<ssize_t>(words.size()) ? 0 : 1);
  }
  ::close(said[1]);
  Fd in(said[0]);
  if (pid < 0) return fmt::format("no process: {}", errno_name(errno));
  std::string words;
  char bytes[256];
  for (ssize_t got; (got = ::read(in.get(), bytes, sizeof bytes)) > 0;)
    words.append(bytes, static_cast<std::size_t>(got));
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  return WIFSIGNALED(status) ? "SIG" + std::string(::sigabbrev_np(WTERMSIG(status))) : words;
}

uid_t defended_uid() { return ::geteuid() == 0 ? 64101 : ::geteuid(); }

Attacker attacker_of(std::string_view name) {
  const uid_t uid = name == "same uid" ? defended_uid() : name == "root" ? 0 : 64103;
  return {std::string(name), uid};
}

bool become(uid_t uid) {
  if (::geteuid() != uid)
    if (::setgroups(0, nullptr) != 0 || ::setresgid(uid, uid, uid) != 0 || ::setresuid(uid, uid, uid) != 0)
      return false;
  // Another uid takes both away: its memory from others, and the signal that ends it with its parent.
  return ::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && ::prctl(PR_SET_DUMPABLE, 1) == 0;
}

std::string attempt_on(const FileTarget& target, std::size_t attempt, const Attacker& attacker) {
  return in_attacker(attacker, {target.held}, [&] { return try_file(target, attempt, attacker); });
}
std::string attempt_on(const ProcessTarget& target, std::size_t attempt, const Attacker& attacker) {
  return in_attacker(attacker, {}, [&] { return try_process(target, attempt, attacker); });
}

}  // namespace bailey::attack
