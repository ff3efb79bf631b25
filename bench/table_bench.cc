#include "bench/table_bench.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "bailey/base/count.h"
#include "bench/machine.h"
#include "bench/report.h"
#include "bench/server.h"
#include "bench/table_run.h"
#include "bench/trace.h"

namespace bailey::bench {
namespace {

constexpr std::uint64_t clients_max = 1024;

std::unexpected<Error> wrong_option(std::string message, std::string remedy = {}) {
  return fail(Code::invalid_argument, By::library, std::move(message), std::move(remedy));
}

// "memory:" or "memory:2GiB": how much at most, 0 for no limit.
Result<std::uint64_t> plain_medium_bytes(const std::string& medium) {
  constexpr std::string_view prefix = "memory:";
  if (medium.empty()) return 0;
  if (!medium.starts_with(prefix))
    return fail(Code::unsupported, By::library,
                fmt::format("medium {} is not to be had without a broker", medium),
                "give memory: or memory:2GiB, or run it through a broker");
  const std::string_view size = std::string_view(medium).substr(prefix.size());
  if (size.find('?') != std::string_view::npos)
    return fail(Code::unsupported, By::library, fmt::format("medium {}: a plain pool has no options", medium),
                "run it through a broker");
  if (size.empty()) return 0;
  std::uint64_t bytes = 0;
  const auto [stop, error] = std::from_chars(size.data(), size.data() + size.size(), bytes);
  const std::string_view unit(stop, static_cast<std::size_t>(size.data() + size.size() - stop));
  unsigned shift = 0;
  if (unit == "KiB") shift = 10;
  if (unit == "MiB") shift = 20;
  if (unit == "GiB") shift = 30;
  const bool unit_known = unit.empty() || shift != 0;
  if (error != std::errc{} || bytes == 0 || !unit_known || bytes > ~std::uint64_t{0} >> shift)
    return wrong_option(fmt::format("medium {}: {} is not a size", medium, size),
                        "give a size as in memory:2GiB");
  return bytes << shift;
}

Result<std::unique_ptr<Store>> make_plain(const TableBenchOptions& options, const StoreOptions& store) {
  bool encrypted = false, is_signed = false;
  for (const std::string& rung : options.protect) {
    encrypted = encrypted || rung == "encrypted";
    is_signed = is_signed || rung == "signed";
    if (rung != "none" && rung != "encrypted" && rung != "signed")
      return fail(
          Code::unsupported, By::library,
          fmt::format(
              "protection {} is not to be had without a broker: a plain pool is one mapping that all write",
              rung),
          "leave --medium out and run it through a broker, or give --protect none, encrypted, or encrypted "
          "and signed");
  }
  if (is_signed && !encrypted)
    return wrong_option("protection signed is on top of encrypted", "give --protect encrypted,signed");
  const std::uint64_t bytes_max = BAILEY_TRY(plain_medium_bytes(options.medium));
  return make_plain_table(store, options.mode == "shared" ? table::Mode::shared : table::Mode::exclusive,
                          bytes_max, encrypted, is_signed);
}

Result<TablePlan> make_plan(const TableBenchOptions& options, StoreOptions& store) {
  if (options.mode != "exclusive" && options.mode != "shared")
    return wrong_option(fmt::format("mode {} is not known", options.mode), "give exclusive or shared");
  if (options.clients == 0 || options.clients > clients_max)
    return wrong_option(
        fmt::format("{} clients are not possible, 1 to {} are", options.clients, clients_max));
  if (options.batch == 0 || options.batch > 256)
    return wrong_option(fmt::format("a batch of {} is not possible, 1 to 256 is", options.batch));
  if (options.value_bytes > table::value_bytes_max)
    return wrong_option(fmt::format("a value of {} bytes is not possible, at most {} are",
                                    options.value_bytes, table::value_bytes_max));
  if (!options.trace.empty() && !options.workload.empty())
    return wrong_option("a workload and a trace can't both say what to do",
                        "give one of --workload and --trace");
  TablePlan plan;
  plan.clients = options.clients;
  plan.batch = options.batch;
  plan.latency = options.latency;
  plan.seed = options.seed;
  plan.trace = options.trace;
  if (!options.workload.empty()) {
    plan.workload = BAILEY_TRY(read_workload(options.workload));
    for (const std::string& warning : plan.workload.warnings) fmt::print(stderr, "{}\n", warning);
  } else {
    plan.workload.records = options.trace.empty() ? 200'000 : 0;
    plan.workload.operations = 1'000'000;
    plan.workload.read = plan.workload.update = 0.5;
    plan.workload.fields = 1;
    plan.workload.field_bytes = 256;
  }
  if (options.records != 0) plan.workload.records = options.records;
  if (options.operations != 0) plan.workload.operations = options.operations;
  plan.operations = plan.workload.operations;
  plan.value_bytes = options.value_bytes != 0 ? options.value_bytes : plan.workload.value_bytes();
  std::uint64_t inserts = 0;
  if (options.trace.empty()) {
    // Drawn by chance, so a little more than the share.
    const double share = static_cast<double>(plan.operations) * plan.workload.insert;
    inserts = plan.workload.insert > 0 ? static_cast<std::uint64_t>(share * 1.05) + 1000 : 0;
  } else {
    const TraceFacts facts = BAILEY_TRY(
        survey_trace(options.trace, options.operations != 0 ? options.operations : ~std::uint64_t{0}));
    plan.operations = facts.operations;
    plan.value_bytes = std::max(plan.value_bytes, facts.value_bytes_max);
    inserts = facts.inserts;
  }
  store.records = std::max<std::uint64_t>(plan.workload.records + inserts, 1);
  store.value_bytes = plan.value_bytes;
  return plan;
}

// One line of results: a kind of requests, or all of them.
struct Line {
  std::string kind;
  std::uint64_t operations = 0;
  double per_second = 0;
  const Histogram* histogram;
};

constexpr std::array quantiles = {std::pair{"p50_us", 0.5}, std::pair{"p90_us", 0.9},
                                  std::pair{"p99_us", 0.99}, std::pair{"p99.9_us", 0.999},
                                  std::pair{"p99.99_us", 0.9999}};

double us(std::uint64_t ns) { return static_cast<double>(ns) / 1000; }

struct Told {
  const TableBenchOptions& options;
  const TablePlan& plan;
  const TableResult& result;
  Machine machine;
  ClientResult total;
  Histogram all;
  std::vector<Line> lines;

