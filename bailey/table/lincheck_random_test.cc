// The checker on histories that are drawn by chance: small ones against trying every order, large ones of a
// simulated table, right and spoiled, and how long it takes.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <tuple>
#include <vector>

#include "bailey/base/clock.h"
#include "bailey/table/lincheck.h"

namespace bailey::table {
namespace {

// Small histories of arbitrary outcomes, decided by trying every order. Says nothing clever, so it is right.
class EveryOrder {
 public:
  explicit EveryOrder(const std::vector<Operation>& operations)
      : operations_(operations), used_(operations.size()) {}
  bool fits() { return try_next(State{}); }

 private:
  struct State {
    std::uint64_t value = 0;  // 0 is absent
    std::uint64_t version = 0;
  };

  bool try_next(State state) {
    std::uint64_t first_end = never_ns;
    bool all_required_done = true;
    for (std::size_t i = 0; i < operations_.size(); ++i) {
      if (used_[i] || operations_[i].outcome == Outcome::unknown) continue;
      all_required_done = false;
      first_end = std::min(first_end, operations_[i].end_ns);
    }
    if (all_required_done) return true;
    for (std::size_t i = 0; i < operations_.size(); ++i) {
      const Operation& op = operations_[i];
      if (used_[i] || op.start_ns > first_end) continue;
      if (op.outcome == Outcome::unknown && op.end_ns < last_start_before(i)) continue;
      const std::optional<State> after = apply(op, state);
      if (!after) continue;
      used_[i] = true;
      order_.push_back(i);
      if (try_next(*after)) return true;
      order_.pop_back();
      used_[i] = false;
    }
    return false;
  }
  // The latest start among those that are ordered before: this one must not have ended by then.
  std::uint64_t last_start_before(std::size_t) const {
    std::uint64_t latest = 0;
    for (std::size_t i : order_) latest = std::max(latest, operations_[i].start_ns);
    return latest;
  }
  static std::optional<State> apply(const Operation& op, State state) {
    const State written{op.written, op.written};  // the tests below give values their id as version
    const bool happened = op.outcome == Outcome::ok || op.outcome == Outcome::unknown;
    const auto only_if = [](bool condition, State after) {
      return condition ? std::optional(after) : std::nullopt;
    };
    switch (op.action) {
      case Action::get:
        if (op.outcome == Outcome::unknown) return state;
        return only_if(
            op.outcome == Outcome::ok ? state.value == op.observed && state.value != 0 : state.value == 0,
            state);
      case Action::put:
        return written;
      case Action::insert:
        return happened ? only_if(state.value == 0, written) : only_if(state.value != 0, state);
      case Action::update:
        return happened ? only_if(state.value != 0, written) : only_if(state.value == 0, state);
      case Action::erase:
        return happened ? only_if(state.value != 0, State{}) : only_if(state.value == 0, state);
      case Action::put_if_version:
        return happened ? only_if(state.version == op.expected, written)
                        : only_if(state.version != op.expected, state);
      case Action::scan:
        break;
    }
    return std::nullopt;
  }

