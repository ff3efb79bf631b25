// What lincheck's search asks of each operation of one key: which state it needs at its instant and which it
// leaves. Before that, which value has which version: a value with two versions is a violation by itself.
//
// Thread safety: an object is for one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bailey/table/lincheck.h"

namespace bailey::table::rules {

// States of a key. Values that nobody saw are all alike: which of them is there makes no difference to
// anyone.
using StateId = std::int32_t;
inline constexpr StateId absent = 0;
inline constexpr StateId unseen = 1;
inline constexpr StateId first_seen = 2;
inline constexpr StateId impossible = -1;  // equal to no state

enum class Need : std::uint8_t { anything, equal, differ };

// What an operation asks of the state at its instant, and what it leaves there.
struct Rule {
  std::uint64_t start_ns = 0;
  std::uint64_t end_ns = 0;
  std::uint32_t operation = 0;  // its number in the history
  StateId wanted = absent;
  StateId result = absent;  // of a change
  Need need = Need::anything;
  bool changes = false;   // else it only tells what it saw
  bool required = false;  // else it may never have happened

  bool allows(StateId state) const {
    return need == Need::anything || (need == Need::equal) == (state == wanted);
  }
};

bool is_write(const Operation& operation);
bool may_change(const Operation& operation);
std::string version_text(std::uint64_t version);

// A value of one key, as far as the history knows it.
struct Value {
  std::uint64_t id = 0;
  std::uint64_t version = 0;    // 0 while not known
  std::uint32_t operation = 0;  // that wrote it
  bool seen = false;            // a get found it, or a put_if_version asks for its version
};

// Makes the rules of one key after the other; buffers are kept between keys.
class RuleMaker {
 public:
  explicit RuleMaker(std::span<const Operation> history) : history_(history) {}

  struct Wrong {
    Verdict verdict;
    std::string text;
  };
  // Rules of the operations of one key, by start, in place of what is in `rules`; or what is wrong with them
  // without any search.
  std::optional<Wrong> make(std::span<const std::uint32_t> operations, std::vector<Rule>& rules);
  // Of that key, by id.
  std::span<const Value> values() const { return values_; }

 private:
  std::optional<Wrong> learn_values(std::span<const std::uint32_t> operations);
  std::optional<Rule> rule_of(std::uint32_t operation);
  StateId state_of(const Value& value) const {
    return value.seen ? first_seen + static_cast<StateId>(&value - values_.data()) : unseen;
  }
  Value* value_by_id(std::uint64_t id);
  Value* value_by_version(std::uint64_t version);

  std::span<const Operation> history_;
  std::uint64_t key_ = 0;
  std::vector<Value> values_;                                        // by id
  std::vector<std::pair<std::uint64_t, std::uint32_t>> by_version_;  // version, place in values_
};

}  // namespace bailey::table::rules
