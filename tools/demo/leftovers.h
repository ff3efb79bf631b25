// What Bailey has left by name in the places where such things are left: /dev/shm, /run, $XDG_RUNTIME_DIR,
// /tmp.
#pragma once

#include <set>
#include <string>
#include <vector>

namespace bailey::demo {

// Folders that exist and are looked at, each once.
std::vector<std::string> places();
// Entries of theirs with "bailey" in the name, with their paths.
std::set<std::string> named_entries();

}  // namespace bailey::demo
