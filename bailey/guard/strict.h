// `bailey exec --strict`: begins a program in which the window can't be re-tagged, remapped or read around by
// the program's own code, as far as the kernel can be told.
//
// Filters of system calls (strict_filter.h), an agent that ld.so loads first (strict_agent.cc), and an usher:
// a process that sees to it that ld.so does load the agent first, and ends when the start is over.
//
// For a process of one thread, which becomes the program.
#pragma once

#include <string>
#include <vector>

#include "bailey/base/error.h"

namespace bailey::guard {

// `preload`: files of libraries that the program alone is begun with (LD_PRELOAD), before those that the
// environment names. Returns only where the program was not begun; the process is not to go on then, since
// filters bind it.
Error exec_strictly(const std::vector<std::string>& arguments, const std::vector<std::string>& preload = {});

}  // namespace bailey::guard
