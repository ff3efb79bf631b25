#include "bailey/guard/window.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <iterator>

#include "bailey/base/bytes.h"
#include "bailey/guard/strict_layout.h"

namespace bailey::guard {
namespace {

constexpr std::size_t place_bytes = 2u << 20;
constexpr std::size_t nothing_bytes = 4096;

std::size_t whole_place(std::size_t bytes) { return round_up(bytes + nothing_bytes, place_bytes); }

// Whether `bailey exec --strict` began this process: it has the grave then.
bool is_strict() {
  static const bool strict = [] {
    struct stat status;
    return ::fcntl(grave_fd, F_GET_SEALS) == (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) &&
           ::fstat(grave_fd, &status) == 0 && status.st_size == 0;
  }();
  return strict;
}

// 0, or the errno of the kernel's refusal.
int reserve() {
  if (is_strict()) return 0;
  void* const wanted = reinterpret_cast<void*>(window_base);
  void* got = ::mmap(wanted, window_bytes, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (got == MAP_FAILED) return errno;
  if (got == wanted) return 0;
  // A kernel older than 4.17 takes the address for a hint.
  ::munmap(got, window_bytes);
  return EEXIST;
}

}  // namespace

Status reserve_window() {
  static const int failed = reserve();
  if (failed == 0) return {};
  return std::unexpected(
      Error{Code::unsupported, By::kernel, failed,
            fmt::format("could not reserve the addresses {:#x} to {:#x} for guarded memory", window_base,
                        window_base + window_bytes),
            "nothing else may be mapped there, and ulimit -v must allow it"});
}

int flag_of_a_place() { return is_strict() ? MAP_FIXED_NOREPLACE : MAP_FIXED; }

Result<std::byte*> Places::take(std::size_t bytes) {
  const std::size_t whole = whole_place(bytes);
  for (auto hole = free_.begin(); bytes < window_bytes && hole != free_.end(); ++hole) {
    auto [at, room] = *hole;
    if (room < whole) continue;
    free_.erase(hole);
    if (room > whole) free_.emplace(at + whole, room - whole);
    return reinterpret_cast<std::byte*>(at);
  }
  return fail(Code::no_space, By::library,
              fmt::format("the window of guarded memory has no {} bytes left", bytes),
              "close regions that are not in use");
}

void Places::give_back(std::byte* at, std::size_t bytes) {
  const std::size_t whole = whole_place(bytes);
  if (is_strict()) {
    // By its offset each grave adjoins the next, so that the kernel makes one mapping of them.
    ::mmap(at, whole, PROT_NONE, MAP_SHARED | MAP_FIXED, grave_fd,
           static_cast<off_t>(reinterpret_cast<std::uintptr_t>(at) - window_base));
    return;
  }
  // Where the kernel refuses (it has no memory for the change), what lies there stays, and so the place is
  // lost.
  if (::mmap(at, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) ==
      MAP_FAILED)
    return;
  auto [hole, fresh] = free_.emplace(reinterpret_cast<std::uintptr_t>(at), whole);
  BAILEY_ASSERT(fresh);
  if (auto next = std::next(hole); next != free_.end() && hole->first + hole->second == next->first) {
    hole->second += next->second;
    free_.erase(next);
  }
  if (hole == free_.begin()) return;
  if (auto before = std::prev(hole); before->first + before->second == hole->first) {
    before->second += hole->second;
    free_.erase(hole);
  }
}

}  // namespace bailey::guard
