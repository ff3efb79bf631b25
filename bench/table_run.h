// Several clients in processes of their own, each with its requests, on one table.
//
// Thread safety: one thread at a time. Starts processes by fork and waits for them.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/histogram.h"
#include "bench/measure.h"
#include "bench/progress.h"
#include "bench/request.h"
#include "bench/store.h"
#include "bench/workload.h"

namespace bailey::bench {

struct TablePlan {
  Workload workload;  // records is what is loaded first
  std::string trace;  // where not empty, requests come from here
  std::uint64_t operations = 0;
  unsigned clients = 1;
  unsigned batch = 1;
  bool latency = false;
  std::uint64_t value_bytes = 0;
  std::uint64_t seed = 1;
};

// What one client did, or all of them together.
struct ClientResult {
  Rate rate;
  std::uint64_t missing = 0;  // requests for a key that was not there, inserts of one that was
  std::array<std::uint64_t, kinds> operations{};
  std::array<Histogram, kinds> histograms;  // of calls; empty without `latency`
};

struct TableResult {
  std::vector<ClientResult> clients;
  double load_per_second = 0;
  double operations_per_second() const;  // sum of the clients'
  ClientResult total() const;
};

// Loads the table and runs the plan. Where only one client may write, it is client 0: it loads, and the
// others read. Error: what a client met, or that one died.
Result<TableResult> run_table(const TablePlan& plan, Store& store, Progress& progress);

}  // namespace bailey::bench
