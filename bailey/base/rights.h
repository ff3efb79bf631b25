// Descriptors in a message of a Unix socket (SCM_RIGHTS).
//
// Calls nothing that allocates: for a child of a fork too. Thread safety: an object is for one thread at a
// time.
#pragma once

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "bailey/base/error.h"

namespace bailey {

// The control part of a message, with room for `most` descriptors. It outlives the message's call.
template <std::size_t most>
class Rights {
 public:
  // Before sendmsg(): these go along, at least one.
  void put(msghdr& message, std::span<const int> fds) {
    BAILEY_ASSERT(!fds.empty() && fds.size() <= most);
    message.msg_control = space_.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    std::fill_n(space_.begin(), message.msg_controllen, '\0');
    cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(part), fds.data(), fds.size_bytes());
  }

  // Before recvmsg(): up to `limit` are taken, at least one; of more the kernel closes the rest and says
  // MSG_CTRUNC.
  void expect(msghdr& message, std::size_t limit = most) {
    BAILEY_ASSERT(limit > 0 && limit <= most);
    message.msg_control = space_.data();
    // Not CMSG_SPACE: its padding has room for one descriptor more than allowed.
    message.msg_controllen = CMSG_LEN(sizeof(int) * limit);
  }

 private:
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * most)> space_;
};

// After recvmsg(): `take` gets each descriptor that came, and owns it. There is one such part in a message,
// but a loop costs nothing and leaks none.
template <class Take>
void take_rights(msghdr& message, const Take& take) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t n = 0; n < count; ++n) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + n * sizeof fd, sizeof fd);
      take(fd);
    }
  }
}

}  // namespace bailey
