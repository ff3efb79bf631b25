// kv: what protection costs a key-value store, in the line of SHMemora's benchmark.
//
// Threads insert, get, update and delete records of a table that a broker protects, opened with a token, and
// of the same table unprotected, in turns. For each operation one line of CSV on standard output; what the
// columns are is said on standard error, where a pipe does not have it.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <barrier>
#include <charconv>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "bailey/base/clock.h"
#include "bench/contest.h"
#include "bench/histogram.h"
#include "bench/measure.h"
#include "bench/progress.h"
#include "bench/store.h"

namespace bailey::bench {
namespace {

constexpr unsigned threads_max = 256, batch_max = 1024;
constexpr std::uint64_t value_bytes_max = 1 << 20;
constexpr std::uint64_t records_most = 100'000, records_least = 256;  // of all threads
constexpr std::uint64_t bytes_most = 64 << 20;                        // of all values
constexpr unsigned rounds = 15;
constexpr const char* usage =
    "kv <nthreads> <value_size> <use_batch> <batch_kvs> <use_mac>\n"
    "\n"
    "Inserts, gets, updates and deletes records of a table that a broker of its own protects (rung process,\n"
    "opened with a token), and of the same table unprotected, in turns. One line of CSV for each operation.\n"
    "\n"
    "  nthreads    how many threads, each with a session of its own (1 to 256)\n"
    "  value_size  bytes of a value (1 to 1048576)\n"
    "  use_batch   1: batch_kvs records a call; 0: one\n"
    "  batch_kvs   how many (1 to 1024)\n"
    "  use_mac     1: the token is verified before each call; 0: when the table is opened\n"
    "\n"
    "overhead_percent is how much longer the protected operations take than the unprotected, the median of\n"
    "rounds in turns; p50_us and p99_us are of a call of the protected, in a pass of its own.\n"
    "Example:\n"
    "  build/bin/kv 2 256 1 5 0\n";

struct Options {
  unsigned threads = 0;
  std::uint64_t value_bytes = 0;
  bool batch = false;
  unsigned batch_records = 0;
  bool mac = false;
  std::size_t a_call() const { return batch ? batch_records : 1; }
};

enum class Act : std::uint8_t { insert, get, update, erase };
constexpr std::array<std::pair<Act, const char*>, 4> acts = {
    {{Act::insert, "insert"}, {Act::get, "get"}, {Act::update, "update"}, {Act::erase, "delete"}}};

// The order in which a thread makes and takes away its records, and another in which it uses them.
struct Orders {
  KeyOrder made, used;
};

// One thread's part: its own records, all of them in each phase.
class Worker {
 public:
  Worker(std::unique_ptr<Client> client, const Orders& orders, const ValuePool& values, std::size_t a_call)
      : client_(std::move(client)), orders_(orders), values_(values), a_call_(a_call) {
    writes_.resize(a_call);
    lookups_.resize(a_call);
    room_.resize(a_call * values.value_bytes());
  }

  // False where something failed; error() says what.
  bool run(Act act, Histogram* histogram) {
    const KeyOrder& keys = act == Act::get || act == Act::update ? orders_.used : orders_.made;
    for (std::size_t first = 0; first < keys.size(); first += a_call_) {
      const std::size_t count = std::min(a_call_, keys.size() - first);
      const std::uint64_t begun = histogram != nullptr ? monotonic_ns() : 0;
      if (!(a_call_ == 1 ? one(act, keys, first) : many(act, keys, first, count))) return false;
      if (histogram != nullptr) histogram->record(monotonic_ns() - begun);
    }
    return true;
  }
  std::string error() const {
    return client_->error().empty() ? "a record is not there, or is there already" : client_->error();
  }

