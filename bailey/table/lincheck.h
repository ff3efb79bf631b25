// A linearizability checker for recorded histories of a key-value table.
//
// A history is linearizable where every operation can be given one instant between its start and its end, so
// that the operations done one after the other in that order give the outcomes that were seen. This holds for
// a table exactly where it holds for each key alone, so keys are checked one by one, each as a register that
// is absent or has a value with a version.
//
// The search walks over the starts and ends of one key in time order and keeps the set of all configurations
// that are possible so far: the register's state, and which of the operations now open have had their
// instant. An operation is given its instant only when the end of one forces it. The set stays small, since
// only as many operations are open as there are processes, plus those that never ended.
//
// A version that put_if_version asks for is one that the history shows somebody was told; any other was never
// there. Two clock readings that are equal count as concurrent. Thread safety: none is needed, there is no
// shared state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace bailey::table {

enum class Action : std::uint8_t {
  get,
  put,
  insert,
  update,
  put_if_version,
  erase,
  scan,  // a whole one, of all keys: for scancheck; here only its items count, which are gets
};

enum class Outcome : std::uint8_t {
  ok,
  not_found,
  exists,            // insert
  version_mismatch,  // put_if_version
  no_effect,         // refused before anything could happen: no_space, too_large ...
  unknown,           // contended, revoked, or its process died: it happened in its interval, or it never did
};

// An operation that never ended.
inline constexpr std::uint64_t never_ns = ~std::uint64_t{0};

struct Operation {
  std::uint64_t start_ns = 0;
  std::uint64_t end_ns = never_ns;
  std::uint64_t key = 0;
  std::uint64_t written = 0;   // id of the value that a write brings; no two writes of a key have the same
  std::uint64_t expected = 0;  // put_if_version: the version asked for, 0 for "absent"
  std::uint64_t observed = 0;  // get: id of the value found
  std::uint64_t version = 0;   // of the value found or written where ok; 0 where not known
  std::uint32_t process = 0;
  std::uint32_t scan = 0;  // of its process: which whole scan this is, or came in; 0 for none
  Action action = Action::get;
  Outcome outcome = Outcome::unknown;
};

enum class Verdict : std::uint8_t {
  linearizable,
  violation,
  undecided,  // the search went over its bound, or the history makes no sense; never a pass
};

struct LincheckLimits {
  std::size_t configurations_max = 4096;    // at one moment of one key
  std::uint64_t steps_max = 2'000'000'000;  // comparisons of configurations, over the whole history
  std::size_t window_operations_max = 24;   // shown of a violation
};

struct LincheckReport {
  Verdict verdict = Verdict::linearizable;
  std::uint64_t key = 0;           // of the first violation
  std::size_t operations = 0;      // checked, over all keys
  std::size_t configurations = 0;  // the most that there were at one moment
  std::string text;                // for people: what is impossible, and the operations around it
};

// All keys are absent at first. The history may be in any order.
LincheckReport lincheck(std::span<const Operation> history, const LincheckLimits& limits = {});

// One line for people; times are relative to `zero_ns`.
std::string describe(const Operation& operation, std::uint64_t zero_ns);

}  // namespace bailey::table
