// Owners of descriptors and mappings.
//
// Thread safety: an object is for one thread at a time.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"

namespace bailey {

// Closes its descriptor. -1 is "none".
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~Fd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset();

  // A second descriptor of the same open file description, close-on-exec.
  Result<Fd> duplicate() const;

 private:
  int fd_ = -1;
};

enum class Access { read_only, read_write };

// A shared mapping of a whole file from offset 0, or of anonymous memory; unmapped when it goes.
// Read-write mappings are not inherited by a forked child (MADV_DONTFORK) unless `inherit` says so: a child
// that could write in its parent's name would break "one writer a file".
class Mapping {
 public:
  enum class Fork { dropped, inherited };

  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        release_(other.release_) {}
  Mapping& operator=(Mapping&& other) noexcept {
    if (this != &other) {
      reset();
      base_ = std::exchange(other.base_, nullptr);
      size_ = std::exchange(other.size_, 0);
      release_ = other.release_;
    }
    return *this;
  }
  ~Mapping() { reset(); }

  // Error: io with errno (EPERM where a seal refuses, ENOMEM, EACCES ...).
  static Result<Mapping> of_file(int fd, std::size_t bytes, Access access, Fork fork = Fork::dropped);
  static Result<Mapping> anonymous(std::size_t bytes, Fork fork = Fork::inherited);
  // Takes over what somebody else mapped and knows how to unmap.
  using Release = void (*)(std::byte* base, std::size_t size);
  static Mapping of_memory(std::byte* base, std::size_t bytes, Release release) {
    return Mapping(base, bytes, release);
  }

  std::byte* data() const { return base_; }
  std::size_t size() const { return size_; }
  MutableBytes span() const { return {base_, size_}; }
  explicit operator bool() const { return base_ != nullptr; }
  void reset();

 private:
  Mapping(std::byte* base, std::size_t size, Release release) : base_(base), size_(size), release_(release) {}
  std::byte* base_ = nullptr;
  std::size_t size_ = 0;
  Release release_ = nullptr;
};

// The size of the file behind `fd`, in bytes.
Result<std::size_t> file_bytes(int fd);

// Takes the lock of a file for this open file description, which forked children share. Waits up to a second
// for it: a process that was killed holds its locks until the kernel has taken it down. False, with errno
// (EWOULDBLOCK), where somebody has it still.
bool lock_file(int fd);

// The whole of a small file, at most `bytes_max`; error too_large beyond.
Result<std::string> read_file(const std::string& path, std::size_t bytes_max = 1 << 20);

}  // namespace bailey
