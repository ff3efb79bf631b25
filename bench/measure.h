// One measured stretch of work on one system, the same for every system.
//
// Fairness: the keys come ready from one array in the order of use, values from one small buffer, results go
// to the same caller's buffers. Throughput is taken from a clock read once a block of requests; latency in a
// pass of its own, with a clock around each call.
//
// Thread safety: one thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/histogram.h"
#include "bench/key.h"
#include "bench/random.h"
#include "bench/store.h"

namespace bailey::bench {

// Keys in the order in which they will be asked for, one behind the other in memory.
class KeyOrder {
 public:
  // `count` keys drawn uniformly from records 0 .. records - 1.
  static KeyOrder uniform(std::uint64_t records, std::size_t count, std::uint64_t seed);
  // Records first .. first + count - 1, each once, shuffled.
  static KeyOrder each_once(std::uint64_t first, std::size_t count, std::uint64_t seed);

  std::size_t size() const { return keys_.size(); }
  std::string_view operator[](std::size_t at) const { return keys_[at].view(); }

 private:
  std::vector<YcsbKey> keys_;
};

// Values to write: stretches of one random buffer, which stays in the first-level cache.
class ValuePool {
 public:
  explicit ValuePool(std::uint64_t value_bytes);
  std::string_view at(std::uint64_t n) const {
    return std::string_view(bytes_).substr(n * 8 % spread, value_bytes_);
  }
  std::uint64_t value_bytes() const { return value_bytes_; }
  std::string_view all() const { return bytes_; }

 private:
  static constexpr std::uint64_t spread = 8192;
  std::uint64_t value_bytes_;
  std::string bytes_;
};

struct Rate {
  std::uint64_t operations = 0;
  std::uint64_t ns = 0;
  std::uint64_t disturbed_ns = 0;  // besides, and not counted
  double per_second() const {
    return ns == 0 ? 0 : static_cast<double>(operations) * 1e9 / static_cast<double>(ns);
  }
};

// How much of the measuring was lost to the machine's other work. Much of it means that even what was kept
// ran with caches that others had used.
struct Disturbance {
  std::uint64_t clean_ns = 0;
  std::uint64_t disturbed_ns = 0;
  void add(const Rate& rate) {
    clean_ns += rate.ns;
    disturbed_ns += rate.disturbed_ns;
  }
  void merge(const Disturbance& other) {
    clean_ns += other.clean_ns;
    disturbed_ns += other.disturbed_ns;
  }
  double share() const {
    const std::uint64_t all = clean_ns + disturbed_ns;
    return all == 0 ? 0 : static_cast<double>(disturbed_ns) / static_cast<double>(all);
  }
};

// How many requests go in one call.
unsigned batch_of(Operation operation, unsigned pipeline);

class Measurer {
 public:
  Measurer(Client& client, Operation operation, unsigned pipeline, const ValuePool& values);

  // Works through `keys` from `from` on (around and around, but for insert) for `budget_ns`, or until for
  // insert the keys are over, or about `requests_max` are done. Moves `from`. Error: where a request failed.
  //
  // A block in which the scheduler gave this thread's core to somebody else is left out of the rate, and its
  // time is told in disturbed_ns: that is the machine's other work and not the store's. Whatever the store
  // itself does now and then (sweep, split, grow) stays in.
  Result<Rate> run(const KeyOrder& keys, std::size_t& from, std::uint64_t budget_ns,
                   std::uint64_t requests_max = ~std::uint64_t{0});
  // The same with each call timed, at most `calls_max` calls.
  Status run_timed(const KeyOrder& keys, std::size_t& from, std::uint64_t budget_ns, std::uint64_t calls_max,
                   Histogram& histogram);

 private:
  bool call(const KeyOrder& keys, std::size_t from);
  Client& client_;
  Operation operation_;
  unsigned batch_;
  const ValuePool& values_;
  std::vector<std::byte> out_;
  std::vector<Lookup> lookups_;
  std::vector<Write> writes_;
};

// Whether Ctrl-C or another request to end came; see watch_interrupts.
bool interrupted();
// SIGINT, SIGTERM and SIGHUP are noted instead of ending the process, so that servers and files are taken
// away on the way out. For programs, never for the library. A second one ends at once.
void watch_interrupts();
// What a measurement that was interrupted returns.
std::unexpected<Error> interrupted_error();

}  // namespace bailey::bench
