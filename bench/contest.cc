#include "bench/contest.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "bailey/base/clock.h"

namespace bailey::bench {
namespace {

constexpr std::size_t order_keys_max = 1 << 18;
constexpr std::uint64_t checked_keys = 1000;
constexpr std::size_t load_batch = 16;

bool reads(Operation operation) { return operation == Operation::get || operation == Operation::multi_get; }

bool offers(const System& system, Operation operation) {
  return std::find(system.operations.begin(), system.operations.end(), operation) != system.operations.end();
}

Status load(Contestant& contestant, std::uint64_t records, const ValuePool& values, Progress& progress) {
  std::vector<YcsbKey> keys(load_batch);
  std::vector<Write> writes(load_batch);
  for (std::uint64_t first = 0; first < records; first += load_batch) {
    const std::size_t count = std::min<std::uint64_t>(load_batch, records - first);
    for (std::size_t i = 0; i < count; ++i) {
      keys[i] = ycsb_key(first + i);
      writes[i] = {};
      writes[i].key = keys[i].view();
      writes[i].value = values.at(first + i);
    }
    if (!contestant.client->put_many({writes.data(), count}))
      return fail(
          Code::io, By::library,
          fmt::format("{} could not be loaded: {}", contestant.system.name, contestant.client->error()));
    if (first % 1024 == 0) {
      progress.show(first, records, "loading " + contestant.system.name);
      if (interrupted()) return interrupted_error();
    }
  }
  return {};
}

// A system that answers quickly but wrongly would win: each must give back what was put.
Status check(Contestant& contestant, std::uint64_t records, const ValuePool& values) {
  const auto wrong = [&](std::uint64_t record, std::string_view call) {
    return fail(Code::corrupt, By::library,
                fmt::format("{}: {} of record {} gave another value than was put", contestant.system.name,
                            call, record));
  };
  std::vector<std::byte> out(values.value_bytes() + 1);
  std::vector<std::vector<std::byte>> outs(load_batch, out);
  std::vector<YcsbKey> keys(load_batch);
  std::vector<Lookup> lookups(load_batch);
  Random random(3);
  for (std::uint64_t i = 0; i < checked_keys; ++i) {
    const std::uint64_t first = random.below(records);
    const std::ptrdiff_t got = contestant.client->get(ycsb_key(first).view(), out);
    const auto right = [&](Bytes bytes, std::uint64_t record) { return as_text(bytes) == values.at(record); };
    if (got < 0 || !right({out.data(), static_cast<std::size_t>(got)}, first)) return wrong(first, "get");
    for (std::size_t k = 0; k < load_batch; ++k) {
      keys[k] = ycsb_key((first + k * 7) % records);
      lookups[k].key = keys[k].view();
      lookups[k].out = outs[k];
    }
    if (!contestant.client->get_many(lookups)) return wrong(first, "multi-get");
    for (std::size_t k = 0; k < load_batch; ++k)
      if (!lookups[k].ok || !right({outs[k].data(), lookups[k].found.bytes}, (first + k * 7) % records))
        return wrong((first + k * 7) % records, "multi-get");
    contestant.client->rest();
  }
  return {};
}

// One cell of the table of results, with what is needed to run it.
struct Cell {
  Contestant* contestant;
  std::size_t score;
  Crew* crew;  // null: the parent's own client
};

class Contest {
 public:
  Contest(std::vector<Contestant>& contestants, const ContestOptions& options, const ValuePool& values,
          Progress& progress)
      : contestants_(contestants),
        options_(options),
        values_(values),
        progress_(progress),
        random_(options.seed),
        keys_(KeyOrder::uniform(options.records, order_keys_max, options.seed)),
        new_keys_(KeyOrder::each_once(options.records, spare(options), options.seed)) {}

  static std::size_t spare(const ContestOptions& options) { return options.records / 4 + 1024; }

