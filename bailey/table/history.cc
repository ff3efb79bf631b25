#include "bailey/table/history.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <utility>

namespace bailey::table {
namespace {

// The words of a value after the first, which is the id.
std::uint64_t word_of(std::uint64_t id, std::uint64_t place) {
  std::uint64_t word = (id ^ place << 40) * 0x9e37'79b9'7f4a'7c15u;
  return word ^ word >> 29;
}

std::uint64_t image_of(std::string_view value) {
  std::uint64_t bytes = 0;
  std::memcpy(&bytes, value.data(), value.size());
  return short_value_bit | std::uint64_t{value.size()} << 56 | bytes;
}

}  // namespace

Result<Recorder> Recorder::create(std::uint32_t process, std::size_t operations_max) {
  Mapping mapping = BAILEY_TRY(Mapping::anonymous(records_offset + operations_max * sizeof(Operation)));
  return Recorder(std::move(mapping), process, operations_max);
}

Operation& Recorder::begin(Action action, std::uint64_t key, std::uint64_t written, std::uint64_t expected) {
  BAILEY_ASSERT(!full());
  Operation& operation = records()[header()->count];
  operation =
      Operation{.key = key, .written = written, .expected = expected, .process = process_, .action = action};
  // The process may be killed between any two of these stores; program order is all that the parent needs.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  operation.start_ns = monotonic_ns();
  std::atomic_signal_fence(std::memory_order_seq_cst);
  ++header()->count;
  (void)before_call_ns();
  return operation;
}

void Recorder::end(Operation& operation, Outcome outcome) {
  const std::uint64_t now = after_call_ns();
  operation.outcome = outcome;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  operation.end_ns = now;
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

void Recorder::add(const Operation& operation) {
  BAILEY_ASSERT(!full());
  records()[header()->count] = operation;
  records()[header()->count].process = process_;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  ++header()->count;
}

void Recorder::append_to(std::vector<Operation>& history) const {
  const std::size_t count = std::min(header()->count, operations_max_);
  history.reserve(history.size() + count);
  for (std::size_t i = 0; i < count; ++i) {
    Operation operation = records()[i];
    if (operation.end_ns == never_ns) {
      operation.outcome = Outcome::unknown;
      operation.version = 0;
    }
    history.push_back(operation);
  }
}

void make_value(std::uint64_t id, std::string& value) {
  value.resize(value_bytes(id));
  std::uint64_t word = id;
  if (value.size() < value_id_bytes) word = word_of(id, 0);
  for (std::size_t at = 0; at < value.size(); at += sizeof word) {
    if (at != 0) word = word_of(id, at);
    std::memcpy(value.data() + at, &word, std::min(sizeof word, value.size() - at));
  }
}

std::uint64_t value_id_of(std::string_view value) {
  if (value.size() < value_id_bytes) return image_of(value);
  std::uint64_t id = 0;
  std::memcpy(&id, value.data(), sizeof id);
  if (id >= short_value_bit || value_bytes(id) != value.size()) return 0;
  for (std::size_t at = sizeof id; at < value.size(); at += sizeof id) {
    const std::uint64_t word = word_of(id, at);
    if (std::memcmp(value.data() + at, &word, std::min(sizeof word, value.size() - at)) != 0) return 0;
  }
  return id;
}

void resolve_short_values(std::vector<Operation>& history) {
  std::unordered_map<std::uint64_t, std::uint64_t> id_by_version;
  for (const Operation& op : history)
    if (op.written != 0 && op.outcome == Outcome::ok && value_bytes(op.written) < value_id_bytes)
      id_by_version.emplace(op.version, op.written);
  std::string value;
  for (Operation& op : history) {
    if ((op.observed & short_value_bit) == 0) continue;
    const auto at = id_by_version.find(op.version);
    if (at == id_by_version.end()) continue;
    make_value(at->second, value);
    if (image_of(value) == op.observed) op.observed = at->second;
  }
}

}  // namespace bailey::table
