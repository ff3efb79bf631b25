#include "bailey/crypto/secret.h"

#include <fmt/format.h>
#include <sodium.h>

#include <cerrno>

namespace bailey::crypto {

bool equal_secret(Bytes a, Bytes b) {
  return a.size() == b.size() && sodium_memcmp(a.data(), b.data(), a.size()) == 0;
}

void wipe(MutableBytes bytes) { sodium_memzero(bytes.data(), bytes.size()); }

Result<Secret> Secret::of_bytes(std::size_t bytes) {
  BAILEY_ASSERT(sodium_init() >= 0);
  void* data = sodium_malloc(bytes);
  if (data == nullptr)
    return fail(Code::no_space, By::kernel, fmt::format("no memory for a secret of {} bytes", bytes));
  // sodium_malloc() locks too, but goes on where it can't; so it is asked for here, where it can be told.
  if (sodium_mlock(data, bytes) != 0) {
    int os = errno;
    sodium_free(data);
    return std::unexpected(Error{Code::no_space, By::kernel, os,
                                 fmt::format("could not lock {} bytes for a secret in memory", bytes),
                                 "raise the limit of locked memory (ulimit -l) by 64 KiB"});
  }
  sodium_memzero(data, bytes);
  return Secret(static_cast<std::byte*>(data), bytes);
}

void Secret::reset() {
  sodium_free(data_);  // wipes; a null pointer is fine
  data_ = nullptr;
  size_ = 0;
}

}  // namespace bailey::crypto
