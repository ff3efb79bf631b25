// `bailey policy`: check a policy file, and have a broker follow it.
#include "bailey/policy/policy.h"
#include "bailey/base/count.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "bailey/base/fd.h"
#include "bailey/broker/context.h"
#include "bailey/policy/document.h"
#include "tools/bailey/command.h"

namespace bailey::tools {
namespace {

struct Check {
  std::string file;
  bool json = false;
};

int check(const Check& options) {
  const Result<policy::Checked> checked = policy::check_file(options.file, broker::parse_context());
  if (!checked) return told(checked.error());
  if (options.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const policy::Diagnostic& one : checked->diagnostics)
      list.push_back({{"file", one.file},
                      {"line", one.line},
                      {"column", one.column},
                      {"severity", one.severity == policy::Severity::error ? "error" : "warning"},
                      {"message", one.message},
                      {"hint", one.hint}});
    fmt::print("{}\n", nlohmann::json{{"ok", checked->ok()}, {"diagnostics", list}}.dump(
                           2, ' ', false, nlohmann::json::error_handler_t::replace));
    return checked->ok() ? exit_ok : exit_failed;
  }
  for (const policy::Diagnostic& one : checked->diagnostics) fmt::print(stderr, "{}\n", one.to_string());
  if (!checked->ok()) return exit_failed;
  const policy::Policy& policy = *checked->policy;
  fmt::print("{}: pool {} on {}: {}, {}, {}; no mistakes\n", options.file, policy.pool,
             policy.medium.to_string(), counted(policy.regions.size(), "region"),
             counted(policy.principals.size(), "principal"), counted(policy.grants.size(), "grant"));
  return exit_ok;
}

struct Apply {
  Reach reach;
  std::string file;
  bool drop = false;
};

Status apply(const Apply& options) {
  const std::string text = BAILEY_TRY(read_file(options.file, policy::text_bytes_max));
  std::error_code error;
  const std::filesystem::path path = std::filesystem::absolute(options.file, error);
  if (error) return fail_os(error.value(), fmt::format("could not tell where {} is", options.file));
  Session session = BAILEY_TRY(options.reach.connect());
  std::string changes =
      BAILEY_TRY(session.apply_policy(text, options.file, path.parent_path().string(), options.drop));
  if (!changes.empty() && changes.back() != '\n') changes += '\n';
  fmt::print("{}", changes);
  return {};
}

}  // namespace

void add_policy(CLI::App& app, int& status) {
  CLI::App* policy = app.add_subcommand("policy", "check a policy, and have a broker follow it");
  policy->require_subcommand(1);

  auto checking = std::make_shared<Check>();
  CLI::App* command = policy->add_subcommand("check",
                                             "Tells every mistake of a policy with file, line and column.\n\n"
                                             "Needs no broker. Exit status 1 where there is a mistake.\n"
                                             "Example:\n"
                                             "  bailey policy check policy.toml");
  command->add_option("FILE", checking->file, "the policy")->required();
  command->add_flag("--json", checking->json, "for machines");
  on_run(command, status, [checking] { return check(*checking); });

  auto applying = std::make_shared<Apply>();
  command = policy->add_subcommand(
      "apply",
      "Makes a running broker follow a policy; for its admins.\n\n"
      "What is new is created, what is no longer granted is revoked. What would drop data is refused\n"
      "unless --drop is given.\n"
      "Example:\n"
      "  bailey policy apply policy.toml");
  command->add_option("FILE", applying->file, "the policy")->required();
  command->add_flag("--drop", applying->drop,
                    "data of regions that the policy no longer has, or has changed, may go");
  add_reach_options(command, applying->reach);
  on_run(command, status, [applying] { return told(apply(*applying)); });
}

}  // namespace bailey::tools