  Told(const TableBenchOptions& options_in, const TablePlan& plan_in, const TableResult& result_in)
      : options(options_in),
        plan(plan_in),
        result(result_in),
        machine(this_machine(
            options_in.medium.find("delay_ns=") == std::string::npos ? "" : "delay of the medium")),
        total(result_in.total()) {
    for (const Histogram& one : total.histograms) all.merge(one);
    lines.push_back({"all", total.rate.operations, result.operations_per_second(), &all});
    for (unsigned kind = 0; kind < kinds; ++kind) {
      if (total.operations[kind] == 0) continue;
      const double share =
          static_cast<double>(total.operations[kind]) / static_cast<double>(total.rate.operations);
      lines.push_back({std::string(name(static_cast<Kind>(kind))), total.operations[kind],
                       result.operations_per_second() * share, &total.histograms[kind]});
    }
  }
  Told(const Told&) = delete;

  std::string protect() const {
    return options.protect.empty() ? "none" : fmt::format("{}", fmt::join(options.protect, "+"));
  }
  std::string medium() const { return options.medium.empty() ? "memory:" : options.medium; }
  std::string work() const {
    return !options.trace.empty()     ? options.trace
           : options.workload.empty() ? "half reads, half updates"
                                      : options.workload;
  }

  void print() const {
    fmt::print("{}{}, mode {}, protect {}, {}, values of {} B, batch {}\n",
               options.label.empty() ? "" : options.label + ": ", counted(options.clients, "client"),
               options.mode, protect(), counted(plan.workload.records, "record"), plan.value_bytes,
               plan.batch);
    if (plan.workload.records > 0) fmt::print("loaded at {:.0f} records/s\n", result.load_per_second);
    fmt::print("{:<18} {:>12} {:>12}", "", "operations", "ops/s");
    if (plan.latency)
      fmt::print(" {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9}", "mean us", "p50", "p90", "p99", "p99.9",
                 "p99.99", "max");
    fmt::print("\n");
    for (const Line& line : lines) print_line(line.kind, line.operations, line.per_second, *line.histogram);
    if (result.clients.size() > 1) {
      for (std::size_t i = 0; i < result.clients.size(); ++i) {
        Histogram merged;
        for (const Histogram& one : result.clients[i].histograms) merged.merge(one);
        print_line(fmt::format("client {}", i), result.clients[i].rate.operations,
                   result.clients[i].rate.per_second(), merged);
      }
    }
    if (total.missing > 0)
      fmt::print("{} named a key that was not there, or inserted one that was\n",
                 counted(total.missing, "request"));
    if (machine.emulated != "no") fmt::print("emulated: {}\n", machine.emulated);
  }
  void print_line(const std::string& kind, std::uint64_t operations, double per_second,
                  const Histogram& histogram) const {
    fmt::print("{:<18} {:>12} {:>12.0f}", kind, operations, per_second);
    if (plan.latency) {
      fmt::print(" {:>8.2f}", histogram.mean() / 1000);
      for (const auto& [label, q] : quantiles) fmt::print(" {:>8.2f}", us(histogram.quantile(q)));
      fmt::print(" {:>9.2f}", us(histogram.max()));
    }
    fmt::print("\n");
  }

