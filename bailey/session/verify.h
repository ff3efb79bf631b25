// Checks of what the broker hands over, before anything of it is mapped or used.
//
// Thread-safe: functions of their arguments.
#pragma once

#include <cstdint>
#include <string_view>

#include "bailey/base/error.h"
#include "bailey/base/fd.h"
#include "bailey/guard/keys.h"

namespace bailey::session {

// Files of a pool in a file system (`file:`) take no seals at all: what holds there is that others were given
// descriptors that can only read. The posture says so, and such files are accepted as they are; a memfd never
// is.
//
// What must be sealed into a file when it is handed over.
enum class Sealed : std::uint8_t {
  not_by_now,  // the broker seals it once its writer has mapped it
  size,        // nobody can shrink it (which would be SIGBUS later), grow it or change the seals
  writes,      // and nobody can come to write it who does not yet: its one writer stays its one writer
};

// That `fd` is a regular file of exactly `bytes` bytes with these seals. `what` names it in the error:
// "index". Error corrupt, by the peer: the broker broke its promise.
Status check_file(int fd, std::uint64_t bytes, Sealed sealed, std::string_view what);

// That all of the file has memory or disk behind it, so that a later store can't fail for want of it
// (SIGBUS).
Status check_allocated(int fd, std::uint64_t bytes, std::string_view what);

// Checks, then maps the whole file; with a key, where there is one.
Result<Mapping> map_checked(int fd, std::uint64_t bytes, Access access, Sealed sealed, std::string_view what,
                            const std::shared_ptr<guard::Key>& key = nullptr);

}  // namespace bailey::session
