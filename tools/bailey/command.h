// What the subcommands of `bailey` share: exit statuses, how errors are told, how a session is made.
//
// Thread safety: one thread; for the program's main.
#pragma once

#include <CLI/App.hpp>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "bailey/base/error.h"
#include "bailey/session/session.h"

namespace bailey::tools {

// Scripts branch on these: docs/operating.md and `bailey --help` promise them.
enum Exit : int {
  exit_ok = 0,
  exit_failed = 1,     // the reason is on standard error
  exit_usage = 2,      // the command line is wrong; nothing was tried
  exit_not_found = 3,  // what was named is not there: a key, a region, a file
  exit_refused = 4,    // no right to it, or data would go and nobody has agreed
};

// Tells an error on standard error, as one paragraph; the status to exit with, which is never exit_usage.
int told(const Error& error);
int told(const Status& status);

// Runs `work` when the subcommand was given; its value is the exit status.
void on_run(CLI::App* command, int& status, std::function<int()> work);

// How to reach a broker, and as whom.
struct Reach {
  std::string socket;
  std::string key_file;
  std::string broker_key;
  unsigned timeout_ms = session::timeout_ms_default;

  Result<Session> connect() const;
};
void add_reach_options(CLI::App* command, Reach& reach);

// A field of bytes in JSON: {"NAME": "text"}, or {"NAME_base64": "..."} where they are not UTF-8.
void set_bytes(nlohmann::json& object, const std::string& name, std::string_view bytes);
// Bytes for a terminal: what is not printable ASCII, tab and backslash included, as \xNN.
std::string printable(std::string_view bytes);

// One function a subcommand, each in its own file.
void add_serve(CLI::App& app, int& status);
void add_principal(CLI::App& app, int& status);
void add_policy(CLI::App& app, int& status);
void add_table(CLI::App& app, int& status);
void add_region(CLI::App& app, int& status);
void add_region_bytes(CLI::App& region, int& status);  // of `bailey region`
void add_token(CLI::App& app, int& status);
void add_status(CLI::App& app, int& status);
void add_pool(CLI::App& app, int& status);
void add_bench(CLI::App& app, int& status);
void add_bench_open(CLI::App& bench, int& status);  // of `bailey bench`
void add_bench_window(CLI::App& bench, int& status);
void add_demo(CLI::App& app, int& status);
void add_exec(CLI::App& app, int& status);
void add_attack(CLI::App& app, int& status);

}  // namespace bailey::tools