  // A label or a path may hold anything.
  static std::string csv_field(const std::string& text) {
    if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
    std::string out = "\"";
    for (char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
    return out + "\"";
  }

  std::string csv() const {
    std::string text;
    for (const std::string& line : machine.lines()) text += "# " + line + "\n";
    text +=
        "label,work,medium,protect,mode,clients,records,value_bytes,batch,kind,operations,ops_per_s,mean_us";
    for (const auto& [label, q] : quantiles) text += fmt::format(",{}", label);
    text += ",max_us,emulated\n";
    for (const Line& line : lines) {
      text +=
          fmt::format("{},{},{},{},{},{},{},{},{},{},{},{:.0f}", csv_field(options.label), csv_field(work()),
                      csv_field(medium()), protect(), options.mode, options.clients, plan.workload.records,
                      plan.value_bytes, plan.batch, line.kind, line.operations, line.per_second);
      const bool timed = line.histogram->count() > 0;
      text += timed ? fmt::format(",{:.3f}", line.histogram->mean() / 1000) : ",";
      for (const auto& [label, q] : quantiles)
        text += timed ? fmt::format(",{:.3f}", us(line.histogram->quantile(q))) : ",";
      text += timed ? fmt::format(",{:.3f}", us(line.histogram->max())) : ",";
      text += "," + csv_field(machine.emulated) + "\n";
    }
    return text;
  }

  std::string json() const {
    nlohmann::json root = {{"label", options.label},
                           {"work", work()},
                           {"medium", medium()},
                           {"protect", protect()},
                           {"mode", options.mode},
                           {"clients", options.clients},
                           {"records", plan.workload.records},
                           {"value_bytes", plan.value_bytes},
                           {"batch", plan.batch},
                           {"missing", total.missing},
                           {"load_per_s", result.load_per_second},
                           {"machine",
                            {{"cpu", machine.cpu},
                             {"cores", machine.cores},
                             {"kernel", machine.kernel},
                             {"memory", machine.memory},
                             {"compiler", machine.compiler},
                             {"build", machine.build},
                             {"hypervisor", machine.hypervisor},
                             {"emulated", machine.emulated}}}};
    for (const Line& line : lines) {
      nlohmann::json one = {
          {"kind", line.kind}, {"operations", line.operations}, {"ops_per_s", line.per_second}};
      if (line.histogram->count() > 0) {
        one["mean_us"] = line.histogram->mean() / 1000;
        for (const auto& [label, q] : quantiles) one[label] = us(line.histogram->quantile(q));
        one["max_us"] = us(line.histogram->max());
      }
      root["results"].push_back(one);
    }
    // A label that is not UTF-8 is no reason to lose the results.
    return root.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }
};

Status run(const TableBenchOptions& options, const std::vector<TableBackend>& backends) {
  StoreOptions store_options;
  const TablePlan plan = BAILEY_TRY(make_plan(options, store_options));
  Scratch scratch = BAILEY_TRY(Scratch::make());
  store_options.scratch = scratch.path();
  const auto serving = std::find_if(backends.begin(), backends.end(),
                                    [&](const TableBackend& one) { return one.serves(options); });
  std::unique_ptr<Store> store = BAILEY_TRY(serving != backends.end() ? serving->make(options, store_options)
                                                                      : make_plain(options, store_options));
  Progress progress("bench table");
  const TableResult result = BAILEY_TRY(run_table(plan, *store, progress));
  progress.clear();
  const Told told(options, plan, result);
  told.print();
  if (!options.csv.empty()) BAILEY_TRY(write_file(options.csv, told.csv()));
  if (!options.json.empty()) BAILEY_TRY(write_file(options.json, told.json()));
  return {};
}

}  // namespace

void add_table_bench_options(CLI::App& command, TableBenchOptions& options) {
  command.add_option("--clients", options.clients, "how many clients, each a process (1)")->type_name("N");
  command
      .add_option("--records", options.records, "records to load first (the workload's, or 200000; trace: 0)")
      ->type_name("N");
  command
      .add_option("--operations", options.operations,
                  "requests of all clients together (the workload's, or 1000000; trace: all)")
      ->type_name("N");
  command.add_option("--value-size", options.value_bytes, "of a value, in bytes (the workload's, or 256)")
      ->type_name("SIZE");
  command
      .add_option("--batch", options.batch,
                  "reads, and updates, that follow each other go in calls of up to so many (1)")
      ->type_name("N");
  command
      .add_option("--mode", options.mode, "exclusive: client 0 writes, the others read; shared: all write")
      ->type_name("MODE");
  command.add_option("--protect", options.protect, "rungs of protection, with commas between them")
      ->delimiter(',')
      ->type_name("RUNG,...");
  command
      .add_option("--medium", options.medium,
                  "where the bytes live, without a broker: memory: or memory:2GiB")
      ->type_name("MEDIUM");
  command
      .add_option("--workload", options.workload, "a YCSB property file (half reads, half updates, uniform)")
      ->type_name("FILE");
  command
      .add_option("--trace", options.trace,
                  "replay this trace: lines INSERT|READ|UPDATE|SCAN|DELETE TABLE KEY ...")
      ->type_name("FILE");
  command.add_option("--csv", options.csv, "write the results here, with the machine's facts as comments")
      ->type_name("FILE");
  command.add_option("--json", options.json, "write the results here")->type_name("FILE");
  command.add_flag("--latency", options.latency, "time each call; the clock costs some throughput");
  command.add_option("--label", options.label, "a name for this run in the results")->type_name("TEXT");
  command.add_option("--seed", options.seed, "of keys and requests (1)")->type_name("N");
}

Status run_table_bench(const TableBenchOptions& options, const std::vector<TableBackend>& backends) {
  watch_interrupts();
  return run(options, backends);
}

}  // namespace bailey::bench
