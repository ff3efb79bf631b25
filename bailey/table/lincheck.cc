#include "bailey/table/lincheck.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "bailey/table/lincheck_rules.h"

namespace bailey::table {
namespace {

using namespace rules;

constexpr std::size_t open_max = 256;
constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

// A set of open operations, by their places.
class Mask {
 public:
  bool has(unsigned place) const { return (words_[place / 64] >> (place % 64) & 1) != 0; }
  void add(unsigned place) { words_[place / 64] |= std::uint64_t{1} << (place % 64); }
  void drop(unsigned place) { words_[place / 64] &= ~(std::uint64_t{1} << (place % 64)); }
  // Whether both agree on the places of `within`.
  bool agrees(const Mask& other, const Mask& within) const {
    for (std::size_t i = 0; i < words_.size(); ++i)
      if (((words_[i] ^ other.words_[i]) & within.words_[i]) != 0) return false;
    return true;
  }
  // Whether every place of `within` that is in this is in `other` too.
  bool inside(const Mask& other, const Mask& within) const {
    for (std::size_t i = 0; i < words_.size(); ++i)
      if ((words_[i] & within.words_[i] & ~other.words_[i]) != 0) return false;
    return true;
  }

 private:
  std::array<std::uint64_t, open_max / 64> words_{};
};

// One possibility: what the key holds, and which open operations have had their instant.
struct Configuration {
  StateId state = absent;
  Mask done;
};

// Checks one key after the other; buffers are kept between keys.
class Checker {
 public:
  Checker(std::span<const Operation> history, const LincheckLimits& limits)
      : history_(history), limits_(limits), maker_(history) {}

  LincheckReport run();

 private:
  enum class Walk : std::uint8_t { fine, stuck, too_much };
  enum class Keep : std::uint8_t { added, covered, too_many };

  void check_key(std::span<const std::uint32_t> operations);
  Walk walk();
  bool open_rule(std::uint32_t rule);
  Walk close_rule(std::uint32_t rule);
  Walk force(std::uint32_t rule);
  void close_place(unsigned place);
  Keep keep(std::vector<Configuration>& set, const Configuration& configuration);
  void tell_readers(Configuration& configuration) const;

  void explain(std::span<const std::uint32_t> operations);
  void drop_needless_readers(std::uint32_t stuck_operation);
  std::vector<std::uint32_t> window(std::uint32_t stuck_operation) const;
  std::string what_is_wrong(const Operation& op, std::span<const std::uint32_t> operations) const;
  std::string state_text(StateId state) const;
  void fault(Verdict verdict, std::string text);

  std::span<const Operation> history_;
  LincheckLimits limits_;
  LincheckReport report_;
  std::uint64_t steps_ = 0;
  std::uint64_t key_ = 0;

  // Of the key at hand.
  RuleMaker maker_;
  std::vector<Rule> rules_;          // by start
  std::vector<std::uint32_t> ends_;  // rules that end, by end

  // Of the walk.
  struct Open {
    std::uint32_t rule;
    unsigned place;
    unsigned before;  // another open one that is just like it and goes first, or open_max
  };
  std::vector<Open> open_;
  std::vector<unsigned> free_places_;
  std::vector<unsigned> place_of_;  // by rule
  Mask must_change_, may_change_, readers_;
  std::vector<Configuration> configurations_, next_, tried_, work_;
  std::uint32_t stuck_ = none;
};

void Checker::fault(Verdict verdict, std::string text) {
  report_.verdict = verdict;
  report_.key = key_;
  report_.text = std::move(text);
}

LincheckReport Checker::run() {
  std::vector<std::uint32_t> order;
  order.reserve(history_.size());
  for (std::uint32_t i = 0; i < history_.size(); ++i)
    if (history_[i].action != Action::scan) order.push_back(i);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    const Operation& x = history_[a];
    const Operation& y = history_[b];
    return std::tie(x.key, x.start_ns, a) < std::tie(y.key, y.start_ns, b);
  });
  for (std::size_t first = 0; first < order.size();) {
    std::size_t last = first;
    key_ = history_[order[first]].key;
    while (last < order.size() && history_[order[last]].key == key_) ++last;
    check_key(std::span(order).subspan(first, last - first));
    if (report_.verdict != Verdict::linearizable) break;
    report_.operations += last - first;
    first = last;
  }
  return report_;
}

