#include "bailey/session/verify.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>

namespace bailey::session {
namespace {

constexpr int seals_of(Sealed sealed) {
  switch (sealed) {
    case Sealed::not_by_now:
      return 0;
    case Sealed::size:
      return F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW;
    case Sealed::writes:
      return F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;
  }
  return -1;
}

std::unexpected<Error> broken(std::string_view what, std::string_view how) {
  return fail(Code::corrupt, By::peer,
              fmt::format("the broker handed over a file as {} that {}; it was not used", what, how),
              "this is not the broker that it should be, or a defect: look into the broker's log");
}

}  // namespace

Status check_file(int fd, std::uint64_t bytes, Sealed sealed, std::string_view what) {
  struct stat about;
  if (::fstat(fd, &about) != 0)
    return fail_os(errno, fmt::format("could not look at the file of the {}", what));
  if (!S_ISREG(about.st_mode)) return broken(what, "is not a regular file");
  if (bytes == 0 || about.st_size < 0 || static_cast<std::uint64_t>(about.st_size) != bytes)
    return broken(what, fmt::format("has {} bytes where {} were announced", about.st_size, bytes));
  int wanted = seals_of(sealed);
  if (wanted == 0) return {};
  int seals = ::fcntl(fd, F_GET_SEALS);
  // A file with a name: most file systems know no seals, tmpfs says that there are none to come. A memfd has
  // no name.
  bool takes_none = seals < 0 || seals == F_SEAL_SEAL;
  if (takes_none && about.st_nlink > 0) return {};
  if (seals < 0) return broken(what, "can't be sealed");
  if ((seals & wanted) != wanted)
    return broken(what, fmt::format("lacks seals (it has {:#x}, {:#x} are needed)", seals, wanted));
  return {};
}

Status check_allocated(int fd, std::uint64_t bytes, std::string_view what) {
  struct stat about;
  if (::fstat(fd, &about) != 0)
    return fail_os(errno, fmt::format("could not look at the file of the {}", what));
  std::uint64_t behind = static_cast<std::uint64_t>(about.st_blocks) * 512;
  if (behind < bytes)
    return broken(what, fmt::format("has memory for {} of its {} bytes only", behind, bytes));
  return {};
}

Result<Mapping> map_checked(int fd, std::uint64_t bytes, Access access, Sealed sealed, std::string_view what,
                            const std::shared_ptr<guard::Key>& key) {
  BAILEY_TRY(check_file(fd, bytes, sealed, what));
  return key != nullptr ? guard::map_guarded(key, fd, bytes, access) : Mapping::of_file(fd, bytes, access);
}

}  // namespace bailey::session