  Result<ContestResult> run() {
    for (unsigned clients : options_.clients) {
      crews_.clear();
      if (clients > 1) BAILEY_TRY(start_crews(clients));
      for (unsigned round = 0; round < options_.rounds; ++round) {
        for (std::size_t at = 0; at < options_.operations.size(); ++at) {
          const std::uint64_t done = round * options_.operations.size() + at;
          progress_.show(done, options_.rounds * options_.operations.size(),
                         fmt::format("round {} of {}: {}, clients {}", round + 1, options_.rounds,
                                     name(options_.operations[at]), clients));
          BAILEY_TRY(run_operation(options_.operations[at], clients));
        }
      }
    }
    return ContestResult{std::move(scores_), disturbance_};
  }

 private:
  Status start_crews(unsigned clients) {
    for (Contestant& contestant : contestants_) {
      crews_.push_back(
          BAILEY_TRY(Crew::start(contestant.system, *contestant.store, clients, keys_, values_)));
      // A child maps the memory anew: the first touch of each page is not what is to be measured.
      BAILEY_TRY(crews_.back().order(Operation::get, 10 * options_.slice_ns, false));
      BAILEY_TRY(crews_.back().collect());
    }
    return {};
  }

  std::size_t score_of(const Contestant& contestant, Operation operation, unsigned clients) {
    for (std::size_t i = 0; i < scores_.size(); ++i)
      if (scores_[i].system == contestant.system.name && scores_[i].operation == operation &&
          scores_[i].clients == clients)
        return i;
    scores_.push_back({contestant.system.name, operation, clients, {}, {}});
    return scores_.size() - 1;
  }

