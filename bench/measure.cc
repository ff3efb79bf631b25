#include "bench/measure.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>

#include "bailey/base/clock.h"

namespace bailey::bench {
namespace {

std::atomic<bool> interrupt_seen = false;
static_assert(std::atomic<bool>::is_always_lock_free, "set by a signal handler");

// Requests between two looks at the clock: doubled until a block takes long enough that looking costs
// nothing.
constexpr unsigned block_min = 16;
constexpr unsigned block_max = 4096;
constexpr std::uint64_t block_ns_min = 100'000;
// How many times its budget a stretch may last on a machine that is busy with other work.
constexpr std::uint64_t patience = 4;

// How often the scheduler has taken the core from this thread although it wanted to run.
long times_taken_away() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

}  // namespace

bool interrupted() { return interrupt_seen.load(std::memory_order_relaxed); }

void watch_interrupts() {
  struct sigaction action{};
  action.sa_handler = [](int) { interrupt_seen.store(true, std::memory_order_relaxed); };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);  // a server that died is an error of a call, not the end
}

std::unexpected<Error> interrupted_error() { return fail(Code::closed, By::library, "interrupted"); }

KeyOrder KeyOrder::uniform(std::uint64_t records, std::size_t count, std::uint64_t seed) {
  KeyOrder order;
  Random random(seed);
  order.keys_.reserve(count);
  for (std::size_t i = 0; i < count; ++i) order.keys_.push_back(ycsb_key(random.below(records)));
  return order;
}

KeyOrder KeyOrder::each_once(std::uint64_t first, std::size_t count, std::uint64_t seed) {
  KeyOrder order;
  Random random(seed);
  order.keys_.reserve(count);
  for (std::size_t i = 0; i < count; ++i) order.keys_.push_back(ycsb_key(first + i));
  random.shuffle(order.keys_);
  return order;
}

ValuePool::ValuePool(std::uint64_t value_bytes) : value_bytes_(value_bytes) {
  Random random(value_bytes + 1);
  bytes_.resize(value_bytes + spread);
  // Printable, so that a value that turns up in a dump is seen for what it is.
  for (char& c : bytes_) c = static_cast<char>('!' + random.below('~' - '!'));
}

unsigned batch_of(Operation operation, unsigned pipeline) {
  const bool many = operation == Operation::multi_get || operation == Operation::multi_set;
  return many && pipeline == 1 ? 16 : pipeline;
}

Measurer::Measurer(Client& client, Operation operation, unsigned pipeline, const ValuePool& values)
    : client_(client),
      operation_(operation),
      batch_(batch_of(operation, pipeline)),
      values_(values),
      out_(batch_ * round_up(std::max<std::uint64_t>(values.value_bytes(), 1), cache_line_bytes)),
      lookups_(batch_),
      writes_(batch_) {
  const std::size_t stride = out_.size() / batch_;
  for (std::size_t i = 0; i < batch_; ++i)
    lookups_[i].out = MutableBytes(out_).subspan(i * stride, values.value_bytes());
}

bool Measurer::call(const KeyOrder& keys, std::size_t from) {
  switch (operation_) {
    case Operation::get:
    case Operation::multi_get:
      if (batch_ == 1) return client_.get(keys[from], lookups_[0].out) >= 0;
      for (std::size_t i = 0; i < batch_; ++i) lookups_[i].key = keys[from + i];
      if (!client_.get_many(lookups_)) return false;
      for (const Lookup& lookup : lookups_)
        if (!lookup.ok) return false;
      return true;
    case Operation::insert:
      return client_.insert(keys[from], values_.at(from));
    case Operation::update:
      return client_.update(keys[from], values_.at(from));
    case Operation::set:
    case Operation::multi_set:
      if (batch_ == 1) return client_.put(keys[from], values_.at(from));
      for (std::size_t i = 0; i < batch_; ++i) {
        writes_[i].key = keys[from + i];
        writes_[i].value = values_.at(from + i);
      }
      return client_.put_many(writes_);
  }
  return false;
}

Result<Rate> Measurer::run(const KeyOrder& keys, std::size_t& from, std::uint64_t budget_ns,
                           std::uint64_t requests_max) {
  Rate clean, all;
  unsigned block = block_min;
  long taken_away = times_taken_away();
  const std::uint64_t start = monotonic_ns();
  std::uint64_t before = start;
  bool keys_over = false;
  while (clean.ns < budget_ns && before - start < patience * budget_ns && all.operations < requests_max &&
         !keys_over) {
    std::uint64_t done = 0;
    while (done < block) {
      if (from + batch_ > keys.size()) {
        keys_over = operation_ == Operation::insert;
        if (keys_over) break;
        from = 0;
      }
      if (!call(keys, from)) [[unlikely]]
        return fail(Code::io, By::library,
                    fmt::format("{} of {} failed: {}", name(operation_), keys[from],
                                client_.error().empty() ? "no such key, or it was there" : client_.error()));
      from += batch_;
      done += batch_;
    }
    const std::uint64_t now = monotonic_ns();
    const long taken_away_now = times_taken_away();
    all.operations += done;
    all.ns += now - before;
    if (taken_away_now == taken_away) {
      clean.operations += done;
      clean.ns += now - before;
    }
    if (now - before < block_ns_min && block < block_max) block *= 2;
    taken_away = taken_away_now;
    // Not `now`: asking costs a system call, which is not the store's either.
    before = monotonic_ns();
    if (interrupted()) return interrupted_error();
  }
  if (clean.operations == 0) return all;
  clean.disturbed_ns = all.ns - clean.ns;
  return clean;
}

Status Measurer::run_timed(const KeyOrder& keys, std::size_t& from, std::uint64_t budget_ns,
                           std::uint64_t calls_max, Histogram& histogram) {
  const std::uint64_t start = monotonic_ns();
  std::uint64_t before = start;
  for (std::uint64_t calls = 0; calls < calls_max && before - start < budget_ns && !interrupted(); ++calls) {
    if (from + batch_ > keys.size()) {
      if (operation_ == Operation::insert) return {};
      from = 0;
    }
    before = monotonic_ns();
    const bool ok = call(keys, from);
    const std::uint64_t after = monotonic_ns();
    if (!ok)
      return fail(Code::io, By::library, fmt::format("{} failed: {}", name(operation_), client_.error()));
    histogram.record(after - before);
    from += batch_;
  }
  if (interrupted()) return interrupted_error();
  return {};
}

}  // namespace bailey::bench
