// bailey-bench-table: the table alone under a YCSB workload or a trace, without a broker.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "bench/table_bench.h"

int main(int argc, char** argv) {
  CLI::App app("One YCSB workload or trace, by several clients at once, on a table without a broker.",
               "bailey-bench-table");
  bailey::bench::TableBenchOptions options;
  bailey::bench::add_table_bench_options(app, options);
  CLI11_PARSE(app, argc, argv);
  const bailey::Status done = bailey::bench::run_table_bench(options);
  if (!done) fmt::print(stderr, "bailey-bench-table: {}\n", done.error().to_string());
  return done ? 0 : 1;
}