 private:
  bool one(Act act, const KeyOrder& keys, std::size_t at) {
    switch (act) {
      case Act::insert:
        return client_->insert(keys[at], values_.at(at));
      case Act::get:
        return client_->get(keys[at], room_) == static_cast<std::ptrdiff_t>(values_.value_bytes());
      case Act::update:
        return client_->update(keys[at], values_.at(at + 1));
      case Act::erase:
        return client_->erase(keys[at]);
    }
    return false;
  }
  bool many(Act act, const KeyOrder& keys, std::size_t first, std::size_t count) {
    if (act == Act::get) {
      for (std::size_t i = 0; i < count; ++i) {
        lookups_[i].key = keys[first + i];
        lookups_[i].out = MutableBytes(room_).subspan(i * values_.value_bytes(), values_.value_bytes());
      }
      const std::span<Lookup> lookups(lookups_.data(), count);
      return client_->get_many(lookups) &&
             std::ranges::all_of(lookups, [](const Lookup& lookup) { return lookup.ok; });
    }
    for (std::size_t i = 0; i < count; ++i) {
      writes_[i] = {};
      writes_[i].op = act == Act::insert   ? table::Op::insert
                      : act == Act::update ? table::Op::update
                                           : table::Op::erase;
      writes_[i].key = keys[first + i];
      if (act != Act::erase) writes_[i].value = values_.at(first + i + (act == Act::update));
    }
    return client_->put_many({writes_.data(), count});
  }

  std::unique_ptr<Client> client_;
  const Orders& orders_;
  const ValuePool& values_;
  std::size_t a_call_;
  std::vector<Write> writes_;
  std::vector<Lookup> lookups_;
  std::vector<std::byte> room_;
};

// Both stores, with the threads' ways into them.
struct Side {
  std::unique_ptr<Store> store;
  std::vector<Worker> workers;
  std::array<std::vector<double>, acts.size()> per_second;  // a round each
  std::array<Histogram, acts.size()> histograms;
};

// All threads at one act; how many operations a second from the first one's beginning to the last one's end.
Result<double> phase(Side& side, std::size_t act, std::uint64_t records, bool timed) {
  std::vector<std::thread> threads;
  std::vector<Histogram> histograms(timed ? side.workers.size() : 0);
  std::vector<char> failed(side.workers.size());
  std::vector<std::uint64_t> begun(side.workers.size()), ended(side.workers.size());
  std::barrier ready(static_cast<std::ptrdiff_t>(side.workers.size()));
  for (std::size_t i = 0; i < side.workers.size(); ++i)
    threads.emplace_back([&, i] {
      ready.arrive_and_wait();
      begun[i] = monotonic_ns();
      failed[i] = !side.workers[i].run(acts[act].first, timed ? &histograms[i] : nullptr);
      ended[i] = monotonic_ns();
    });
  for (std::thread& thread : threads) thread.join();
  const std::uint64_t ns = std::ranges::max(ended) - std::ranges::min(begun);
  for (std::size_t i = 0; i < failed.size(); ++i)
    if (failed[i])
      return fail(Code::io, By::library, fmt::format("{}: {}", acts[act].second, side.workers[i].error()));
  for (const Histogram& histogram : histograms) side.histograms[act].merge(histogram);
  return static_cast<double>(records) * 1e9 / static_cast<double>(ns);
}

Status run(const Options& options) {
  const std::uint64_t wanted = std::clamp(bytes_most / options.value_bytes, records_least, records_most);
  const std::uint64_t a_thread = (wanted + options.threads - 1) / options.threads;
  const std::uint64_t records = a_thread * options.threads;
  const ValuePool values(options.value_bytes);
  std::vector<Orders> orders;
  for (unsigned i = 0; i < options.threads; ++i)
    orders.push_back({KeyOrder::each_once(i * a_thread, a_thread, 2 * i),
                      KeyOrder::each_once(i * a_thread, a_thread, 2 * i + 1)});
  StoreOptions store;
  store.records = records;
  store.value_bytes = options.value_bytes;
  Progress progress("kv");
  progress.show(0, 1, "starting the broker");
  std::array<Side, 2> sides;
  Side &protected_side = sides[0], &plain = sides[1];
  protected_side.store = BAILEY_TRY(
      make_brokered_table(store, table::Mode::shared, options.mac ? Right::token_each : Right::token));
  plain.store = BAILEY_TRY(make_plain_table(store, table::Mode::shared));
  for (Side& side : sides)
    for (unsigned i = 0; i < options.threads; ++i)
      side.workers.emplace_back(BAILEY_TRY(side.store->client(true)), orders[i], values, options.a_call());

  // The first round only warms: it brings segments, mappings and caches. The last one times each call.
  for (unsigned round = 0; round <= rounds + 1; ++round)
    for (unsigned turn = 0; turn < sides.size(); ++turn) {
      Side& side = sides[(turn + round) % sides.size()];
      const bool timed = round == rounds + 1;
      if (timed && &side != &protected_side) continue;
      for (std::size_t act = 0; act < acts.size(); ++act) {
        progress.show(round, rounds + 2, acts[act].second);
        if (interrupted()) return interrupted_error();
        const double rate = BAILEY_TRY(phase(side, act, records, timed));
        if (round > 0 && !timed) side.per_second[act].push_back(rate);
      }
    }
  progress.clear();
  fmt::print(stderr, "operation,protected_ops_per_s,unprotected_ops_per_s,overhead_percent,p50_us,p99_us\n");
  for (std::size_t act = 0; act < acts.size(); ++act) {
    std::vector<double> overheads;
    for (unsigned round = 0; round < rounds; ++round)
      overheads.push_back((plain.per_second[act][round] / protected_side.per_second[act][round] - 1) * 100);
    const auto us = [&](double q) {
      return static_cast<double>(protected_side.histograms[act].quantile(q)) / 1000;
    };
    fmt::print("{},{:.0f},{:.0f},{:.2f},{:.3f},{:.3f}\n", acts[act].second,
               median(protected_side.per_second[act]), median(plain.per_second[act]),
               median(std::move(overheads)), us(0.5), us(0.99));
  }
  return {};
}

std::optional<std::uint64_t> number(std::string_view text, std::uint64_t least, std::uint64_t most) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most) return {};
  return value;
}

