// The usher: sits beside the start of a strict program, and lets it map code only once the agent has come.
//
// ld.so goes on without an audit module that it can't load. Nothing executable is mapped unless the usher
// says so, and the first that it lets through is the agent.
#pragma once

#include "bailey/base/error.h"
#include "bailey/base/fd.h"

namespace bailey::guard {

// Forks it; nobody's child. It waits for the listener (give_listener) on the other end of the returned
// socket, hears the agent on it, and ends when that is closed.
Result<Fd> call_usher(int agent_file);
// Hands over the descriptor of ask_about_executable_mappings().
Status give_listener(const Fd& usher, Fd listener);

}  // namespace bailey::guard
