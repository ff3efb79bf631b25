// Reserving memory before it is promised: a shortage is an error with a number, never a killed broker nor a
// SIGBUS much later.
//
// Two steps. First `room_for` asks what the machine, the cgroup and its parents, or the file system still
// have. That is a look, not a promise; so then an Allocation (allocator.h) takes the pages, in a process that
// the kernel kills first where the look was wrong.
//
// Thread and process safety: functions without shared state.
#pragma once

#include <cstdint>
#include <string>

#include "bailey/base/error.h"
#include "bailey/medium/file.h"

namespace bailey::medium {

// Left alone for the asker's own needs where memory is promised: its heap, page tables, the allocator.
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

}  // namespace bailey::medium
