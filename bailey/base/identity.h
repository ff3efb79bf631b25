// Who a process is, for liveness: never a bare pid, which is reused and means nothing in another namespace.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>

#include "bailey/base/error.h"

namespace bailey {

// Boot id + start time + 128 random bits. Two processes never share one; a fork gets its own.
struct ProcessIdentity {
  std::array<std::uint8_t, 16> boot{};  // /proc/sys/kernel/random/boot_id
  std::uint64_t start_ticks = 0;        // field 22 of /proc/PID/stat: clock ticks after boot
  std::array<std::uint8_t, 16> random{};

  bool operator==(const ProcessIdentity&) const = default;
  std::string to_string() const;  // hex, for logs
};

// This process's own; drawn once, drawn anew after fork. Thread-safe.
Result<ProcessIdentity> own_identity();

// The start time of a process, by the number that it has where /proc was mounted, or of this very one;
// not_found where there is none.
Result<std::uint64_t> start_ticks_of(pid_t pid);

// The id of this boot of this machine.
Result<std::array<std::uint8_t, 16>> boot_id();

// `count` bytes from the kernel's random source; aborts if there is none, since nothing safe can follow.
void random_bytes(void* out, std::size_t count);

}  // namespace bailey
