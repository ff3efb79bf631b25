#include "bailey/session/alive.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace bailey::session {
namespace {
constexpr std::size_t page_bytes = 4096;
}

Result<Alive> Alive::create() {
  void* page = ::mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return fail_os(errno, "could not map a page for the session");
  if (::madvise(page, page_bytes, MADV_WIPEONFORK) != 0) {
    ::munmap(page, page_bytes);
    return fail(Code::unsupported, By::kernel,
                "this kernel can't wipe a page in forked children (MADV_WIPEONFORK)",
                "run Linux 4.14 or newer");
  }
  auto* words = static_cast<Page*>(page);
  words->alive = 1;
  words->own_process = 1;
  return Alive(words);
}

Alive::Alive(Alive&& other) noexcept : page_(std::exchange(other.page_, nullptr)) {}

Alive::~Alive() {
  if (page_ != nullptr) ::munmap(page_, page_bytes);
}

}  // namespace bailey::session
