// bailey-compare: the same keys, values and operations on Bailey and on what it is compared with.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>

#include "bailey/base/count.h"
#include "bench/contest.h"
#include "bench/machine.h"
#include "bench/report.h"
#include "bench/series.h"
#include "bench/server.h"

namespace bailey::bench {
namespace {

// Of disturbed time; above, the figures need a warning.
constexpr double busy_share = 0.05;

struct Options {
  bool quick = false;
  bool list = false;
  bool beside_writer = false;
  bool footprint = false;
  std::string base = "bailey";  // of the ratios
  std::vector<std::string> only;
  std::vector<std::string> operations;
  std::string csv;
  std::string plot;
  std::uint64_t records_max = 10'000'000;
  ContestOptions contest;
};

int told(const Error& error) {
  fmt::print(stderr, "bailey-compare: {}\n", error.to_string());
  return error.code == Code::invalid_argument ? 2 : 1;
}

// The system of each name; where there is none, every system whose name begins with `name-`.
Result<std::vector<System>> chosen(const std::vector<System>& systems, const std::vector<std::string>& only) {
  if (only.empty()) return systems;
  std::vector<System> result;
  for (const std::string& wanted : only) {
    const bool exact =
        std::any_of(systems.begin(), systems.end(), [&](const System& one) { return one.name == wanted; });
    bool found = false;
    for (const System& system : systems) {
      if (exact ? system.name != wanted : !system.name.starts_with(wanted + "-")) continue;
      found = true;
      const auto same = [&](const System& other) { return other.name == system.name; };
      if (std::none_of(result.begin(), result.end(), same)) result.push_back(system);
    }
    if (!found)
      return fail(Code::invalid_argument, By::library, fmt::format("there is no system called {}", wanted),
                  "bailey-compare --list names them");
  }
  return result;
}

Status choose_operations(Options& options) {
  if (options.operations.empty()) return {};
  const std::vector<Operation> all = options.contest.operations;
  options.contest.operations.clear();
  for (const std::string& wanted : options.operations) {
    const auto found =
        std::find_if(all.begin(), all.end(), [&](Operation one) { return name(one) == wanted; });
    if (found == all.end())
      return fail(Code::invalid_argument, By::library, fmt::format("there is no operation called {}", wanted),
                  "get, multi-get, insert, update, set and multi-set are");
    options.contest.operations.push_back(*found);
  }
  return {};
}

Status beside_writer(std::vector<Contestant>& contestants, const Options& options, const ValuePool& values,
                     Progress& progress, std::vector<std::string>& notes) {
  const auto results = BAILEY_TRY(run_beside_writer(contestants, options.contest, values, progress));
  progress.clear();
  const auto us = [](const Histogram& histogram, double q) {
    return static_cast<double>(histogram.quantile(q)) / 1000;
  };
  fmt::print("\nget of one client, alone and beside a client that writes as fast as it can (us)\n");
  fmt::print("{:<22} {:>9} {:>9} {:>10} {:>10} {:>7} {:>12}\n", "system", "p99", "p99 w.", "p99.9",
             "p99.9 w.", "times", "writes/s");
  for (const BesideWriter& one : results) {
    const double alone = us(one.alone, 0.999);
    const double beside = us(one.beside, 0.999);
    fmt::print("{:<22} {:>9.2f} {:>9.2f} {:>10.2f} {:>10.2f} {:>7.2f} {:>12.0f}\n", one.system,
               us(one.alone, 0.99), us(one.beside, 0.99), alone, beside, beside / alone,
               one.writes_per_second);
    notes.push_back(fmt::format("beside a writer: {} get p99.9 alone {:.2f} us, beside {:.2f} us", one.system,
                                alone, beside));
  }
  return {};
}

Status footprint(const std::vector<System>& systems, const Options& options, const std::string& scratch,
                 Progress& progress, std::vector<std::string>& notes) {
  const ValuePool values(options.contest.value_bytes);
  const auto results =
      BAILEY_TRY(run_footprint(systems, options.records_max, options.contest, values, scratch, progress));
  progress.clear();
  fmt::print("get as records grow, values of {} B; times: {} over this system\n", values.value_bytes(),
             systems[0].name);
  fmt::print("{:>12} {:<22} {:>12}  {}\n", "records", "system", "ops/s", "times (min .. max)");
  for (const Footprint& one : results) {
    fmt::print("{:>12} {:<22} {:>12.0f}  {:.2f} ({:.2f} .. {:.2f})\n", one.records, one.system,
               one.per_second, one.ratio.median, one.ratio.min, one.ratio.max);
    notes.push_back(fmt::format("footprint: {} records, {} get {:.0f}/s, ratio {:.3f}", one.records,
                                one.system, one.per_second, one.ratio.median));
  }
  return {};
}

Status run(Options& options) {
  BAILEY_TRY(choose_operations(options));
  std::vector<std::string> skipped;
  const std::vector<System> all = all_systems(skipped);
  if (options.list) {
    for (const System& system : all) fmt::print("{:<22} {}\n", system.name, system.summary);
    for (const std::string& line : skipped) fmt::print("{}\n", line);
    return {};
  }
  std::vector<std::string> only = options.only;
  if (options.footprint && only.empty()) only = {"probe", options.base};
  std::vector<System> systems = BAILEY_TRY(chosen(all, only));
  BAILEY_TRY(chosen(all, {options.base}));
  const Machine machine = this_machine();
  for (const std::string& line : machine.lines()) fmt::print("# {}\n", line);
  std::fflush(stdout);

  Scratch scratch = BAILEY_TRY(Scratch::make());
  Progress progress("compare");
  std::vector<std::string> notes = {fmt::format("records: {}; keys of {} B at most; uniform; {}",
                                                options.contest.records, ycsb_key_bytes_max,
                                                counted(options.contest.rounds, "round"))};
  std::vector<Row> rows;
  if (options.footprint) {
    // The base of the ratios comes first.
    std::partition(systems.begin(), systems.end(),
                   [&](const System& one) { return one.name == options.base; });
    BAILEY_TRY(footprint(systems, options, scratch.path(), progress, notes));
  } else {
    const ValuePool values(options.contest.value_bytes);
    std::vector<Contestant> contestants =
        BAILEY_TRY(make_contestants(systems, options.contest.records, options.contest.records / 4 + 1024,
                                    values, scratch.path(), progress, skipped));
    const ContestResult result = BAILEY_TRY(run_contest(contestants, options.contest, values, progress));
    rows = make_rows(result.scores, options.base, options.contest.value_bytes);
    progress.clear();
    fmt::print("{}", table_text(rows, options.base));
    notes.push_back(
        fmt::format("left out, since the machine's other work took the core: {:.1f} % of the time",
                    result.disturbance.share() * 100));
    if (result.disturbance.share() > busy_share)
      fmt::print(
          "The machine is busy: other work took the core for {:.0f} % of the time, which was left out. What "
          "was\n"
          "measured still had caches that others use; servers suffer more than what runs in this process.\n",
          result.disturbance.share() * 100);
    if (options.beside_writer) BAILEY_TRY(beside_writer(contestants, options, values, progress, notes));
  }
  for (const std::string& line : skipped) fmt::print("{}\n", line);
  notes.insert(notes.end(), skipped.begin(), skipped.end());
  if (!options.csv.empty()) BAILEY_TRY(write_file(options.csv, csv_text(rows, machine, notes)));
  if (!options.plot.empty()) BAILEY_TRY(plot_png(rows, machine, scratch.path(), options.plot));
  return {};
}

int main_of(int argc, char** argv) {
  Options options;
  CLI::App app(
      "The same keys, values and operations on Bailey and on what it is compared with, interleaved in one "
      "run.",
      "bench/compare");
  app.add_flag("--quick", options.quick, "three short rounds: the order of magnitude, in a few seconds");
  app.add_flag("--list", options.list, "name the systems and end");
  app.add_option("--only", options.only, "these systems, by name or by the name's first word")
      ->delimiter(',');
  app.add_option("--base", options.base, "the system that the ratios are of (bailey)");
  app.add_option("--operations", options.operations, "these operations alone")->delimiter(',');
  app.add_option("--csv", options.csv, "write the rows here, with the machine's facts as comments");
  app.add_option("--plot", options.plot, "draw a PNG here (needs gnuplot)");
  app.add_option("--records", options.contest.records, "records in each store")
      ->check(CLI::Range(std::uint64_t{1000}, std::uint64_t{1'000'000'000}));
  app.add_option("--value-size", options.contest.value_bytes, "bytes of a value (with --footprint: 32)")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 20));
  app.add_option("--clients", options.contest.clients,
                 "how many clients; several numbers are measured in turn")
      ->delimiter(',')
      ->check(CLI::Range(1u, 256u));
  app.add_option("--rounds", options.contest.rounds, "how many rounds")->check(CLI::Range(1u, 1000u));
  app.add_option("--seed", options.contest.seed, "of keys and of the order of the systems");
  app.add_flag("--beside-writer", options.beside_writer, "also: the tail of get beside a busy writer");
  app.add_flag("--footprint", options.footprint,
               "instead: get as records grow from 10 k on, Bailey and the probe");
  app.add_option("--records-max", options.records_max, "where --footprint ends")
      ->check(CLI::Range(std::uint64_t{10'000}, std::uint64_t{1'000'000'000}));
  CLI11_PARSE(app, argc, argv);
  if (options.footprint && app.count("--value-size") == 0) options.contest.value_bytes = 32;
  if (options.quick) {
    if (app.count("--rounds") == 0) options.contest.rounds = 3;
    options.contest.slices = 3;
    options.contest.slice_ns = 15'000'000;
    options.contest.latency_ns = 20'000'000;
  }
  watch_interrupts();
  const Status done = run(options);
  return done ? 0 : told(done.error());
}

}  // namespace
}  // namespace bailey::bench

int main(int argc, char** argv) { return bailey::bench::main_of(argc, argv); }
