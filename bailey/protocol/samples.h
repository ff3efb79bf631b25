// One message of each kind with every field filled in: what the tests send around and what the fuzzers start
// from.
#pragma once

#include <vector>

#include "bailey/protocol/messages.h"

namespace bailey::protocol {

std::vector<Request> sample_requests();
std::vector<Reply> sample_replies();

}  // namespace bailey::protocol
