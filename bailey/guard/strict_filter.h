// The filters of system calls of `bailey exec --strict`.
//
// Three, so that the kernel's order of precedence joins them: a refusal comes before the usher's question.
// The kernel adds them up; none is ever taken off, and fork keeps them.
//
// Thread safety: they bind the calling thread; for a process of one thread.
#pragma once

#include <cstdint>

#include "bailey/base/error.h"
#include "bailey/base/fd.h"

namespace bailey::guard {

// What the whole life of the process is held to: all that could re-tag, remap or read around the window.
// Sets no_new_privs. Error unsupported where the kernel has no such filters.
Status refuse_ways_around();

// Asks the holder of the returned descriptor about each executable mapping of a file (seccomp_unotify(2)).
// Nobody holds it any more: ENOSYS.
Result<Fd> ask_about_executable_mappings();

// The filter with which the agent ends the start: no new executable page, no other program, no more filters.
// A sealed file of sock_filter[].
Result<Fd> lock_filter();

}  // namespace bailey::guard
