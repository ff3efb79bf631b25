// `bailey`: the command. Each subcommand is a file of this folder.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>

#include "bailey/base/log.h"
#include "tools/bailey/command.h"

namespace {

constexpr const char* about =
    "Bailey is protected shared memory: a broker gives processes exactly the pieces of one pool that a\n"
    "policy grants them.\n\n"
    "  bailey demo                        see it work, in under a minute\n"
    "  bailey serve --demo                a broker to try things on; it prints what to type\n"
    "  bailey principal add alice         make alice a key, and the policy lines for her\n"
    "  bailey policy check policy.toml    every mistake of a policy with its line\n"
    "  bailey serve --policy policy.toml  a broker of your own\n"
    "  bailey table put orders key value  use a table\n"
    "  bailey status                      what is protected, by whom, and what is not stopped\n"
    "  bailey exec --strict -- PROGRAM    a program that can't get around protection keys\n"
    "  bailey attack                      tries to break it, and says what came of it\n\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage, 3 not found (a key, a region, a file), 4 refused (no "
    "right\n"
    "to it). The reason is on standard error.";

bool knows(const CLI::App& app, std::string_view name) {
  return !app.get_subcommands([&](const CLI::App* command) { return command->get_name() == name; }).empty();
}

}  // namespace

int main(int count, char** arguments) {
  using namespace bailey::tools;
  int status = exit_ok;
  try {
    CLI::App app(about, "bailey");
    app.require_subcommand(1);
    app.set_version_flag("--version", "bailey " + std::string(bailey::session::version()));
    add_demo(app, status);
    add_serve(app, status);
    add_principal(app, status);
    add_policy(app, status);
    add_table(app, status);
    add_region(app, status);
    add_token(app, status);
    add_status(app, status);
    add_pool(app, status);
    add_bench(app, status);
    add_exec(app, status);
    add_attack(app, status);
    if (count > 1 && arguments[1][0] != '-' && !knows(app, arguments[1])) {
      fmt::print(stderr, "bailey: there is no command \"{}\"; bailey --help lists them\n", arguments[1]);
      return exit_usage;
    }
    try {
      app.parse(count, arguments);
    } catch (const CLI::ParseError& error) {
      return app.exit(error) == 0 ? exit_ok : exit_usage;
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "bailey: {}\n", error.what());
    return exit_failed;
  }
  // Who keeps the output must not take a part of it for all.
  if ((std::fflush(stdout) != 0 || std::ferror(stdout) != 0) && status == exit_ok) {
    fmt::print(stderr, "bailey: could not write to standard output: {}\n", std::strerror(errno));
    status = exit_failed;
  }
  return status;
}