void Checker::check_key(std::span<const std::uint32_t> operations) {
  if (auto wrong = maker_.make(operations, rules_)) return fault(wrong->verdict, std::move(wrong->text));
  switch (walk()) {
    case Walk::fine:
      return;
    case Walk::stuck:
      return explain(operations);
    case Walk::too_much:
      return fault(
          Verdict::undecided,
          fmt::format("key {}: undecided, more than {} configurations, {} steps or {} open operations", key_,
                      limits_.configurations_max, limits_.steps_max, open_max));
  }
}

Checker::Walk Checker::walk() {
  ends_.clear();
  for (std::uint32_t i = 0; i < rules_.size(); ++i)
    if (rules_[i].end_ns != never_ns) ends_.push_back(i);
  std::sort(ends_.begin(), ends_.end(), [&](std::uint32_t a, std::uint32_t b) {
    return std::tie(rules_[a].end_ns, a) < std::tie(rules_[b].end_ns, b);
  });
  open_.clear();
  free_places_.clear();
  for (unsigned place = open_max; place-- > 0;) free_places_.push_back(place);
  place_of_.assign(rules_.size(), 0);
  must_change_ = may_change_ = readers_ = Mask{};
  configurations_.assign(1, Configuration{});
  stuck_ = none;

  std::uint32_t start = 0;
  for (std::uint32_t end : ends_) {
    for (; start < rules_.size() && rules_[start].start_ns <= rules_[end].end_ns; ++start)
      if (!open_rule(start)) return Walk::too_much;
    const Walk walk = close_rule(end);
    if (walk != Walk::fine) return walk;
  }
  return Walk::fine;  // what is still open never ended, and need not have happened
}

bool Checker::open_rule(std::uint32_t number) {
  if (free_places_.empty()) return false;
  const Rule& rule = rules_[number];
  const unsigned place = free_places_.back();
  free_places_.pop_back();
  place_of_[number] = place;
  (!rule.changes ? readers_ : rule.required ? must_change_ : may_change_).add(place);

  // Operations that never end and do the same are used in the order in which they began: other orders give
  // nothing new. Without this, many processes killed at one key would make the search explode.
  unsigned before = open_max;
  if (rule.end_ns == never_ns && rule.result < first_seen) {
    for (const Open& other : open_) {
      const Rule& that = rules_[other.rule];
      if (that.end_ns == never_ns && that.need == rule.need && that.wanted == rule.wanted &&
          that.result == rule.result)
        before = other.place;
    }
  }
  open_.push_back({number, place, before});
  if (!rule.changes)
    for (Configuration& configuration : configurations_)
      if (rule.allows(configuration.state)) configuration.done.add(place);
  return true;
}

void Checker::close_place(unsigned place) {
  must_change_.drop(place);
  may_change_.drop(place);
  readers_.drop(place);
  free_places_.push_back(place);
  std::erase_if(open_, [place](const Open& open) { return open.place == place; });
}

Checker::Walk Checker::close_rule(std::uint32_t number) {
  const unsigned place = place_of_[number];
  const Walk walk = force(number);
  if (walk == Walk::too_much) return walk;
  if (rules_[number].required) {
    if (walk == Walk::stuck) {
      stuck_ = number;
      return walk;
    }
  } else {
    // It happened before it ended, or it never will.
    next_.insert(next_.end(), configurations_.begin(), configurations_.end());
  }
  close_place(place);
  configurations_.clear();
  for (Configuration& configuration : next_) {
    configuration.done.drop(place);
    if (keep(configurations_, configuration) == Keep::too_many) return Walk::too_much;
  }
  report_.configurations = std::max(report_.configurations, configurations_.size());
  return Walk::fine;
}

// Leaves in next_ all configurations in which the operation has had its instant, and as few others as can be.
// In tried_ are all in which it has not.
Checker::Walk Checker::force(std::uint32_t number) {
  const unsigned place = place_of_[number];
  next_.clear();
  tried_.clear();
  work_.clear();
  const auto reach = [&](const Configuration& configuration) {
    const bool done = configuration.done.has(place);
    const Keep kept = keep(done ? next_ : tried_, configuration);
    if (kept == Keep::added && !done) work_.push_back(configuration);
    return kept != Keep::too_many;
  };
  for (const Configuration& configuration : configurations_)
    if (!reach(configuration)) return Walk::too_much;
  while (!work_.empty()) {
    const Configuration from = work_.back();
    work_.pop_back();
    for (const Open& open : open_) {
      const Rule& rule = rules_[open.rule];
      if (!rule.changes || from.done.has(open.place) || !rule.allows(from.state)) continue;
      if (open.before != open_max && !from.done.has(open.before)) continue;
      Configuration to = from;
      to.state = rule.result;
      to.done.add(open.place);
      tell_readers(to);
      if (!reach(to)) return Walk::too_much;
    }
  }
  return next_.empty() ? Walk::stuck : Walk::fine;
}

