// The comparison proper: systems side by side on the same work, in one run.
//
// A round goes through the operations; for each, through a few slices; in each slice every system gets the
// same short time, in an order that is drawn anew. So what is compared is adjacent in time, and a noisy
// neighbour or a change of clock rate hits all alike. Ratios are taken inside a round, and their median over
// the rounds is told.
//
// Thread safety: one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/crew.h"
#include "bench/histogram.h"
#include "bench/measure.h"
#include "bench/progress.h"
#include "bench/store.h"

namespace bailey::bench {

struct ContestOptions {
  std::uint64_t records = 200'000;
  std::uint64_t value_bytes = 256;
  std::vector<unsigned> clients = {1};
  unsigned rounds = 5;
  unsigned slices = 8;
  std::uint64_t slice_ns = 30'000'000;
  std::uint64_t warm_ns = 4'000'000;
  std::uint64_t latency_ns = 50'000'000;  // of the pass that times each call, once a round
  std::vector<Operation> operations = {Operation::get,    Operation::multi_get, Operation::insert,
                                       Operation::update, Operation::set,       Operation::multi_set};
  std::uint64_t seed = 1;
};

// A system with its store, loaded, and the parent's client to it.
struct Contestant {
  System system;
  std::shared_ptr<Store> store;    // shared with the other systems of this store, as is the client
  std::shared_ptr<Client> client;  // goes before the store
};

// Makes, loads and checks the systems. What this machine lacks is told in `skipped` and left out. `spare` is
// how many records more than options.records each must have room for.
Result<std::vector<Contestant>> make_contestants(const std::vector<System>& systems, std::uint64_t records,
                                                 std::uint64_t spare, const ValuePool& values,
                                                 const std::string& scratch, Progress& progress,
                                                 std::vector<std::string>& skipped);

// One system at one operation with one number of clients.
struct Score {
  std::string system;
  Operation operation = Operation::get;
  unsigned clients = 1;
  std::vector<double> per_second;  // a round each
  Histogram histogram;             // of calls, over all rounds
};

struct ContestResult {
  std::vector<Score> scores;
  Disturbance disturbance;
};

// With more than one client, reading operations only, since not every system has more than one writer.
Result<ContestResult> run_contest(std::vector<Contestant>& contestants, const ContestOptions& options,
                                  const ValuePool& values, Progress& progress);

double median(std::vector<double> numbers);

// How `base` does against `other`, from rounds that belong together.
struct Ratio {
  double median = 0;
  double min = 0;
  double max = 0;
};
Ratio paired_ratio(const Score& base, const Score& other);

}  // namespace bailey::bench
