// What an attacker gets out of each object of the `process` rung: the cells of the table in
// docs/threat-model.md, as a machine with the usual settings shows them, and what this machine does
// otherwise.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "attack/attacker.h"

namespace bailey::attack {

// Object, attacker, then a cell for each of file_attempts or process_attempts.
template <std::size_t attempts>
using Row = std::array<std::string_view, attempts + 2>;
template <std::size_t attempts>
using Rows = std::vector<Row<attempts>>;

constexpr std::string_view same = "same uid", other = "other uid", root = "root";
constexpr std::string_view by_same = "not stopped: same uid", by_root = "not stopped: root",
                           by_right = "not stopped: a writer's right";

extern const Rows<file_attempts.size()> file_rows;
extern const Rows<process_attempts.size()> process_rows;

struct Machine {
  int yama = -1;            // kernel.yama.ptrace_scope; -1: there is none
  std::string pidfd_getfd;  // errno with which it fails on a descriptor of one's own; empty: it works
  std::uint64_t capabilities = 0;

  static Machine look();
  std::string to_string() const;
  // Why this attacker can't be played here; empty: it can.
  std::string cannot_be(std::string_view attacker) const;
  // What a cell of the table comes to here.
  std::string_view here(std::string_view attempt, std::string_view cell) const;
  // Whether processes of one uid may attach to each other here.
  bool same_uid_attaches() const { return yama <= 0 && pidfd_getfd.empty(); }

 private:
  bool has(unsigned capability) const { return (capabilities >> capability & 1) != 0; }
};

// Looked at once.
const Machine& machine();

}  // namespace bailey::attack
