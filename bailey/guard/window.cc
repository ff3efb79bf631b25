#include "bailey/guard/window.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>

namespace bailey::guard {
namespace {

// 0, or the errno of the kernel's refusal.
int reserve() {
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

}  // namespace bailey::guard
