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
//   uid, gid                 by the kernel's word, as this user namespace counts
//   place.pid, start_ticks   where /proc shows the peer: it is in the pid namespace of /proc or below it
//   place.pid_namespace      where it is this process's own, or /proc/PID/ns may be read (root, or the same
//   uid
//                            and the peer is dumpable)
//   place.user_namespace     where /proc/PID/ns may be read
//   place.uid, gid           where /proc shows the peer's uid_map, and that has the id within what this user
//                            namespace maps: where the peer is in this one or below
// The rest is unknown. Nothing can be mistaken for another process's: all of it is read while a pidfd of the
// peer says that it lives. Error not_found where the peer process is gone.
Result<Seen> observe(const Connection& connection);

// Compares what a process says of itself with what another saw of it.
struct Comparison {
  std::string disagreement;  // empty where there is none, else one sentence that says what
  bool pid = false;          // whether the pid was compared
  bool ids = false;          // whether uid and gid were
};
// `observer` is where whoever saw it stands: within one namespace ids must be equal and nothing may be
// unknown; across namespaces all that is known on both sides must agree.
Comparison compare(const Place& said, const Seen& seen, const Place& observer);

}  // namespace bailey::protocol
