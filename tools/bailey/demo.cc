// `bailey demo`: what Bailey does, shown in under a minute.
#include "tools/demo/demo.h"

#include <memory>

#include "tools/bailey/command.h"

namespace bailey::tools {

void add_demo(CLI::App& app, int& status) {
  auto options = std::make_shared<demo::Options>();
  CLI::App* command = app.add_subcommand(
      "demo",
      "Shows in under a minute what Bailey does, and stops all that it started.\n\n"
      "A broker of its own, and three principals in three processes: alice may write, bob may read, mallory\n"
      "may nothing. Prints their speed, what was refused by whom, what is not stopped, and what the "
      "protection\n"
      "costs beside two baselines of the same run. As root the three get uids of their own.\n"
      "Example:\n"
      "  bailey demo");
  command->add_flag("--quick", options->quick,
                    "the same with fewer records, in a few seconds; figures mean less");
  command->add_flag("--one-uid", options->one_uid, "all three under your uid, known by keys, also as root");
  on_run(command, status, [options] { return demo::run(*options); });
}

}  // namespace bailey::tools
