// The broker's line to its keeper, which holds descriptors while brokers come and go.
//
// One datagram a message: a word, a space, a text, and with "hold" a descriptor. Both ends are ours; the
// keeper still refuses what it does not understand.
//
//   broker -> keeper   hold NAME (+ descriptor)   drop NAME   ready   reread
//                      failed TEXT
//
// What was sent before the broker died is read by the keeper before it starts the next one, so nothing is
// acknowledged.
#pragma once

#include <map>
#include <string>

#include "bailey/base/error.h"
#include "bailey/base/fd.h"
#include "bailey/protocol/socket.h"

namespace bailey::broker {

using Held = std::map<std::string, Fd, std::less<>>;

class Hold {
 public:
  explicit Hold(protocol::Connection connection) : connection_(std::move(connection)) {}

  // The keeper gets a copy, in place of what it held under this name before. Error: unavailable where it is
  // gone or does not read.
  Status hold(const std::string& name, int fd);
  Status drop(const std::string& name);
  Status ready();
  Status reread();  // the policy file, after a hang-up
  Status failed(const std::string& text);

 private:
  Status say(const std::string& text, std::span<const int> fds);
  protocol::Connection connection_;
};

}  // namespace bailey::broker
