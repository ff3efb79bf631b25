// `bailey status`: what the broker knows, for people or for machines.
#include <fmt/format.h>

#include <memory>

#include "bailey/base/count.h"
#include "bailey/policy/size.h"
#include "tools/bailey/command.h"

namespace bailey::tools {
namespace {

using nlohmann::json;

struct Options {
  Reach reach;
  bool json = false;
};

std::string text(const json& row, const char* name) {
  const json& value = row.at(name);
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string many(const json& row, const char* name, std::string_view noun) {
  return counted(row.at(name).get<std::uint64_t>(), noun);
}

std::string joined(const json& list) {
  std::string out;
  for (const json& one : list) out += (out.empty() ? "" : ", ") + one.get<std::string>();
  return out.empty() ? "nobody of the policy" : out;
}

void print_region(const json& region) {
  const json& posture = region.at("posture");
  fmt::print("\nregion {}: {}, {}, {} of {}; {}, {}, {}\n", text(region, "name"), text(region, "kind"),
             text(region, "mode"), policy::format_size(region.at("bytes").get<std::uint64_t>()),
             policy::format_size(region.at("size").get<std::uint64_t>()), many(region, "writers", "writer"),
             many(region, "readers", "reader"), many(region, "segments_frozen", "frozen segment"));
  fmt::print("  asked: {}; in force: {}\n", joined(posture.value("asked", json::array())),
             joined(posture.at("in_force")));
  for (const json& one : posture.at("holds"))
    fmt::print("  held by {:<7} {}: {}\n", text(one, "by"), text(one, "what"), text(one, "how"));
  for (const json& one : posture.at("not_stopped"))
    fmt::print("  NOT stopped     {}\n", one.get<std::string>());
}

// Who asked, and for what, are words of others: their names go to a terminal only as printable() has them.
void print_denials(const json& denials) {
  fmt::print("\ndenials:\n  {:>8}  {:<24} {:<20} {}\n", "how many", "who", "region", "reason");
  for (const json& one : denials) {
    const std::string region = printable(text(one, "region"));
    fmt::print("  {:>8}  {:<24} {:<20} {}\n", one.at("count").get<std::uint64_t>(),
               printable(text(one, "who")), region.empty() ? "-" : region, printable(text(one, "reason")));
  }
}

void print(const json& status) {
  const json& pool = status.at("pool");
  const json& broker = status.at("broker");
  fmt::print("pool {} on {}; broker pid {} (keeper {}), up for {:.1f} s, its start number {}\n",
             text(pool, "name"), text(pool, "medium"), text(broker, "pid"), text(broker, "keeper"),
             broker.at("uptime_ms").get<double>() / 1000, text(broker, "epoch"));
  for (const json& region : status.at("regions")) print_region(region);
  fmt::print("\nsessions:\n");
  for (const json& session : status.at("sessions")) {
    fmt::print("  {:>4}  pid {:<8} uid {:<8} {}{}\n", text(session, "number"), text(session, "pid"),
               text(session, "uid"),
               session.at("janitor").get<bool>() ? "the janitor" : joined(session.at("principals")),
               session.at("admin").get<bool>() ? ", admin" : "");
    for (const json& open : session.at("regions"))
      fmt::print("        {} {}{}{}\n", open.at("writable").get<bool>() ? "rw" : "r ", text(open, "region"),
                 open.at("segments").get<std::uint64_t>() == 0
                     ? ""
                     : fmt::format(", {} of {}", many(open, "segments", "segment"),
                                   policy::format_size(open.at("bytes").get<std::uint64_t>())),
                 text(open, "revoked").empty() ? "" : ", revoked: " + text(open, "revoked"));
  }
  if (!status.at("denials").empty()) print_denials(status.at("denials"));
  if (const auto left = status.find("left_off"); left != status.end())
    fmt::print("\nleft off, since it would not fit into a message: {}\n", left->dump());
}

Status show(const Options& options) {
  Session session = BAILEY_TRY(options.reach.connect());
  const json status = json::parse(BAILEY_TRY(session.status()));
  if (options.json)
    fmt::print("{}\n", status.dump(2));
  else
    print(status);
  return {};
}

}  // namespace

void add_status(CLI::App& app, int& status) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "status",
      "What the broker knows: pool, regions with their posture, sessions, denials.\n\n"
      "The posture says for each region what protection is asked, what is in force, by whose word, and what\n"
      "is NOT stopped. An admin sees all, others what they may read and their own session.\n"
      "Example:\n"
      "  bailey status --json");
  command->add_flag("--json", options->json, "for machines");
  add_reach_options(command, options->reach);
  on_run(command, status, [options] { return told(show(*options)); });
}

}  // namespace bailey::tools