  Status run_operation(Operation operation, unsigned clients) {
    if (clients > 1 && !reads(operation)) return {};
    std::vector<Cell> cells;
    for (std::size_t i = 0; i < contestants_.size(); ++i) {
      if (!offers(contestants_[i].system, operation)) continue;
      cells.push_back({&contestants_[i], score_of(contestants_[i], operation, clients),
                       clients > 1 ? &crews_[i] : nullptr});
    }
    std::vector<double> sums(cells.size());
    std::vector<std::size_t> order(cells.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    for (unsigned slice = 0; slice < options_.slices; ++slice) {
      random_.shuffle(order);
      start_ = random_.below(keys_.size() / 2);
      for (std::size_t i : order) sums[i] += BAILEY_TRY(run_slice(cells[i], operation));
    }
    random_.shuffle(order);
    for (std::size_t i : order) BAILEY_TRY(run_latency(cells[i], operation));
    for (std::size_t i = 0; i < cells.size(); ++i)
      scores_[cells[i].score].per_second.push_back(sums[i] / options_.slices);
    return {};
  }

  Result<double> run_slice(Cell& cell, Operation operation) {
    if (cell.crew != nullptr) {
      BAILEY_TRY(cell.crew->order(operation, options_.warm_ns, false));
      BAILEY_TRY(cell.crew->collect());
      BAILEY_TRY(cell.crew->order(operation, options_.slice_ns, false));
      const Crew::Outcome outcome = BAILEY_TRY(cell.crew->collect());
      disturbance_.merge(outcome.disturbance);
      return outcome.operations_per_second;
    }
    Measurer measurer(*cell.contestant->client, operation, cell.contestant->system.pipeline, values_);
    const KeyOrder& keys = operation == Operation::insert ? new_keys_ : keys_;
    std::size_t from = operation == Operation::insert ? 0 : start_;
    BAILEY_TRY(measurer.run(keys, from, options_.warm_ns, warm_max(operation)));
    const Rate rate = BAILEY_TRY(measurer.run(keys, from, options_.slice_ns));
    disturbance_.add(rate);
    BAILEY_TRY(take_back(cell, operation, from));
    cell.contestant->client->rest();
    return rate.per_second();
  }

  Status run_latency(Cell& cell, Operation operation) {
    Histogram& histogram = scores_[cell.score].histogram;
    if (cell.crew != nullptr) {
      BAILEY_TRY(cell.crew->order(operation, options_.latency_ns, true));
      histogram.merge(BAILEY_TRY(cell.crew->collect()).histogram);
      return {};
    }
    Measurer measurer(*cell.contestant->client, operation, cell.contestant->system.pipeline, values_);
    const KeyOrder& keys = operation == Operation::insert ? new_keys_ : keys_;
    std::size_t from = operation == Operation::insert ? 0 : start_;
    BAILEY_TRY(measurer.run(keys, from, options_.warm_ns, warm_max(operation)));
    BAILEY_TRY(measurer.run_timed(keys, from, options_.latency_ns, ~std::uint64_t{0}, histogram));
    BAILEY_TRY(take_back(cell, operation, from));
    cell.contestant->client->rest();
    return {};
  }

  // New keys are few: most must be left to be measured.
  std::uint64_t warm_max(Operation operation) const {
    return operation == Operation::insert ? new_keys_.size() / 8 : ~std::uint64_t{0};
  }

  // Erases what a slice inserted, the last first, so that every slice starts from the same state.
  Status take_back(Cell& cell, Operation operation, std::size_t inserted) {
    if (operation != Operation::insert) return {};
    while (inserted > 0)
      if (!cell.contestant->client->erase(new_keys_[--inserted]))
        return fail(Code::io, By::library,
                    fmt::format("{} could not erase: {}", cell.contestant->system.name,
                                cell.contestant->client->error()));
    return {};
  }

  std::vector<Contestant>& contestants_;
  const ContestOptions& options_;
  const ValuePool& values_;
  Progress& progress_;
  Random random_;
  KeyOrder keys_;
  KeyOrder new_keys_;
  std::vector<Crew> crews_;  // one a contestant
  std::vector<Score> scores_;
  Disturbance disturbance_;
  std::size_t start_ = 0;  // in keys_, of this slice: the same for all systems
};

}  // namespace

Result<std::vector<Contestant>> make_contestants(const std::vector<System>& systems, std::uint64_t records,
                                                 std::uint64_t spare, const ValuePool& values,
                                                 const std::string& scratch, Progress& progress,
                                                 std::vector<std::string>& skipped) {
  std::vector<Contestant> contestants;
  for (const System& system : systems) {
    const auto sharing = std::find_if(contestants.begin(), contestants.end(), [&](const Contestant& one) {
      return one.system.store == system.store;
    });
    if (sharing != contestants.end()) {
      contestants.push_back({system, sharing->store, sharing->client});
      continue;
    }
    StoreOptions store_options;
    store_options.records = records + spare;
    store_options.value_bytes = values.value_bytes();
    store_options.scratch = scratch;
    Result<std::unique_ptr<Store>> store = system.make(store_options);
    if (!store && store.error().code == Code::unsupported) {
      skipped.push_back(fmt::format("{}: skipped, {}", system.name, store.error().message));
      continue;
    }
    if (!store) {
      store.error().message = system.name + ": " + store.error().message;
      return std::unexpected(store.error());
    }
    Contestant contestant{system, std::move(*store), nullptr};
    contestant.client = BAILEY_TRY(contestant.store->client(true));
    BAILEY_TRY(load(contestant, records, values, progress));
    BAILEY_TRY(check(contestant, records, values));
    contestants.push_back(std::move(contestant));
  }
  return contestants;
}

Result<ContestResult> run_contest(std::vector<Contestant>& contestants, const ContestOptions& options,
                                  const ValuePool& values, Progress& progress) {
  return Contest(contestants, options, values, progress).run();
}

double median(std::vector<double> numbers) {
  if (numbers.empty()) return 0;
  std::sort(numbers.begin(), numbers.end());
  const std::size_t half = numbers.size() / 2;
  return numbers.size() % 2 == 1 ? numbers[half] : (numbers[half - 1] + numbers[half]) / 2;
}

Ratio paired_ratio(const Score& base, const Score& other) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < std::min(base.per_second.size(), other.per_second.size()); ++i)
    if (other.per_second[i] > 0) ratios.push_back(base.per_second[i] / other.per_second[i]);
  if (ratios.empty()) return {};
  const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
  return {median(ratios), *low, *high};
}

}  // namespace bailey::bench