int main_of(int argc, char** argv) {
  if (argc == 2 && (std::string_view(argv[1]) == "--help" || std::string_view(argv[1]) == "-h")) {
    fmt::print("{}", usage);
    return 0;
  }
  const auto wrong = [](std::string_view what) {
    fmt::print(stderr, "kv: {}\n\n{}", what, usage);
    return 2;
  };
  if (argc != 6) return wrong("five numbers are needed");
  const auto threads = number(argv[1], 1, threads_max);
  const auto value_bytes = number(argv[2], 1, value_bytes_max);
  const auto batch = number(argv[3], 0, 1);
  const auto batch_records = number(argv[4], 0, batch_max);
  const auto mac = number(argv[5], 0, 1);
  if (!threads) return wrong("nthreads is a number from 1 to 256");
  if (!value_bytes) return wrong("value_size is a number from 1 to 1048576");
  if (!batch) return wrong("use_batch is 0 or 1");
  if (!batch_records || (*batch == 1 && *batch_records == 0))
    return wrong("batch_kvs is a number from 1 to 1024");
  if (!mac) return wrong("use_mac is 0 or 1");
  const Options options{static_cast<unsigned>(*threads), *value_bytes, *batch == 1,
                        static_cast<unsigned>(*batch_records), *mac == 1};
  watch_interrupts();
  const Status done = run(options);
  if (!done) fmt::print(stderr, "kv: {}\n", done.error().to_string());
  return done ? 0 : 1;
}

}  // namespace
}  // namespace bailey::bench

int main(int argc, char** argv) { return bailey::bench::main_of(argc, argv); }