  const std::vector<Operation>& operations_;
  std::vector<bool> used_;
  std::vector<std::size_t> order_;
};

TEST(LincheckAgainstEveryOrder, AgreesOnArbitrarySmallHistories) {
  std::mt19937_64 random(20'26);
  std::size_t good = 0, bad = 0;
  for (int round = 0; round < 120'000; ++round) {
    const auto below = [&](std::uint64_t bound) { return random() % bound; };
    std::vector<Operation> operations;
    const std::size_t count = 2 + below(6);
    for (std::size_t i = 0; i < count; ++i) {
      Operation op;
      op.start_ns = below(16);
      op.end_ns = op.start_ns + below(6);
      op.action = static_cast<Action>(below(6));
      op.process = static_cast<std::uint32_t>(i);
      if (op.action == Action::get) {
        op.outcome = below(4) == 0 ? Outcome::not_found : Outcome::ok;
        op.observed = 1 + below(count);
      } else {
        if (op.action != Action::erase) op.written = i + 1;
        static constexpr Outcome failures[] = {
            Outcome::ok,       Outcome::ok, Outcome::exists, Outcome::not_found, Outcome::version_mismatch,
            Outcome::not_found};
        op.outcome = below(3) == 0 ? failures[static_cast<std::size_t>(op.action)] : Outcome::ok;
        if (op.action == Action::put_if_version) op.expected = below(count + 1);
      }
      if (below(5) == 0) {
        op.outcome = Outcome::unknown;
        if (below(2) == 0) op.end_ns = never_ns;
      }
      if (op.outcome == Outcome::ok) op.version = op.action == Action::get ? op.observed : op.written;
      operations.push_back(op);
    }
    // An unknown write that nobody sees has no known version for the checker, so nobody asks for it.
    for (Operation& op : operations) {
      if (op.action != Action::put_if_version || op.expected == 0) continue;
      const bool known = std::any_of(operations.begin(), operations.end(), [&](const Operation& other) {
        return other.outcome == Outcome::ok && other.version == op.expected;
      });
      if (!known) op.expected = 0;
    }
    const bool fits = EveryOrder(operations).fits();
    const LincheckReport report = lincheck(operations);
    ++(fits ? good : bad);
    ASSERT_EQ(report.verdict, fits ? Verdict::linearizable : Verdict::violation)
        << "round " << round << '\n'
        << report.text << [&] {
             std::string all;
             for (const Operation& op : operations) all += describe(op, 0) + "\n";
             return all;
           }();
  }
  EXPECT_GT(good, 5'000u);
  EXPECT_GT(bad, 5'000u);
}

// Histories of a map that is atomic: each operation is done at one random moment of its interval.
struct Simulation {
  std::uint64_t seed = 1;
  unsigned processes = 4;
  std::uint64_t keys = 8;
  std::size_t operations = 1000;
  bool erases = true;
  double unknown = 0.0;  // part of the operations whose outcome is lost
};

std::vector<Operation> simulate(const Simulation& simulation) {
  std::mt19937_64 random(simulation.seed);
  struct Planned {
    Operation operation;
    std::uint64_t moment;
  };
  std::vector<Planned> planned;
  std::vector<std::uint64_t> clocks(simulation.processes, 0);
  std::vector<std::uint32_t> names(simulation.processes);
  std::iota(names.begin(), names.end(), 0);
  std::uint32_t next_name = simulation.processes;
  for (std::size_t i = 0; i < simulation.operations; ++i) {
    const std::size_t at =
        static_cast<std::size_t>(std::min_element(clocks.begin(), clocks.end()) - clocks.begin());
    Operation op;
    op.start_ns = clocks[at] + random() % 50;
    op.end_ns = op.start_ns + 1 + random() % (random() % 64 == 0 ? 5000 : 200);
    op.key = random() % simulation.keys;
    op.process = names[at];
    const std::uint64_t dice = random() % 16;
    op.action = dice < 6            ? Action::get
                : dice < 9          ? Action::put
                : dice < 11         ? Action::insert
                : dice < 13         ? Action::update
                : dice < 15         ? Action::put_if_version
                : simulation.erases ? Action::erase
                                    : Action::get;
    if (op.action != Action::get && op.action != Action::erase) op.written = i + 1;
    planned.push_back({op, op.start_ns + random() % (op.end_ns - op.start_ns + 1)});
    clocks[at] = op.end_ns + 1;
    if (static_cast<double>(random() % 1'000'000) < simulation.unknown * 1e6) {
      planned.back().operation.outcome = Outcome::no_effect;  // marked; becomes unknown below
      if (random() % 2 == 0) {                                // the process died
        planned.back().operation.end_ns = never_ns;
        planned.back().moment = op.start_ns + random() % 3000;
        names[at] = next_name++;
      }
    }
  }
  // Of two at the same moment, either order will do.
  std::sort(planned.begin(), planned.end(), [](const Planned& a, const Planned& b) {
    return std::tie(a.moment, a.operation.start_ns, a.operation.process) <
           std::tie(b.moment, b.operation.start_ns, b.operation.process);
  });

  struct Present {
    std::uint64_t value, version;
    bool told = false;  // whether anybody was told the version, and so may ask for it
  };
  std::map<std::uint64_t, Present> map;
  std::map<std::uint64_t, std::uint64_t> before;  // an old version of a key
  std::vector<Operation> history;
  std::uint64_t version = 0;
  for (Planned& plan : planned) {
    Operation& op = plan.operation;
    const bool lost = op.outcome == Outcome::no_effect;
    const auto at = map.find(op.key);
    const bool present = at != map.end();
    const bool skipped = lost && random() % 2 == 0;
    if (op.action == Action::put_if_version)
      op.expected = random() % 3 == 0 || (present && !at->second.told) ? before[op.key]
                    : present                                          ? at->second.version
                                                                       : 0;
    bool ok = false;
    switch (op.action) {
      case Action::get:
        ok = present;
        op.outcome = ok ? Outcome::ok : Outcome::not_found;
        if (ok) {
          op.observed = at->second.value;
          op.version = at->second.version;
          if (!lost) at->second.told = true;
        }
        break;
      case Action::put:
        ok = true;
        break;
      case Action::insert:
        ok = !present;
        op.outcome = Outcome::exists;
        break;
      case Action::update:
      case Action::erase:
        ok = present;
        op.outcome = Outcome::not_found;
        break;
      case Action::put_if_version:
        ok = op.expected == (present ? at->second.version : 0);
        op.outcome = Outcome::version_mismatch;
        break;
      case Action::scan:
        break;
    }
    if (ok && op.action != Action::get && !skipped) {
      if (present && at->second.told) before[op.key] = at->second.version;
      if (op.action == Action::erase) {
        map.erase(op.key);
      } else {
        op.version = ++version;
        map[op.key] = {op.written, op.version, !lost};
      }
      op.outcome = Outcome::ok;
    }
    if (lost) {
      op.outcome = Outcome::unknown;
      op.observed = op.version = 0;
    }
    history.push_back(op);
  }
  return history;
}

TEST(LincheckSimulated, CorrectHistoriesPass) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    const auto history = simulate({.seed = seed,
                                   .processes = 2 + static_cast<unsigned>(seed % 7),
                                   .keys = 1 + seed % 5,
                                   .erases = seed % 3 != 0,
                                   .unknown = seed % 2 == 0 ? 0.02 : 0.0});
    const LincheckReport report = lincheck(history);
    ASSERT_EQ(report.verdict, Verdict::linearizable) << "seed " << seed << '\n' << report.text;
    ASSERT_EQ(report.operations, history.size());
  }
}

// The canary. Each spoils one operation so that no order can explain it; says whether it found one to spoil.
using Spoil = bool (*)(std::vector<Operation>& history, std::mt19937_64& random);

bool is_get(const Operation& op) { return op.action == Action::get && op.outcome == Outcome::ok; }
bool wrote(const Operation& op) {
  return op.action != Action::get && op.action != Action::erase && op.outcome == Outcome::ok;
}

template <class Choose>
Operation* pick(std::vector<Operation>& history, std::mt19937_64& random, Choose choose) {
  const std::size_t first = random() % history.size();
  for (std::size_t i = 0; i < history.size(); ++i) {
    Operation& op = history[(first + i) % history.size()];
    if (choose(op)) return &op;
  }
  return nullptr;
}

// A write that surely happened before `op` began, and that a second sure write then surely replaced, if
// `replaced`.
const Operation* sure_write_before(const std::vector<Operation>& history, const Operation& op,
                                   bool replaced) {
  const Operation* last = nullptr;
  for (const Operation& write : history)
    if (wrote(write) && write.key == op.key && write.end_ns < op.start_ns &&
        (!last || write.start_ns > last->start_ns))
      last = &write;
  if (!replaced || last == nullptr) return last;
  for (const Operation& write : history)
    if (wrote(write) && write.key == op.key && write.end_ns < last->start_ns) return &write;
  return nullptr;
}

bool never_written(std::vector<Operation>& history, std::mt19937_64& random) {
  Operation* op = pick(history, random, is_get);
  if (op == nullptr) return false;
  op->observed = 1'000'000'000;
  op->version = 0;
  return true;
}
bool stale(std::vector<Operation>& history, std::mt19937_64& random) {
  const Operation* old = nullptr;
  Operation* op = pick(history, random, [&](const Operation& get) {
    return is_get(get) && (old = sure_write_before(history, get, true)) != nullptr &&
           old->written != get.observed;
  });
  if (op == nullptr) return false;
  op->observed = old->written;
  op->version = old->version;
  return true;
}
bool from_the_future(std::vector<Operation>& history, std::mt19937_64& random) {
  const Operation* later = nullptr;
  Operation* op = pick(history, random, [&](const Operation& get) {
    if (!is_get(get)) return false;
    for (const Operation& write : history)
      if (wrote(write) && write.key == get.key && write.start_ns > get.end_ns) return later = &write, true;
    return false;
  });
  if (op == nullptr) return false;
  op->observed = later->written;
  op->version = later->version;
  return true;
}
bool of_another_key(std::vector<Operation>& history, std::mt19937_64& random) {
  const Operation* other = nullptr;
  Operation* op = pick(history, random, [&](const Operation& get) {
    if (!is_get(get)) return false;
    for (const Operation& write : history)
      if (wrote(write) && write.key != get.key && write.end_ns < get.start_ns) return other = &write, true;
    return false;
  });
  if (op == nullptr) return false;
  op->observed = other->written;
  op->version = other->version;
  return true;
}
bool of_a_failed_insert(std::vector<Operation>& history, std::mt19937_64& random) {
  const Operation* failed = nullptr;
  Operation* op = pick(history, random, [&](const Operation& get) {
    if (!is_get(get)) return false;
    for (const Operation& write : history)
      if (write.outcome == Outcome::exists && write.key == get.key) return failed = &write, true;
    return false;
  });
  if (op == nullptr) return false;
  op->observed = failed->written;
  op->version = 0;
  return true;
}
bool wrong_version(std::vector<Operation>& history, std::mt19937_64& random) {
  Operation* op = pick(history, random, is_get);
  if (op == nullptr) return false;
  op->version += 1'000'000'000;
  return true;
}
bool stale_put_if_version(std::vector<Operation>& history, std::mt19937_64& random) {
  const Operation* old = nullptr;
  Operation* op = pick(history, random, [&](const Operation& write) {
    return wrote(write) && write.action == Action::put_if_version &&
           (old = sure_write_before(history, write, true)) != nullptr && old->version != write.expected;
  });
  if (op == nullptr) return false;
  op->expected = old->version;
  return true;
}
// The next three are for histories without erases: what was written stays present.
bool gone(std::vector<Operation>& history, std::mt19937_64& random) {
  Operation* op = pick(history, random, [&](const Operation& get) {
    return is_get(get) && sure_write_before(history, get, false) != nullptr;
  });
  if (op == nullptr) return false;
  op->outcome = Outcome::not_found;
  return true;
}
bool second_insert(std::vector<Operation>& history, std::mt19937_64& random) {
  Operation* op = pick(history, random, [&](const Operation& insert) {
    return insert.outcome == Outcome::exists && sure_write_before(history, insert, false) != nullptr;
  });
  if (op == nullptr) return false;
  op->outcome = Outcome::ok;
  return true;
}
bool update_misses(std::vector<Operation>& history, std::mt19937_64& random) {
  Operation* op = pick(history, random, [&](const Operation& update) {
    return wrote(update) && update.action == Action::update &&
           sure_write_before(history, update, false) != nullptr;
  });
  if (op == nullptr) return false;
  op->outcome = Outcome::not_found;
  return true;
}

TEST(LincheckCanary, EverySpoiledHistoryIsFound) {
  struct Case {
    const char* name;
    Spoil spoil;
    bool erases;
  };
  const Case cases[] = {{"never written", never_written, true},
                        {"stale", stale, true},
                        {"from the future", from_the_future, true},
                        {"of another key", of_another_key, true},
                        {"of a failed insert", of_a_failed_insert, true},
                        {"wrong version", wrong_version, true},
                        {"stale put_if_version", stale_put_if_version, true},
                        {"gone", gone, false},
                        {"second insert", second_insert, false},
                        {"update misses", update_misses, false}};
  for (const Case& spoiled : cases) {
    unsigned tried = 0;
    for (std::uint64_t seed = 1; seed <= 100; ++seed) {
      auto history = simulate({.seed = seed,
                               .processes = 2 + static_cast<unsigned>(seed % 5),
                               .keys = 2 + seed % 3,
                               .operations = 400,
                               .erases = spoiled.erases,
                               .unknown = seed % 2 == 0 ? 0.01 : 0.0});
      std::mt19937_64 random(seed);
      if (!spoiled.spoil(history, random)) continue;
      ++tried;
      const LincheckReport report = lincheck(history);
      ASSERT_EQ(report.verdict, Verdict::violation) << spoiled.name << ", seed " << seed;
      ASSERT_FALSE(report.text.empty());
    }
    EXPECT_GT(tried, 80u) << spoiled.name;
  }
}

TEST(LincheckSpeed, AMillionOperationsOnFewAndOnManyKeys) {
  for (std::uint64_t keys : {std::uint64_t{8}, std::uint64_t{100'000}}) {
    const auto history = simulate({.seed = keys, .keys = keys, .operations = 1'000'000, .unknown = 0.0001});
    const std::uint64_t start_ns = monotonic_ns();
    const LincheckReport report = lincheck(history);
    const double seconds = static_cast<double>(monotonic_ns() - start_ns) / 1e9;
    EXPECT_EQ(report.verdict, Verdict::linearizable) << report.text;
    EXPECT_EQ(report.operations, history.size());
    RecordProperty("seconds_at_" + std::to_string(keys) + "_keys", std::to_string(seconds));
    RecordProperty("configurations_at_" + std::to_string(keys) + "_keys",
                   std::to_string(report.configurations));
    EXPECT_LT(seconds, 30.0);  // a few seconds alone; the machine may be busy or the build instrumented
  }
}

}  // namespace
}  // namespace bailey::table
