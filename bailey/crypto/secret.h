// Small secrets: memory that is kept from swap, from core dumps and from whoever uses it next; comparison
// that takes the same time wherever two values differ.
//
// Thread safety: a Secret is for one thread at a time, reading it is for any number. The functions are
// thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"

namespace bailey::crypto {

// Whether both hold the same bytes. Takes time that depends on the lengths alone.
bool equal_secret(Bytes a, Bytes b);

// Overwrites with zeros, in a way that the compiler keeps.
void wipe(MutableBytes bytes);

// Memory of a fixed size, locked (mlock), left out of core dumps, between guard pages, wiped when it goes.
// A forked child has a copy; the lock is not inherited (the kernel's rule), the wiping is.
class Secret {
 public:
  // Error no_space where the memory can't be locked: a key that may reach the swap is not handed out.
  static Result<Secret> of_bytes(std::size_t bytes);

  Secret() = default;
  Secret(Secret&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Secret& operator=(Secret&& other) noexcept {
    if (this != &other) {
      reset();
      data_ = std::exchange(other.data_, nullptr);
      size_ = std::exchange(other.size_, 0);
    }
    return *this;
  }
  ~Secret() { reset(); }

  MutableBytes span() { return {data_, size_}; }
  Bytes span() const { return {data_, size_}; }
  void reset();

 private:
  Secret(std::byte* data, std::size_t size) : data_(data), size_(size) {}
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace bailey::crypto