// An open operation that only tells what it saw has its instant as soon as the state fits: sooner does no
// harm.
void Checker::tell_readers(Configuration& configuration) const {
  for (const Open& open : open_) {
    const Rule& rule = rules_[open.rule];
    if (!rule.changes && rule.allows(configuration.state)) configuration.done.add(open.place);
  }
}

// Adds a configuration unless one in the set can go on in every way that this one can: in the same state,
// with the same changes still to come, no fewer readers content and no more of the optional changes used up.
Checker::Keep Checker::keep(std::vector<Configuration>& set, const Configuration& configuration) {
  const auto covers = [this](const Configuration& a, const Configuration& b) {
    return a.state == b.state && a.done.agrees(b.done, must_change_) && a.done.inside(b.done, may_change_) &&
           b.done.inside(a.done, readers_);
  };
  steps_ += 1 + set.size();
  if (steps_ > limits_.steps_max) return Keep::too_many;
  for (const Configuration& other : set)
    if (covers(other, configuration)) return Keep::covered;
  std::erase_if(set, [&](const Configuration& other) { return covers(configuration, other); });
  if (set.size() >= limits_.configurations_max) return Keep::too_many;
  set.push_back(configuration);
  return Keep::added;
}

std::string Checker::state_text(StateId state) const {
  if (state == absent) return "absent";
  if (state == unseen) return "a value that nobody saw";
  return fmt::format("value {}", maker_.values()[static_cast<std::size_t>(state - first_seen)].id);
}

// Why no instant fits, as far as one operation alone shows it.
std::string Checker::what_is_wrong(const Operation& op, std::span<const std::uint32_t> operations) const {
  if (op.action == Action::get && op.outcome == Outcome::ok) {
    for (std::uint32_t i : operations) {
      const Operation& write = history_[i];
      if (!is_write(write) || write.written != op.observed) continue;
      if (!may_change(write)) return fmt::format("value {} is of a write that failed", op.observed);
      if (write.start_ns > op.end_ns) return fmt::format("value {} was written only later", op.observed);
      return fmt::format("value {} was not there at any moment of the get", op.observed);
    }
    return fmt::format("value {} was never written to this key", op.observed);
  }
  if (op.action == Action::put_if_version && op.outcome == Outcome::ok)
    return fmt::format("version {} was not there at any moment of the put_if_version",
                       version_text(op.expected));
  return "no moment of this operation can give its outcome";
}

// Keeps of the operations that only read no more than the violation needs. Writes are all kept: without one
// of them a violation may be our own making.
void Checker::drop_needless_readers(std::uint32_t stuck_operation) {
  const std::uint64_t end_ns = rules_[stuck_].end_ns;
  std::erase_if(rules_, [end_ns](const Rule& rule) { return rule.start_ns > end_ns; });
  const auto still_stuck = [&](std::vector<Rule> fewer) {
    rules_.swap(fewer);
    if (walk() == Walk::stuck && rules_[stuck_].operation == stuck_operation) return true;
    rules_.swap(fewer);
    return false;
  };
  const auto needless = [&](const Rule& rule) { return !rule.changes && rule.operation != stuck_operation; };
  // All of them, then ever smaller groups; the number of walks is bounded.
  unsigned walks_left = 64;
  for (std::size_t group = rules_.size(); group > 0 && walks_left > 0; group /= 2) {
    for (std::size_t first = 0; first < rules_.size() && walks_left > 0;) {
      const auto from = rules_.begin() + static_cast<std::ptrdiff_t>(first);
      const auto to = from + static_cast<std::ptrdiff_t>(std::min(group, rules_.size() - first));
      if (std::any_of(from, to, needless)) {
        --walks_left;
        std::vector<Rule> fewer(rules_.begin(), from);
        std::remove_copy_if(from, to, std::back_inserter(fewer), needless);
        fewer.insert(fewer.end(), to, rules_.end());
        if (still_stuck(std::move(fewer))) continue;
      }
      first += group;
    }
  }
  (void)walk();
}

