#include "bailey/medium/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

// Of kernel headers newer than the distribution's.
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21U << 26)
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace bailey::medium {
namespace {

std::string path_of(const Place& place, const std::string& name) { return place.folder + "/" + name; }

Status check_name(const std::string& name) {
  if (name.empty() || name.find('/') != std::string::npos || name.front() == '.')
    return fail(Code::invalid_argument, By::library,
                fmt::format("\"{}\" can't name a file of a medium", name));
  return {};
}

Result<Fd> create_memfd(const Place& place, const std::string& name) {
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  if (place.kind == Kind::hugepages) flags |= MFD_HUGETLB | MFD_HUGE_2MB;
  // A kernel before 6.3 answers EINVAL to MFD_NOEXEC_SEAL; there the mode below is all there is against
  // execution.
  int fd = ::memfd_create(name.c_str(), flags | MFD_NOEXEC_SEAL);
  if (fd < 0 && errno == EINVAL) fd = ::memfd_create(name.c_str(), flags);
  if (fd < 0) {
    int os = errno;
    if (place.kind == Kind::hugepages && (os == ENODEV || os == ENOSYS || os == EINVAL))
      return fail(Code::unsupported, By::kernel, "this kernel has no huge pages of 2 MiB",
                  "use a medium of memory: instead");
    return fail_os(os, fmt::format("could not create the memory file {}", name));
  }
  Fd file(fd);
  // memfds are born with mode 0777: another uid that has a read-only descriptor could open them anew for
  // writing.
  if (::fchmod(fd, 0600) != 0) return fail_os(errno, fmt::format("could not set the mode of {}", name));
  return file;
}

}  // namespace

int seals_wanted(Purpose purpose) {
  constexpr int fixed = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW;
  switch (purpose) {
    case Purpose::shared_index:
      return fixed;
    case Purpose::segment:
    case Purpose::exclusive_index:
    case Purpose::control:
      break;
  }
  return fixed | F_SEAL_FUTURE_WRITE;
}

Result<Fd> create_file(const Place& place, const std::string& name, std::uint64_t bytes) {
  BAILEY_TRY(check_name(name));
  if (bytes == 0 || bytes % place.unit_bytes() != 0 || bytes > INT64_MAX)
    return fail(Code::invalid_argument, By::library,
                fmt::format("a file of {} bytes: not a multiple of {}", bytes, place.unit_bytes()));
  Fd file;
  if (place.kind == Kind::file) {
    // fchmod: a umask may have taken bits away that the owner needs.
    file = Fd(::open(path_of(place, name).c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file || ::fchmod(file.get(), 0600) != 0)
      return fail_os(errno, fmt::format("could not create {}", path_of(place, name)));
  } else {
    file = BAILEY_TRY(create_memfd(place, name));
  }
  if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0)
    return fail_os(errno, fmt::format("could not give {} its {} bytes", name, bytes));
  // At once: only the seal against new writers has to wait until its writer has it mapped, and who gets the
  // descriptor must not cut it.
  if (place.sealable() && ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
    return fail_os(errno, fmt::format("could not seal the size of {}", name));
  return file;
}

Result<Fd> open_file(const Place& place, const std::string& name) {
  BAILEY_TRY(check_name(name));
  std::string path = path_of(place, name);
  Fd file(::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (!file) return fail_os(errno, fmt::format("could not open {}", path));
  struct stat about;
  if (::fstat(file.get(), &about) != 0) return fail_os(errno, fmt::format("could not look at {}", path));
  if (!S_ISREG(about.st_mode) || about.st_uid != ::geteuid() || (about.st_mode & 07777) != 0600)
    return fail(Code::corrupt, By::library,
                fmt::format("{} is not a regular file of uid {} with mode 0600 any more", path, ::geteuid()),
                "somebody changed it behind the broker's back; look who, before you use it again");
  return file;
}

Status remove_file(const Place& place, const std::string& name) {
  if (place.kind != Kind::file) return {};
  BAILEY_TRY(check_name(name));
  if (::unlink(path_of(place, name).c_str()) != 0 && errno != ENOENT)
    return fail_os(errno, fmt::format("could not remove {}", path_of(place, name)));
  return {};
}

Status seal(const Place& place, int fd, Purpose purpose) {
  if (!place.sealable()) return {};
  // EPERM: sealed for good before, by us or by the holder of the writable descriptor. What counts is what is
  // there now.
  if (::fcntl(fd, F_ADD_SEALS, seals_wanted(purpose)) != 0 && errno != EPERM)
    return fail_os(errno, "could not seal a file",
                   errno == EBUSY ? "close every writable mapping of it first" : "");
  return verify_seals(fd, purpose);
}

Status verify_seals(int fd, Purpose purpose) {
  int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0) return fail_os(errno, "could not ask for a file's seals");
  int missing = seals_wanted(purpose) & ~seals;
  if (missing != 0)
    return fail(Code::corrupt, By::kernel,
                fmt::format("a file has seals {:#x}, and lacks {:#x}", seals, missing));
  // A shared index that somebody sealed against writing would be a denial of service to its writers.
  if (purpose == Purpose::shared_index && (seals & (F_SEAL_FUTURE_WRITE | F_SEAL_WRITE)) != 0)
    return fail(Code::corrupt, By::kernel,
                fmt::format("a shared index was sealed against writing: {:#x}", seals));
  return {};
}

Result<Fd> reopen_read_only(int fd) {
  Fd reader(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_RDONLY | O_CLOEXEC));
  if (!reader) return fail_os(errno, "could not open a file again for reading", "is /proc mounted?");
  return reader;
}

}  // namespace bailey::medium
