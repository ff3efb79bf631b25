#include "bailey/table/lincheck_rules.h"

#include <fmt/format.h>

#include <algorithm>

namespace bailey::table::rules {

bool is_write(const Operation& op) {
  return op.action != Action::get && op.action != Action::erase && op.action != Action::scan;
}

bool may_change(const Operation& op) {
  return op.action != Action::get && op.action != Action::scan &&
         (op.outcome == Outcome::ok || op.outcome == Outcome::unknown);
}

std::string version_text(std::uint64_t version) {
  return version == 0 ? "-" : fmt::format("{}.{}", version >> 32, version & 0xffffffffu);
}

Value* RuleMaker::value_by_id(std::uint64_t id) {
  auto at = std::lower_bound(values_.begin(), values_.end(), id,
                             [](const Value& value, std::uint64_t wanted) { return value.id < wanted; });
  return at != values_.end() && at->id == id ? &*at : nullptr;
}

Value* RuleMaker::value_by_version(std::uint64_t version) {
  auto at = std::lower_bound(by_version_.begin(), by_version_.end(), std::pair(version, std::uint32_t{0}));
  return at != by_version_.end() && at->first == version ? &values_[at->second] : nullptr;
}

// Which value has which version, and which values anybody saw. A value with two versions or a version with
// two values is a violation by itself.
std::optional<RuleMaker::Wrong> RuleMaker::learn_values(std::span<const std::uint32_t> operations) {
  values_.clear();
  by_version_.clear();
  for (std::uint32_t i : operations) {
    const Operation& op = history_[i];
    if (op.end_ns < op.start_ns) {
      return Wrong{Verdict::undecided,
                   fmt::format("key {}: an operation ends before it starts: {}", key_, describe(op, 0))};
    }
    if (is_write(op) && may_change(op))
      values_.push_back({op.written, op.outcome == Outcome::ok ? op.version : 0, i, false});
  }
  std::sort(values_.begin(), values_.end(), [](const Value& a, const Value& b) { return a.id < b.id; });
  for (std::size_t i = 1; i < values_.size(); ++i) {
    if (values_[i].id != values_[i - 1].id) continue;
    return Wrong{Verdict::undecided,
                 fmt::format("key {}: two writes bring the same value id {}", key_, values_[i].id)};
  }
  for (std::uint32_t i : operations) {
    const Operation& op = history_[i];
    if (op.action != Action::get || op.outcome != Outcome::ok) continue;
    Value* value = value_by_id(op.observed);
    if (value == nullptr) continue;  // nobody wrote it: the walk gets stuck at this get
    value->seen = true;
    if (value->version == 0) value->version = op.version;
    if (op.version == 0 || value->version == op.version) continue;
    const Operation& writer = history_[value->operation];
    const std::uint64_t zero_ns = std::min(writer.start_ns, op.start_ns);
    return Wrong{Verdict::violation,
                 fmt::format("key {}: value {} is found with version {} but has version {}\n  {}\n  {}\n",
                             key_, value->id, version_text(op.version), version_text(value->version),
                             describe(writer, zero_ns), describe(op, zero_ns))};
  }
  for (std::uint32_t i = 0; i < values_.size(); ++i)
    if (values_[i].version != 0) by_version_.emplace_back(values_[i].version, i);
  std::sort(by_version_.begin(), by_version_.end());
  for (std::size_t i = 1; i < by_version_.size(); ++i) {
    if (by_version_[i].first != by_version_[i - 1].first) continue;
    const Operation& one = history_[values_[by_version_[i - 1].second].operation];
    const Operation& other = history_[values_[by_version_[i].second].operation];
    const std::uint64_t zero_ns = std::min(one.start_ns, other.start_ns);
    return Wrong{Verdict::violation, fmt::format("key {}: two values have version {}\n  {}\n  {}\n", key_,
                                                 version_text(by_version_[i].first), describe(one, zero_ns),
                                                 describe(other, zero_ns))};
  }
  for (std::uint32_t i : operations) {
    const Operation& op = history_[i];
    if (op.action != Action::put_if_version || op.expected == 0) continue;
    if (Value* value = value_by_version(op.expected)) value->seen = true;
  }
  return std::nullopt;
}

// The rule of one operation; nothing where its outcome is one that its action never has.
std::optional<Rule> RuleMaker::rule_of(std::uint32_t operation) {
  const Operation& op = history_[operation];
  Rule rule{.start_ns = op.start_ns, .end_ns = op.end_ns, .operation = operation};
  // What ended with an outcome has happened; what never ended has none that anybody was told.
  rule.required = op.outcome != Outcome::unknown && op.end_ns != never_ns;
  const auto wants = [&rule](Need need, StateId state) {
    rule.need = need;
    rule.wanted = state;
    return rule;
  };
  StateId expected = absent;
  if (op.action == Action::put_if_version && op.expected != 0) {
    const Value* value = value_by_version(op.expected);
    expected = value == nullptr ? impossible : state_of(*value);
  }
  if (may_change(op)) {
    rule.changes = true;
    rule.result = op.action == Action::erase ? absent : state_of(*value_by_id(op.written));
    switch (op.action) {
      case Action::get:
      case Action::scan:
        break;
      case Action::put:
        return wants(Need::anything, absent);
      case Action::insert:
        return wants(Need::equal, absent);
      case Action::update:
      case Action::erase:
        return wants(Need::differ, absent);
      case Action::put_if_version:
        return wants(Need::equal, expected);
    }
  }
  switch (op.outcome) {
    case Outcome::ok: {  // a get
      const Value* value = value_by_id(op.observed);
      return wants(Need::equal, value == nullptr ? impossible : state_of(*value));
    }
    case Outcome::not_found:
      if (op.action == Action::put || op.action == Action::insert) return std::nullopt;
      if (op.action == Action::put_if_version && op.expected == 0) return std::nullopt;
      return wants(Need::equal, absent);
    case Outcome::exists:
      if (op.action != Action::insert) return std::nullopt;
      return wants(Need::differ, absent);
    case Outcome::version_mismatch:
      if (op.action != Action::put_if_version) return std::nullopt;
      return wants(Need::differ, expected);
    case Outcome::no_effect:
    case Outcome::unknown:
      break;
  }
  return std::nullopt;
}

std::optional<RuleMaker::Wrong> RuleMaker::make(std::span<const std::uint32_t> operations,
                                                std::vector<Rule>& rules) {
  key_ = operations.empty() ? 0 : history_[operations.front()].key;
  if (auto wrong = learn_values(operations)) return wrong;
  rules.clear();
  for (std::uint32_t i : operations) {
    const Operation& op = history_[i];
    if (op.outcome == Outcome::no_effect) continue;
    // A read that nobody was told the outcome of says nothing.
    if ((op.outcome == Outcome::unknown || op.end_ns == never_ns) && !may_change(op)) continue;
    const std::optional<Rule> rule = rule_of(i);
    if (!rule) {
      return Wrong{Verdict::violation, fmt::format("key {}: an outcome that this operation never has\n  {}\n",
                                                   key_, describe(op, op.start_ns))};
    }
    rules.push_back(*rule);
  }
  return std::nullopt;
}

}  // namespace bailey::table::rules
