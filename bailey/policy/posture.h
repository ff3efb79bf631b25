// The posture: for each region what protection is asked, what is in force and by whose word, and what is not
// stopped.
//
// It is made from the policy and from facts that the caller observed. It claims nothing that no mechanism
// holds: what rests on a client's good will says so.
//
// Thread safety: pure functions over const values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bailey/policy/policy.h"

namespace bailey::policy {

// Whose word it is that a protection holds.
enum class Word : std::uint8_t {
  kernel = 1,  // holds against hostile code in the clients
  broker = 2,  // holds while the broker is honest: it gives nothing to whom nothing is granted
  client = 3,  // holds for honest clients alone
  nobody = 4,  // not in force
};
std::string_view name(Word word);

struct Holding {
  std::string what;  // "process: writes into another's segment"
  Word word = Word::nobody;
  std::string how;  // the mechanism, or why it is not in force
};

struct RegionPosture {
  std::string region;
  std::string kind;
  Mode mode = Mode::exclusive;
  std::string medium;                    // "memory"
  std::vector<Protection> protections;   // asked, and whether in force
  std::vector<Holding> holds;            // what is held, the strongest first, then what is asked and lacking
  std::vector<std::string> not_stopped;  // whole sentences
};

struct PostureFacts {
  std::uint32_t broker_uid = 0;
  // Sessions run under the broker's uid now, or two principals under one: what one uid means is then said
  // first.
  bool one_uid = false;
};

// One region, or all in the policy's order. one_uid is also taken as true where the policy itself puts two
// principals, or a principal and the broker, under one uid.
RegionPosture posture_of(const Policy& policy, const Region& region, const PostureFacts& facts);
std::vector<RegionPosture> posture(const Policy& policy, const PostureFacts& facts);

// For people, one line each, no line break inside.
std::vector<std::string> lines(const RegionPosture& posture);

// For machines: one row a fact, all columns always there.
struct PostureRow {
  std::string region;
  std::string column;  // "asked", "holds" or "not_stopped"
  std::string what;    // protection or sentence
  bool in_force = false;
  std::string word;  // "kernel", "broker", "client", "nobody"
  std::string note;
};
std::vector<PostureRow> rows(const RegionPosture& posture);

}  // namespace bailey::policy
