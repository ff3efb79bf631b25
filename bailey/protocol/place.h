// Where a process stands, seen by itself and seen from outside.
//
// Ids mean something within a namespace only. A Place has a process's ids as the process itself counts them;
// `observe` works them out from outside, so that two views of one process can be compared across namespaces.
//
// Thread-safe: functions of their arguments.
#pragma once

#include <string>

#include "bailey/base/error.h"
#include "bailey/protocol/messages.h"
#include "bailey/protocol/socket.h"

namespace bailey::protocol {

// This process. The start time is read through /proc/self, so that it is right even where /proc belongs to
// an outer pid namespace.
Result<Place> own_place();

// The other end of a connection, as far as this process can see it:
//   pid, start_ticks   where the peer is in this pid namespace or in one below it; unknown otherwise
//   pid_namespace      likewise; below this one, where /proc/PID/ns may be read (root, or the same uid)
//   user_namespace     where /proc/PID/ns may be read
//   uid, gid           translated by the peer's uid_map where it is in another user namespace; unknown where
//                      the kernel only says "overflow"
// Error not_found where the peer process is gone.
Result<Place> observe(const Connection& connection);

// Compares what a process says of itself with what was observed of it. Every field that is known on both
// sides must agree. The answer is empty where it does, else one sentence that says what does not.
std::string disagreement(const Place& said, const Place& observed);

}  // namespace bailey::protocol
