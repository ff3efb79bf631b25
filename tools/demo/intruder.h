// Clients that do not keep to the rules: they speak to the broker and the kernel without the library's
// manners.
//
// What is shown here is what the kernel answers to code that somebody else wrote; the library's own refusals
// hold honest clients alone.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "bailey/base/error.h"
#include "tools/demo/attempt.h"

namespace bailey::demo {

// As a principal that may read the region: takes the descriptors that the broker gives for reading, and tries
// to write. Error: where it did not even come to have them.
Result<std::vector<Attempt>> attack_as_reader(const std::string& socket, const std::string& broker_key,
                                              const std::string& key_file, const std::string& region);

// As a principal without grants: tries to get at memory of the broker and of a client past the protocol.
std::vector<Attempt> attack_from_outside(pid_t broker, pid_t client);

}  // namespace bailey::demo
