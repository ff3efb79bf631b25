// What the numbers were measured on. Every file of results carries it: a figure without its machine says
// nothing.
#pragma once

#include <string>
#include <vector>

namespace bailey::bench {

struct Machine {
  std::string cpu;
  unsigned cores = 0;
  std::string kernel;
  std::string memory;
  std::string compiler;
  std::string build;       // "release", or what makes the figures slower
  std::string hypervisor;  // "none" or "yes"
  // "no", or what is not real here: the CPU, or a delay that a medium adds. Such figures rank, and never
  // certify.
  std::string emulated;

  // "key: value", one a line, without the comment sign.
  std::vector<std::string> lines() const;
};

// Reads what /proc and the compiler tell. `medium_emulates` names what a medium's options emulate, or is
// empty.
Machine this_machine(const std::string& medium_emulates = {});

}  // namespace bailey::bench
