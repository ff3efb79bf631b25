// Paths of sockets; socket.cc's and listener.cc's own.
#pragma once

#include <sys/un.h>

#include <string>

#include "bailey/base/error.h"

namespace bailey::protocol {

// Error too_large where the path does not fit into an address, which has room for 107 bytes.
Result<sockaddr_un> socket_address(const std::string& path);

// The folder that a path is in: "." where it names none.
std::string folder_of(const std::string& path);

}  // namespace bailey::protocol
