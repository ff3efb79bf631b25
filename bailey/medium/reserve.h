// Reserving memory before it is promised: a shortage is an error with a number, never a killed broker nor a
// SIGBUS much later.
//
// Two steps. First `room_for` asks what the machine, the cgroup and its parents, or the file system still
// have. That is a look, not a promise; so then an Allocation takes the pages, in a child process that the
// kernel kills first where the look was wrong.
//
// Process safety: no shared state. Not thread-safe: an Allocation forks, which is for single-threaded
// programs.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "bailey/base/error.h"
#include "bailey/base/fd.h"
#include "bailey/medium/file.h"

namespace bailey::medium {

// Left alone for the asker's own needs where memory is promised: its heap, page tables, the sacrificial
// child.
inline constexpr std::uint64_t headroom_bytes = 8u << 20;

struct Room {
  std::uint64_t bytes = 0;
  std::string limit;  // whose: "MemAvailable", "memory limit of the cgroup /a/b", "free space of /var/lib"
};

// What can be had at the place now, after the headroom. `root` is prefixed to /proc and /sys paths.
Result<Room> room_at(const Place& place, const std::string& root = {});

// Error no_space, with whose limit and how many bytes are missing, where `bytes` and what is `promised`
// already but not taken can't be had. `what` says what they are for ("a segment of region orders").
Status room_for(const Place& place, std::uint64_t bytes, std::uint64_t promised, const std::string& what);

// Pages being taken for a whole file, by a child process. Ends the child when it goes.
class Allocation {
 public:
  Allocation() = default;
  Allocation(Allocation&& other) noexcept;
  Allocation& operator=(Allocation&& other) noexcept;
  ~Allocation();

  // `copy_from`: a file as large, whose bytes are copied once the pages are there; -1 for zeros.
  static Result<Allocation> start(const Place& place, int fd, std::uint64_t bytes, int copy_from = -1);

  // Readable once finish() will not block.
  int pidfd() const { return pidfd_.get(); }
  // Waits, and says how it went: no_space where the kernel killed the child or had no more.
  Status finish(const std::string& what);

 private:
  void end();
  pid_t child_ = -1;
  Fd pidfd_;
  std::uint64_t bytes_ = 0;
};

// room_for, start and finish in one.
Status allocate(const Place& place, int fd, std::uint64_t bytes, const std::string& what);

}  // namespace bailey::medium
