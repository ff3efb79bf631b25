#include "attack/attack.h"

namespace bailey::attack {

Came in_hostile(const Attacker& attacker, std::vector<int> kept, const std::function<Came()>& act) {
  const std::string said = in_attacker(attacker, std::move(kept), [&] {
    Came came;
    try {
      came = act();
    } catch (const std::exception& thrown) {
      came = Came::broken(thrown.what());
    }
    return std::string(1, static_cast<char>('0' + static_cast<int>(came.kind))) + came.seen;
  });
  if (said.starts_with("SIG")) return Came::stopped(said);
  if (said.empty() || said[0] < '0' || said[0] > '3') return Came::broken(said);
  return {static_cast<Came::Kind>(said[0] - '0'), said.substr(1)};
}

void Group::operator()(const std::string& attack, std::string what, std::string mechanism,
                       std::string expected, std::function<Came(const Ground&)> act) const {
  attacks.push_back({.name = name + "/" + attack,
                     .what = std::move(what),
                     .rung = "process",
                     .mechanism = std::move(mechanism),
                     .expected = {std::move(expected)},
                     .known = {},
                     .act = std::move(act)});
}
void Group::known(const std::string& attack, std::string what, std::string by,
                  std::function<Came(const Ground&)> act) const {
  attacks.push_back({.name = name + "/" + attack,
                     .what = std::move(what),
                     .rung = "process",
                     .mechanism = "",
                     .expected = {},
                     .known = std::move(by),
                     .act = std::move(act)});
}
void Group::canary(const std::string& attack, std::string what,
                   std::function<Came(const Ground&)> act) const {
  attacks.push_back({.name = "canary/" + name + "-" + attack,
                     .what = std::move(what),
                     .rung = "none",
                     .mechanism = "nothing",
                     .expected = {},
                     .known = {},
                     .act = std::move(act)});
}

const Attacks& all_attacks() {
  static const Attacks attacks = [] {
    Attacks all;
    add_files(all);
    add_waiting(all);
    add_bounds(all);
    add_processes(all);
    add_tokens(all);
    add_strict(all);
    add_windows(all);
    add_pkey(all);
    add_medium(all);
    return all;
  }();
  return attacks;
}

}  // namespace bailey::attack
