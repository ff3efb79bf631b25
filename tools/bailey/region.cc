// `bailey region`: what regions there are, whether they are sound, how they lie in memory.
#include <fmt/format.h>

#include <memory>

#include "bailey/kinds/kinds.h"
#include "bailey/policy/size.h"
#include "tools/bailey/command.h"

namespace bailey::tools {
namespace {

struct Options {
  Reach reach;
  std::string region;
  kinds::InspectOptions inspect;
  bool json = false;
};

Status list(const Options& options) {
  Session session = BAILEY_TRY(options.reach.connect());
  const nlohmann::json status = nlohmann::json::parse(BAILEY_TRY(session.status()));
  const nlohmann::json& regions = status.at("regions");
  if (options.json) {
    fmt::print("{}\n", regions.dump(2));
    return {};
  }
  fmt::print("{:<20} {:<8} {:<10} {:>10} {:>10} {:>9} {:>8} {:>8}\n", "region", "kind", "mode", "size",
             "in use", "segments", "writers", "readers");
  for (const nlohmann::json& one : regions)
    fmt::print("{:<20} {:<8} {:<10} {:>10} {:>10} {:>9} {:>8} {:>8}\n", one.at("name").get<std::string>(),
               one.at("kind").get<std::string>(), one.at("mode").get<std::string>(),
               policy::format_size(one.at("size").get<std::uint64_t>()),
               policy::format_size(one.at("bytes").get<std::uint64_t>()),
               one.at("segments_open").get<std::uint64_t>() + one.at("segments_frozen").get<std::uint64_t>(),
               one.at("writers").get<std::uint64_t>(), one.at("readers").get<std::uint64_t>());
  return {};
}

Result<const kinds::Kind*> kind_of(const session::Region& region, const std::string& name) {
  if (const kinds::Kind* kind = kinds::find(region.kind)) return kind;
  return fail(Code::unsupported, By::library,
              fmt::format("region {} is of kind {}, which this version does not know", name, region.kind),
              "use the command of the version that the broker has");
}

Result<bool> check(const Options& options) {
  Session session = BAILEY_TRY(options.reach.connect());
  const session::Region region = BAILEY_TRY(session.open_region(options.region, Access::read_only));
  const kinds::Kind* kind = BAILEY_TRY(kind_of(region, options.region));
  const kinds::Report report = BAILEY_TRY(kind->check(*region.view, region.geometry));
  if (!options.json) {
    fmt::print("{}", report.to_string());
    return report.sound();
  }
  nlohmann::json findings = nlohmann::json::array();
  for (const kinds::Finding& one : report.findings)
    findings.push_back({{"grade", one.grade == kinds::Finding::Grade::damage ? "damage" : "note"},
                        {"problem", one.problem},
                        {"count", one.count},
                        {"example", one.example}});
  fmt::print("{}\n", nlohmann::json{{"region", options.region},
                                    {"sound", report.sound()},
                                    {"records", report.records},
                                    {"key_bytes", report.key_bytes},
                                    {"value_bytes", report.value_bytes},
                                    {"slots", report.slots},
                                    {"buckets_overflowing", report.buckets_overflowing},
                                    {"segments", report.segments},
                                    {"findings", findings}}
                         .dump(2));
  return report.sound();
}

Status inspect(const Options& options) {
  Session session = BAILEY_TRY(options.reach.connect());
  const session::Region region = BAILEY_TRY(session.open_region(options.region, Access::read_only));
  const kinds::Kind* kind = BAILEY_TRY(kind_of(region, options.region));
  fmt::print("{}", BAILEY_TRY(kind->inspect(*region.view, region.geometry, options.inspect)));
  return {};
}

Status rotate(const Options& options) {
  Session session = BAILEY_TRY(options.reach.connect());
  fmt::print("{}\n", BAILEY_TRY(session.rotate_key(options.region)));
  return {};
}

}  // namespace

void add_region(CLI::App& app, int& status) {
  CLI::App* region =
      app.add_subcommand("region", "regions: which there are, whether they are sound, their layout");
  region->require_subcommand(1);

  auto options = std::make_shared<Options>();
  CLI::App* command = region->add_subcommand("list",
                                             "Lists the regions that you may read; an admin sees all.\n\n"
                                             "Example:\n"
                                             "  bailey region list --json");
  command->add_flag("--json", options->json, "for machines, with the posture");
  add_reach_options(command, options->reach);
  on_run(command, status, [options] { return told(list(*options)); });

  options = std::make_shared<Options>();
  command =
      region->add_subcommand("check",
                             "Walks a region and tells what is damaged. Writes nothing; others may go on.\n\n"
                             "Exit status 1 where there is damage. Needs the right to read.\n"
                             "Example:\n"
                             "  bailey region check orders --as keys/bob");
  command->add_option("REGION", options->region, "its name")->required();
  command->add_flag("--json", options->json, "for machines");
  add_reach_options(command, options->reach);
  on_run(command, status, [options] {
    const Result<bool> sound = check(*options);
    return sound ? *sound ? exit_ok : exit_failed : told(sound.error());
  });

  options = std::make_shared<Options>();
  command =
      region->add_subcommand("inspect",
                             "Prints how a region lies in memory, each field with its offset and meaning.\n\n"
                             "Needs the right to read. docs/formats.md explains the layout.\n"
                             "Example:\n"
                             "  bailey region inspect orders --lines 100");
  command->add_option("REGION", options->region, "its name")->required();
  command->add_flag("--contents", options->inspect.contents,
                    "print keys and values too, not only their sizes");
  command->add_option("--lines", options->inspect.lines_max, "at most so many lines (100000)")
      ->type_name("N");
  add_reach_options(command, options->reach);
  on_run(command, status, [options] { return told(inspect(*options)); });

  options = std::make_shared<Options>();
  command = region->add_subcommand(
      "rotate",
      "Gives an encrypted region a new key. Who has the old one opens nothing that is written from then "
      "on.\n\n"
      "Readers and writers go on. Done by itself when somebody loses the right to read. Needs an admin.\n"
      "Example:\n"
      "  bailey region rotate vault");
  command->add_option("REGION", options->region, "its name")->required();
  add_reach_options(command, options->reach);
  on_run(command, status, [options] { return told(rotate(*options)); });
  add_region_bytes(*region, status);
}

}  // namespace bailey::tools
