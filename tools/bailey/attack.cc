// `bailey attack`: tries to break what Bailey protects, and says what came of it.
#include "attack/suite.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <memory>

#include "bailey/guard/processor.h"
#include "tools/bailey/command.h"

namespace bailey::tools {
namespace {

// It ends after the attack at hand, so that nothing is left.
volatile std::sig_atomic_t interrupted = 0;

struct Asked {
  std::vector<std::string> names;
  bool list = false, json = false, csv = false;
};

std::string expected_of(const attack::Attack& attack) {
  if (attack.gets_through()) return "gets through";
  if (attack.expected.empty()) return "stopped";
  return fmt::format("{}", fmt::join(attack.expected, " or "));
}
// What stops it, or what would.
std::string mechanism_of(const attack::Attack& attack) {
  return attack.known.empty() ? attack.mechanism : "stopped by: " + attack.known;
}

nlohmann::json as_json(const attack::Attack& attack) {
  return {{"attack", attack.name},
          {"what", attack.what},
          {"rung", attack.rung},
          {"mechanism", attack.mechanism},
          {"expected", expected_of(attack)},
          {"known_stopped_by", attack.known}};
}

std::string field(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

int list(const std::vector<const attack::Attack*>& attacks, bool json) {
  if (json) {
    nlohmann::json all = nlohmann::json::array();
    for (const attack::Attack* attack : attacks) all.push_back(as_json(*attack));
    fmt::print("{}\n", all.dump(2));
    return exit_ok;
  }
  for (const attack::Attack* attack : attacks) fmt::print("{:<58} {}\n", attack->name, attack->what);
  return exit_ok;
}

void print_table(const std::vector<attack::Outcome>& rows) {
  std::size_t widths[5] = {6, 4, 9, 8, 4};
  auto cells = [](const attack::Outcome& row) {
    return std::array<std::string, 5>{row.attack->name, row.attack->rung, mechanism_of(*row.attack),
                                      expected_of(*row.attack), row.came.seen};
  };
  for (const attack::Outcome& row : rows)
    for (std::size_t i = 0; const std::string& cell : cells(row)) {
      widths[i] = std::max(widths[i], std::min<std::size_t>(cell.size(), 60));
      ++i;
    }
  auto print = [&](const std::array<std::string, 5>& line, std::string_view verdict) {
    for (std::size_t i = 0; i < line.size(); ++i) fmt::print("{:<{}}  ", line[i], widths[i]);
    fmt::print("{}\n", verdict);
  };
  print({"attack", "rung", "mechanism", "expected", "seen"}, "verdict");
  for (const attack::Outcome& row : rows) print(cells(row), attack::name(row.verdict));
}

// Attacks of `strict` are tried without keys as well: the filters are there.
void print_without_keys(const std::vector<attack::Outcome>& rows) {
  const Status keys = guard::processor_has_keys();
  const bool guarded = std::ranges::any_of(
      rows, [](const attack::Outcome& row) { return row.attack->rung.starts_with("pkey"); });
  if (guarded && !keys)
    fmt::print("{}: no region is guarded here; what the filter refuses it refuses all the same\n",
               keys.error().message);
}

int run(const Asked& asked) {
  std::string unknown;
  const auto attacks = attack::select(attack::all_attacks(), asked.names, unknown);
  if (!unknown.empty()) {
    fmt::print(stderr, "bailey: there is no attack and no group \"{}\"; bailey attack --list names them\n",
               unknown);
    return exit_usage;
  }
  if (asked.list) return list(attacks, asked.json);

  attack::Suite suite;
  std::vector<attack::Outcome> rows;
  const bool shows = ::isatty(STDERR_FILENO) != 0;
  unsigned wrong = 0, counts[9] = {};
  std::signal(SIGINT, [](int) { interrupted = 1; });
  std::signal(SIGTERM, [](int) { interrupted = 1; });
  for (const attack::Attack* attack : attacks) {
    if (interrupted != 0) break;
    if (shows) fmt::print(stderr, "\r\033[K{}/{} {}", rows.size() + 1, attacks.size(), attack->name);
    rows.push_back(suite.run(*attack));
    ++counts[static_cast<std::size_t>(rows.back().verdict)];
    wrong += attack::is_wrong(rows.back().verdict) ? 1 : 0;
  }
  if (shows) fmt::print(stderr, "\r\033[K");
  if (asked.json) {
    nlohmann::json all = nlohmann::json::array();
    for (const attack::Outcome& row : rows) {
      nlohmann::json one = as_json(*row.attack);
      one["seen"] = row.came.seen;
      one["verdict"] = attack::name(row.verdict);
      one["wrong"] = attack::is_wrong(row.verdict);
      one["ms"] = row.ns / 1'000'000;
      all.push_back(std::move(one));
    }
    fmt::print("{}\n", all.dump(2, ' ', true, nlohmann::json::error_handler_t::replace));
  } else if (asked.csv) {
    fmt::print("attack,rung,mechanism,expected,seen,verdict,wrong\n");
    for (const attack::Outcome& row : rows)
      fmt::print("{},{},{},{},{},{},{}\n", row.attack->name, row.attack->rung,
                 field(mechanism_of(*row.attack)), field(expected_of(*row.attack)), field(row.came.seen),
                 field(attack::name(row.verdict)), attack::is_wrong(row.verdict) ? 1 : 0);
  } else {
    print_table(rows);
    fmt::print("\n{} attacks", rows.size());
    for (std::size_t i = 0; i < std::size(counts); ++i)
      if (counts[i] != 0) fmt::print("; {} {}", counts[i], attack::name(static_cast<attack::Verdict>(i)));
    fmt::print("\n");
    print_without_keys(rows);
  }
  if (interrupted != 0)
    fmt::print(stderr, "bailey: stopped; {} of {} attacks were made\n", rows.size(), attacks.size());
  return wrong == 0 && interrupted == 0 ? exit_ok : exit_failed;
}

}  // namespace

void add_attack(CLI::App& app, int& status) {
  auto asked = std::make_shared<Asked>();
  CLI::App* command = app.add_subcommand(
      "attack",
      "Attacks a Bailey of its own, each time as a real process, and prints what was expected and seen.\n\n"
      "Starts brokers on temporary folders and memory, touches nothing else, and leaves nothing.\n"
      "As root the attackers get uids of their own. The groups:\n"
      "  files      what is handed out: reopened, remapped, written, cut, sealed, by one uid, another, root\n"
      "  waiting    peers that wake, fill and flip what others look at, and take all that there is\n"
      "  bounds     offsets, lengths and numbers at every edge; memory scribbled over while others read\n"
      "  processes  what the kernel lets one process do to another, and to mappings of its own\n"
      "  tokens     made up, changed, used too long, elsewhere, by others; minted with what keys one has\n"
      "  windows    windows on plain bytes left at every edge, widened, used with others' tokens\n"
      "  medium     encrypted records read, changed and forged in the files of a pool, past the broker\n"
      "  pkey       code of the process itself against pages that only gates open (needs protection keys)\n"
      "  strict     what code of a program does that was begun by bailey exec --strict, to get at guarded "
      "pages\n"
      "  canary     the same on what nothing protects: it gets through, or the suite would see no success\n"
      "What gets through on a rung and is known to is said so, with what stops it.\n"
      "BROKEN: what is attacked could not be set up, or it took too long; nothing is shown. Where whoever "
      "runs\n"
      "it can't set it up (a user namespace without other uids), it is skipped with the reason instead.\n"
      "Exit status 1 where anything got through that should not, a canary did not, or one is BROKEN.\n"
      "Example:\n"
      "  bailey attack files processes");
  command->add_option("NAME", asked->names, "attacks or groups of them; without one, all")->type_name("NAME");
  command->add_flag("--list", asked->list, "names the attacks and runs none");
  auto* json = command->add_flag("--json", asked->json, "prints JSON");
  command->add_flag("--csv", asked->csv, "prints a line an attack, with commas")->excludes(json);
  on_run(command, status, [asked] { return run(*asked); });
}

}  // namespace bailey::tools
