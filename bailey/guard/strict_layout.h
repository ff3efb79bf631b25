// What `bailey exec --strict`, its agent in the new program, and the window agree upon.
//
// Freestanding.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bailey::guard {

// Descriptors that the program begins with. Numbers, since a filter of system calls sees numbers alone.
//
// An empty file whose size is sealed: a place of the window that is given up maps it, for good. Whatever is
// done to such pages, they hold nothing and whoever touches them gets SIGBUS. The filter keeps this number
// from being closed or replaced.
inline constexpr int grave_fd = 1023;
inline constexpr int usher_fd =
    1022;  // agent_hello, and the usher's pid (int32) as the answer; closed at the lock
inline constexpr int lock_filter_fd = 1021;  // the filter (sock_filter[]) that the agent locks with
inline constexpr int agent_fd = 1020;        // the agent itself, for ld.so
inline constexpr int strict_fd_min = agent_fd;
inline constexpr int strict_fd_end = grave_fd + 1;

inline constexpr char agent_hello = 'h';

// env(1) and nohup(1) have it likewise: not the program's own status, but that of who should have begun it.
inline constexpr int exit_not_begun = 125;

}  // namespace bailey::guard
