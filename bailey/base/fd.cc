#include "bailey/base/fd.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "bailey/base/clock.h"

namespace bailey {

void Fd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Result<Fd> Fd::duplicate() const {
  int copy = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return fail_os(errno, "could not duplicate a descriptor");
  return Fd(copy);
}

namespace {
Result<std::byte*> map(int fd, std::size_t bytes, int protection, int flags, Mapping::Fork fork) {
  if (bytes == 0) return fail(Code::invalid_argument, By::library, "a mapping of 0 bytes");
  void* base = ::mmap(nullptr, bytes, protection, flags, fd, 0);
  if (base == MAP_FAILED) return fail_os(errno, fmt::format("could not map {} bytes", bytes));
  if (fork == Mapping::Fork::dropped && (protection & PROT_WRITE) != 0 &&
      ::madvise(base, bytes, MADV_DONTFORK) != 0) {
    int os = errno;
    ::munmap(base, bytes);
    return fail_os(os, "could not keep a writable mapping from forked children (MADV_DONTFORK)");
  }
  return static_cast<std::byte*>(base);
}

void unmap(std::byte* base, std::size_t size) { ::munmap(base, size); }
}  // namespace

Result<Mapping> Mapping::of_file(int fd, std::size_t bytes, Access access, Fork fork) {
  int protection = access == Access::read_write ? PROT_READ | PROT_WRITE : PROT_READ;
  std::byte* base = BAILEY_TRY(map(fd, bytes, protection, MAP_SHARED, fork));
  return Mapping(base, bytes, unmap);
}

Result<Mapping> Mapping::anonymous(std::size_t bytes, Fork fork) {
  std::byte* base = BAILEY_TRY(map(-1, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, fork));
  return Mapping(base, bytes, unmap);
}

void Mapping::reset() {
  if (base_ != nullptr) release_(base_, size_);
  base_ = nullptr;
  size_ = 0;
}

Result<std::size_t> file_bytes(int fd) {
  struct stat about;
  if (::fstat(fd, &about) != 0) return fail_os(errno, "could not ask the size of a file");
  return static_cast<std::size_t>(about.st_size);
}

bool lock_file(int fd) {
  constexpr std::uint64_t patience_ns = 1'000'000'000;
  constexpr timespec pause{0, 5'000'000};
  for (const std::uint64_t until = monotonic_ns() + patience_ns; ::flock(fd, LOCK_EX | LOCK_NB) != 0;) {
    if (errno != EWOULDBLOCK || monotonic_ns() > until) return false;
    ::nanosleep(&pause, nullptr);
  }
  return true;
}

Result<std::string> read_file(const std::string& path, std::size_t bytes_max) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_os(errno, fmt::format("could not open {}", path));
  std::string text;
  char part[16384];
  for (;;) {
    ssize_t got = ::read(fd.get(), part, sizeof part);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_os(errno, fmt::format("could not read {}", path));
    if (got == 0) return text;
    text.append(part, static_cast<std::size_t>(got));
    if (text.size() > bytes_max)
      return fail(Code::too_large, By::library,
                  fmt::format("{} is larger than the {} bytes that such a file may have", path, bytes_max));
  }
}

}  // namespace bailey
