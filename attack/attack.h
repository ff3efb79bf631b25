// An attack: a name, what it is expected to come to, and the act.
//
// Each runs in a forked process of its own, the stage, which sets up what is attacked and forks the hostile
// act (in_attacker). The suite ends a stage that takes too long, and with it all that the stage started; what
// the stage leaves in its folder goes with the folder.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "attack/courtyard.h"

namespace bailey::attack {

// What came of an attack.
struct Came {
  enum class Kind : std::uint8_t {
    stopped,  // `seen` is what it met: an errno, a signal, an error's code and whose word it is
    through,  // it got what it was after
    skipped,  // it can't be tried here; `seen` says why
    broken    // the set-up failed: nothing was shown
  };
  Kind kind = Kind::broken;
  std::string seen;

  static Came stopped(std::string seen) { return {Kind::stopped, std::move(seen)}; }
  static Came through(std::string seen) { return {Kind::through, std::move(seen)}; }
  static Came skipped(std::string why) { return {Kind::skipped, std::move(why)}; }
  static Came broken(std::string why) { return {Kind::broken, std::move(why)}; }
  // An error that the broker or the library answered with.
  static Came stopped_by(const Error& error) {
    return stopped(fmt::format("{}, by the {}", bailey::name(error.code), bailey::name(error.by)));
  }
};

// What the stage is given.
struct Ground {
  std::string folder;                    // of this attack alone, empty
  const Courtyard* courtyard = nullptr;  // where the attack asks for it
};

struct Attack {
  std::string name;                   // "GROUP/..."
  std::string what;                   // one line
  std::string rung;                   // that is in force: "process", ...; "none" for a canary
  std::string mechanism;              // what stops it, or would
  std::vector<std::string> expected;  // what is seen: one of these; empty: anything that stops it
  // Not empty: it gets through on this rung, and this is what stops it: another rung, or what an admin can
  // do.
  std::string known;
  bool in_courtyard = false;  // needs Ground::courtyard
  std::function<Came(const Ground&)> act;
  unsigned seconds = 20;  // at most

  // An unprotected target, on which it must get through, or the suite would not see success either.
  bool canary() const { return rung == "none"; }
  bool gets_through() const { return canary() || !known.empty(); }
};

using Attacks = std::vector<Attack>;

// Runs `act` as a hostile process, with these descriptors. A signal that ends it stopped it.
Came in_hostile(const Attacker& attacker, std::vector<int> kept, const std::function<Came()>& act);

// Adds attacks of one group, on the rung `process`.
struct Group {
  Attacks& attacks;
  std::string name;

  void operator()(const std::string& attack, std::string what, std::string mechanism, std::string expected,
                  std::function<Came(const Ground&)> act) const;
  // Gets through; `by` is what stops it.
  void known(const std::string& attack, std::string what, std::string by,
             std::function<Came(const Ground&)> act) const;
  // "canary/NAME-...", on a target that nothing protects.
  void canary(const std::string& attack, std::string what, std::function<Came(const Ground&)> act) const;
};

// The groups, each in a file of its name. To add one: its function here and its line in groups.cc.
void add_files(Attacks& attacks);
void add_waiting(Attacks& attacks);
void add_bounds(Attacks& attacks);
void add_processes(Attacks& attacks);
void add_tokens(Attacks& attacks);
void add_strict(Attacks& attacks);
void add_windows(Attacks& attacks);
void add_pkey(Attacks& attacks);
void add_medium(Attacks& attacks);

// All of them.
const Attacks& all_attacks();

}  // namespace bailey::attack
