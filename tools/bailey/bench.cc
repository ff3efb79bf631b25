// `bailey bench`: the benchmarks, which live in bench/.
#include <memory>

#include "bench/table_bench.h"
#include "tools/bailey/command.h"
#include "tools/bailey/session_store.h"

namespace bailey::tools {
namespace {

struct Options {
  Reach reach;
  std::string region;
  bench::TableBenchOptions table;
};

// Without --medium the table is a region of a broker.
bench::TableBackend brokered(const std::shared_ptr<Options>& options) {
  bench::TableBackend backend;
  backend.serves = [](const bench::TableBenchOptions& table) { return table.medium.empty(); };
  backend.make = [options](const bench::TableBenchOptions& table,
                           const bench::StoreOptions&) -> Result<std::unique_ptr<bench::Store>> {
    return SessionStore::make(options->reach, options->region, table.mode, table.protect);
  };
  return backend;
}

}  // namespace

void add_bench(CLI::App& app, int& status) {
  CLI::App* bench = app.add_subcommand("bench", "benchmarks");
  bench->require_subcommand(1);
  auto options = std::make_shared<Options>();
  CLI::App* command = bench->add_subcommand(
      "table",
      "Runs a YCSB workload, or replays a trace, on a table.\n\n"
      "With --medium on a table of its own without a broker, unprotected; else on a region of a broker,\n"
      "whose records it adds to and overwrites.\n"
      "Example:\n"
      "  bailey bench table --medium memory: --clients 2 --latency\n"
      "  bailey bench table --region bench --workload bench/workloads/workloadb --as keys/alice\n"
      "  bailey bench table --medium memory: --trace requests.txt --csv results.csv");
  bench::add_table_bench_options(*command, options->table);
  command->add_option("--region", options->region, "the region to run on, where there is a broker")
      ->type_name("NAME")
      ->excludes("--medium");
  add_reach_options(command, options->reach);
  on_run(command, status, [options] {
    const Status done = bench::run_table_bench(options->table, {brokered(options)});
    const int outcome = told(done);
    // Which options go together is seen by the engine.
    return !done && done.error().code == Code::invalid_argument ? exit_usage : outcome;
  });
  add_bench_open(*bench, status);
  add_bench_window(*bench, status);
}

}  // namespace bailey::tools
