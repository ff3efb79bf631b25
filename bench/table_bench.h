// The engine of `bailey bench table`: one YCSB workload or one trace, by several clients at once, on a table.
//
// The results go to standard output, progress to standard error. Starts processes and waits for them; for
// programs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bailey/base/error.h"
#include "bench/store.h"

namespace CLI {
class App;
}

namespace bailey::bench {

struct TableBenchOptions {
  unsigned clients = 1;
  std::uint64_t records = 0;      // 0: the workload's
  std::uint64_t operations = 0;   // of all clients together; 0: the workload's, or the whole trace
  std::uint64_t value_bytes = 0;  // 0: the workload's
  unsigned batch = 1;             // reads and updates that follow each other go in calls of up to so many
  std::string mode = "exclusive";
  std::vector<std::string> protect;  // rungs; empty: what the store gives
  std::string medium;                // "memory:" or "memory:SIZE": a plain pool, without a broker
  std::string workload;              // a property file; empty: workload A's proportions, uniform
  std::string trace;  // replaces the workload's requests; its records are loaded first where > 0
  std::string csv;
  std::string json;
  std::string label;
  bool latency = false;
  std::uint64_t seed = 1;
};

// A place that tables can be opened in, besides the plain pool: the front end that knows brokers adds its
// own. `make` gets the options and the store's size.
struct TableBackend {
  // Whether this one serves these options (by medium, socket, protections).
  std::function<bool(const TableBenchOptions&)> serves;
  std::function<Result<std::unique_ptr<Store>>(const TableBenchOptions&, const StoreOptions&)> make;
};

// Registers the options on a command. `options` outlives the parsing.
void add_table_bench_options(CLI::App& command, TableBenchOptions& options);

// Runs it and prints. Error: invalid_argument where the options are wrong. Backends are asked in order, the
// plain pool last.
Status run_table_bench(const TableBenchOptions& options, const std::vector<TableBackend>& backends = {});

}  // namespace bailey::bench