// Which operations to show: the one that is stuck, the readers that it needs, the writers of what they found,
// what overlaps it, and the last changes before it.
std::vector<std::uint32_t> Checker::window(std::uint32_t stuck_operation) const {
  const Operation& stuck = history_[stuck_operation];
  std::vector<std::uint32_t> chosen{stuck_operation};
  const auto choose = [&](std::uint32_t operation) {
    if (chosen.size() < limits_.window_operations_max &&
        std::find(chosen.begin(), chosen.end(), operation) == chosen.end())
      chosen.push_back(operation);
  };
  const auto choose_writer = [&](const Operation& op) {
    for (const Value& value : maker_.values()) {
      const bool found = op.action == Action::get && value.id == op.observed;
      const bool asked =
          op.action == Action::put_if_version && op.expected != 0 && value.version == op.expected;
      if (found || asked) choose(value.operation);
    }
  };
  choose_writer(stuck);
  for (std::size_t i = rules_.size(); i-- > 0;) {
    if (rules_[i].changes) continue;
    choose(rules_[i].operation);
    choose_writer(history_[rules_[i].operation]);
  }
  std::vector<const Rule*> changes;
  for (const Rule& rule : rules_)
    if (rule.changes) changes.push_back(&rule);
  std::sort(changes.begin(), changes.end(),
            [](const Rule* a, const Rule* b) { return a->end_ns > b->end_ns; });
  unsigned earlier = 0;
  for (const Rule* rule : changes) {
    if (rule->end_ns < stuck.start_ns && ++earlier > 6) break;
    choose(rule->operation);
  }
  std::sort(chosen.begin(), chosen.end(), [&](std::uint32_t a, std::uint32_t b) {
    return std::tie(history_[a].start_ns, a) < std::tie(history_[b].start_ns, b);
  });
  return chosen;
}

void Checker::explain(std::span<const std::uint32_t> operations) {
  const std::uint32_t stuck_operation = rules_[stuck_].operation;
  const Operation& stuck = history_[stuck_operation];
  std::vector<StateId> states;
  for (const Configuration& configuration : tried_) states.push_back(configuration.state);
  std::sort(states.begin(), states.end());
  states.erase(std::unique(states.begin(), states.end()), states.end());
  std::string text =
      fmt::format("key {}: not linearizable: {}\n  at its end the key can only be or have been", key_,
                  what_is_wrong(stuck, operations));
  for (std::size_t i = 0; i < states.size() && i < 8; ++i)
    text += fmt::format("{} {}", i == 0 ? ":" : ",", state_text(states[i]));
  text += states.size() > 8 ? " ...\n" : "\n";

  drop_needless_readers(stuck_operation);
  const std::vector<std::uint32_t> shown = window(stuck_operation);
  const std::uint64_t zero_ns = history_[shown.front()].start_ns;
  for (std::uint32_t i : shown)
    text += fmt::format("{} {}\n", i == stuck_operation ? "->" : "  ", describe(history_[i], zero_ns));
  const std::size_t changes = static_cast<std::size_t>(
      std::count_if(rules_.begin(), rules_.end(), [](const Rule& rule) { return rule.changes; }));
  text += fmt::format("  ({} operations of {} shown; the key had {} changes until then)\n", shown.size(),
                      operations.size(), changes);
  fault(Verdict::violation, std::move(text));
}

}  // namespace

LincheckReport lincheck(std::span<const Operation> history, const LincheckLimits& limits) {
  return Checker(history, limits).run();
}

std::string describe(const Operation& op, std::uint64_t zero_ns) {
  static constexpr std::array actions{"get", "put", "insert", "update", "put_if_version", "erase", "scan"};
  static constexpr std::array outcomes{"ok",        "not found", "exists", "version mismatch",
                                       "no effect", "unknown"};
  std::string text =
      fmt::format("{:>10} .. ", fmt::format("{:+}", static_cast<std::int64_t>(op.start_ns - zero_ns)));
  text += op.end_ns == never_ns
              ? fmt::format("{:>10}", "never")
              : fmt::format("{:>10}", fmt::format("{:+}", static_cast<std::int64_t>(op.end_ns - zero_ns)));
  text += fmt::format(" ns  process {:<2} {}", op.process, actions[static_cast<std::size_t>(op.action)]);
  if (op.action != Action::scan) text += fmt::format(" of key {}", op.key);
  if (is_write(op)) text += fmt::format(", value {}", op.written);
  if (op.action == Action::put_if_version)
    text += fmt::format(", expects version {}", version_text(op.expected));
  text += fmt::format(": {}", outcomes[static_cast<std::size_t>(op.outcome)]);
  if (op.outcome == Outcome::ok && op.action == Action::get) text += fmt::format(", value {}", op.observed);
  if (op.outcome == Outcome::ok && op.version != 0)
    text += fmt::format(", version {}", version_text(op.version));
  return text;
}

}  // namespace bailey::table
