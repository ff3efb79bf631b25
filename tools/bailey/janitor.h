// The janitor: a session like any other, started by the keeper, that compacts what dead writers left where no
// living writer does.
#pragma once

#include <string>

namespace bailey::tools {

// For a process of its own, a child of the keeper. Runs until the broker ends it; returns, with an exit
// status, where it can't go on.
int run_janitor(const std::string& socket_path);

}  // namespace bailey::tools
