// Time, in nanoseconds.
#pragma once

#include <time.h>

#include <cstdint>

namespace bailey {

// Never goes back; zero is some moment of this boot. For durations and deadlines.
inline std::uint64_t monotonic_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

// Since 1970, UTC. For logs, audit and expiry; may jump.
inline std::uint64_t wall_ns() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace bailey
