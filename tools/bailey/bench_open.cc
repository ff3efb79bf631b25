// `bailey bench open`: how long it takes until a table can be used.
#include <fmt/format.h>

#include <memory>

#include "bailey/base/clock.h"
#include "bailey/base/count.h"
#include "bench/histogram.h"
#include "tools/bailey/command.h"

namespace bailey::tools {
namespace {

struct Options {
  Reach reach;
  std::string region;
  unsigned count = 50;
  bool write = false;
  bool json = false;
};

constexpr const char* written_key = "bailey bench open";

struct Times {
  bench::Histogram connect, open, first_put, all;
};

// One session from nothing to the first operation.
Status open_once(const Options& options, Times& times) {
  std::uint64_t begun = monotonic_ns(), last = begun;
  auto lap = [&](bench::Histogram& into) {
    std::uint64_t now = monotonic_ns();
    into.record(now - std::exchange(last, now));
  };
  Session session = BAILEY_TRY(options.reach.connect());
  lap(times.connect);
  Table table =
      BAILEY_TRY(session.open_table(options.region, options.write ? Access::read_write : Access::read_only));
  lap(times.open);
  if (options.write) {
    BAILEY_TRY(table.put(written_key, "x"));
    lap(times.first_put);
  }
  times.all.record(last - begun);
  if (options.write) BAILEY_TRY(table.erase(written_key));
  return {};
}

Status bench_open(const Options& options) {
  auto times = std::make_unique<Times>();
  for (unsigned i = 0; i < options.count; ++i) BAILEY_TRY(open_once(options, *times));
  std::vector<std::pair<const char*, const bench::Histogram*>> rows{{"connect", &times->connect},
                                                                    {"open", &times->open}};
  if (options.write) rows.emplace_back("first put", &times->first_put);
  rows.emplace_back("all", &times->all);
  auto ms = [](std::uint64_t ns) { return static_cast<double>(ns) * 1e-6; };
  if (options.json) {
    nlohmann::json told;
    for (auto& [name, histogram] : rows)
      told[name] = {{"median_ms", ms(histogram->quantile(0.5))},
                    {"p99_ms", ms(histogram->quantile(0.99))},
                    {"max_ms", ms(histogram->max())}};
    fmt::print("{}\n", told.dump(2));
    return {};
  }
  fmt::print("{} to open region {} for {}, in ms\n{:10} {:>8} {:>8} {:>8}\n",
             counted(options.count, "session"), options.region, options.write ? "writing" : "reading", "",
             "median", "p99", "max");
  for (auto& [name, histogram] : rows)
    fmt::print("{:10} {:8.2f} {:8.2f} {:8.2f}\n", name, ms(histogram->quantile(0.5)),
               ms(histogram->quantile(0.99)), ms(histogram->max()));
  return {};
}

}  // namespace

void add_bench_open(CLI::App& bench, int& status) {
  auto options = std::make_shared<Options>();
  CLI::App* command = bench.add_subcommand(
      "open",
      "Measures how long it takes to connect and to open a table, one session after the other.\n\n"
      "With --write also the first put, which brings the session's first segment.\n"
      "Example:\n"
      "  bailey bench open --region orders --as keys/bob\n"
      "  bailey bench open --region orders --write --as keys/alice --json");
  command->add_option("--region", options->region, "the region to open")->required()->type_name("NAME");
  command->add_option("--count", options->count, "how many sessions, one after the other")
      ->capture_default_str()
      ->check(CLI::Range(1u, 1'000'000u).description(""))
      ->type_name("N");
  command->add_flag("--write", options->write, "open for writing, and put one record");
  command->add_flag("--json", options->json, "print JSON");
  add_reach_options(command, options->reach);
  on_run(command, status, [options] { return told(bench_open(*options)); });
}

}  // namespace bailey::tools
