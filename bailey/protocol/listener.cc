#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "bailey/protocol/address.h"
#include "bailey/protocol/place.h"
#include "bailey/protocol/socket.h"

namespace bailey::protocol {

Result<sockaddr_un> socket_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty()) return fail(Code::invalid_argument, By::library, "the path of a socket is empty");
  if (path.find('\0') != std::string::npos)
    return fail(Code::invalid_argument, By::library, "the path of a socket has a zero byte");
  if (path.size() >= sizeof address.sun_path)
    return fail(Code::too_large, By::kernel,
                fmt::format("the path of the socket has {} bytes, the kernel takes at most {}: {}",
                            path.size(), sizeof address.sun_path - 1, path),
                "choose a shorter path, for instance under /run or /tmp");
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

std::string folder_of(const std::string& path) {
  std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

namespace {

constexpr int backlog = 128;
constexpr int lock_attempts_max = 100;

// Makes the folder where it is missing; says whether it did. Whoever may write in a folder can put a socket
// of his own in the place of ours, and whoever owns it can let others in.
Result<bool> prepare_folder(const std::string& folder, mode_t mode) {
  bool made = ::mkdir(folder.c_str(), mode) == 0;
  if (!made && errno != EEXIST)
    return fail_os(errno, fmt::format("could not make the folder {} for the socket", folder));
  Fd fd(::open(folder.c_str(), O_DIRECTORY | O_NOFOLLOW | O_RDONLY | O_CLOEXEC));
  if (!fd && (errno == ELOOP || errno == ENOTDIR))
    return fail(Code::denied, By::library,
                fmt::format("{} is to be the folder of the socket but is a link or a file", folder),
                "name a folder of your own");
  if (!fd) return fail_os(errno, fmt::format("could not open the folder {} of the socket", folder));
  // The umask may have taken away what others need to reach the socket.
  if (made && ::fchmod(fd.get(), mode) != 0)
    return fail_os(errno, fmt::format("could not set the mode of the folder {}", folder));
  struct stat about;
  if (::fstat(fd.get(), &about) != 0)
    return fail_os(errno, fmt::format("could not look at the folder {}", folder));
  if (about.st_uid != ::geteuid())
    return fail(
        Code::denied, By::library,
        fmt::format("the folder {} of the socket belongs to uid {}, who could put another socket there",
                    folder, about.st_uid),
        fmt::format("use a folder that belongs to uid {}", ::geteuid()));
  if ((about.st_mode & 022) != 0)
    return fail(Code::denied, By::library,
                fmt::format("others may write in the folder {} of the socket (mode {:04o})", folder,
                            about.st_mode & 07777),
                fmt::format("use a folder of its own, or: chmod go-w {}", folder));
  return made;
}

std::unexpected<Error> is_running(const std::string& path, long pid) {
  std::string who = pid > 0 ? fmt::format("process {}", pid) : "a process that can't be seen from here";
  return fail(Code::busy, By::library, fmt::format("a broker is already running at {}: {}", path, who),
              "use that one, stop it first, or name another socket");
}

// The pid of whoever listens at the path, 0 where it can't be seen, -1 where nobody does.
long listener_at(const std::string& path) {
  auto connection = connect(path, 100'000'000);
  // A full queue has somebody behind it.
  if (!connection) return connection.error().code == Code::timed_out ? 0 : -1;
  auto credentials = connection->peer_credentials();
  return credentials ? credentials->pid : 0;
}

bool is_at(const Fd& file, const std::string& path) {
  struct stat held, there;
  return ::fstat(file.get(), &held) == 0 && ::lstat(path.c_str(), &there) == 0 &&
         held.st_ino == there.st_ino && held.st_dev == there.st_dev;
}

Result<Fd> take_lock(const std::string& path) {
  std::string lock_path = path + ".lock";
  for (int attempt = 0; attempt < lock_attempts_max; ++attempt) {
    Fd lock(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!lock) return fail_os(errno, fmt::format("could not open {}", lock_path));
    if (!lock_file(lock.get())) {
      if (errno != EWOULDBLOCK) return fail_os(errno, fmt::format("could not lock {}", lock_path));
      long pid = listener_at(path);
      if (pid <= 0) {
        // It holds the lock and does not listen, at the moment: its pid is in the file.
        char text[24] = {};
        ssize_t got = ::pread(lock.get(), text, sizeof text - 1, 0);
        if (got > 0) std::from_chars(text, text + got, pid);
      }
      return is_running(path, pid);
    }
    // A broker that ended may have removed the file between our opening and locking it: then the lock is on a
    // file that nobody else will find.
    if (!is_at(lock, lock_path)) continue;
    std::string pid = fmt::format("{}\n", ::getpid());
    if (::ftruncate(lock.get(), 0) != 0 ||
        ::pwrite(lock.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size()))
      return fail_os(errno, fmt::format("could not write {}", lock_path));
    return lock;
  }
  return fail(Code::contended, By::library, fmt::format("{} comes and goes", lock_path),
              "stop whatever starts and stops brokers there");
}

}  // namespace

Status Listener::nobody_at(const std::string& path) {
  const long pid = listener_at(path);
  return pid < 0 ? Status() : is_running(path, pid);
}

Result<Listener> Listener::bind(const std::string& path, const Options& options) {
  sockaddr_un address = BAILEY_TRY(socket_address(path));
  std::string folder = folder_of(path);
  Listener listener;
  listener.place_ = BAILEY_TRY(own_place());
  bool made = BAILEY_TRY(prepare_folder(folder, options.folder_mode));
  listener.lock_ = BAILEY_TRY(take_lock(path));
  // From here on the path is ours: whatever fails, the object cleans up as it goes.
  listener.owner_ = ::getpid();
  listener.path_ = path;
  if (made) listener.made_folder_ = folder;

  struct stat there;
  if (::lstat(path.c_str(), &there) == 0) {
    if (!S_ISSOCK(there.st_mode)) {
      listener.path_.clear();
      ::unlink((path + ".lock").c_str());
      return fail(Code::exists, By::library, fmt::format("{} is there and is not a socket", path),
                  "name another path, or move it away");
    }
    // Somebody may have removed the lock file of a broker that lives.
    if (long pid = listener_at(path); pid >= 0) {
      listener.path_.clear();
      ::unlink((path + ".lock").c_str());
      return is_running(path, pid);
    }
    if (::unlink(path.c_str()) != 0)
      return fail_os(errno, fmt::format("could not remove the stale socket {}", path));
  }
  listener.fd_ = Fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.fd_) return fail_os(errno, "could not make a socket");
  if (::bind(listener.fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail_os(errno, fmt::format("could not bind a socket at {}", path));
  // Nobody connects before listen(), so that the mode is right for the first one.
  if (::chmod(path.c_str(), options.socket_mode) != 0)
    return fail_os(errno, fmt::format("could not set the mode of {}", path));
  if (::listen(listener.fd_.get(), backlog) != 0)
    return fail_os(errno, fmt::format("could not listen at {}", path));
  return listener;
}

Listener::Listener(Listener&& other) noexcept
    : fd_(std::move(other.fd_)),
      lock_(std::move(other.lock_)),
      path_(std::exchange(other.path_, {})),
      made_folder_(std::exchange(other.made_folder_, {})),
      place_(other.place_),
      owner_(std::exchange(other.owner_, 0)) {}

Listener& Listener::operator=(Listener&& other) noexcept {
  if (this != &other) {
    remove();
    fd_ = std::move(other.fd_);
    lock_ = std::move(other.lock_);
    path_ = std::exchange(other.path_, {});
    made_folder_ = std::exchange(other.made_folder_, {});
    place_ = other.place_;
    owner_ = std::exchange(other.owner_, 0);
  }
  return *this;
}

Listener::~Listener() { remove(); }

void Listener::remove() {
  // The lock is still held while the files go, and they go only if they are those that it is for.
  if (owner_ == ::getpid() && !path_.empty() && is_at(lock_, path_ + ".lock")) {
    ::unlink(path_.c_str());
    ::unlink((path_ + ".lock").c_str());
    if (!made_folder_.empty()) ::rmdir(made_folder_.c_str());
  }
  fd_.reset();
  lock_.reset();
}

Result<std::optional<Connection>> Listener::try_accept() {
  for (;;) {
    Fd fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd) return Connection(std::move(fd));
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::nullopt;
    return fail_os(errno, fmt::format("could not accept a connection at {}", path_));
  }
}

}  // namespace bailey::protocol
