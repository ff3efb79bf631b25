// The kernel's id for "has none here": of whom a user namespace does not show, and of "nobody".
#pragma once

#include <sys/types.h>

namespace bailey::protocol {

// /proc/sys/kernel/overflowuid, which nobody changes.
inline constexpr uid_t overflow_id = 65534;

}  // namespace bailey::protocol
