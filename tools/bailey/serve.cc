// `bailey serve`: a broker in the foreground.
#include "bailey/broker/serve.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "bailey/base/log.h"
#include "bailey/protocol/socket.h"
#include "tools/bailey/command.h"
#include "tools/bailey/janitor.h"
#include "tools/demo/folder.h"

namespace bailey::tools {
namespace {

constexpr const char* policy_usual = "/etc/bailey/policy.toml";

struct Options {
  broker::ServeOptions broker;
  bool demo = false;
  std::string log_level = "info";
};

std::string own_path() {
  char path[4096];
  const ssize_t bytes = ::readlink("/proc/self/exe", path, sizeof path);
  return bytes > 0 ? std::string(path, static_cast<std::size_t>(bytes)) : "bailey";
}

void print_ready(const broker::Running& running) {
  fmt::print("broker ready: pool {}, socket {}, pid {} (keeper {})\npublic key {}, audit log {}\n",
             running.pool, running.socket_path, running.broker, running.keeper, running.broker_key,
             running.audit_path);
  std::fflush(stdout);
}

// What to type elsewhere. README.md shows the same lines; a test compares.
void print_walkthrough(const demo::Folder& folder, const std::string& socket) {
  const std::string socket_option =
      socket == protocol::usual_socket_path() ? "" : fmt::format(" --socket {}", socket);
  const auto line = [&](std::string_view arguments, std::string_view who, std::string_view rest) {
    fmt::print("  {} {}{} --as {} {}\n", own_path(), arguments, socket_option, folder.key_file(who), rest);
  };
  fmt::print(
      "\nIn a second terminal, alice may read and write orders, bob may read it, mallory may nothing:\n\n");
  line("table put", "alice", "orders greeting hello");
  line("table get", "bob", "orders greeting");
  line("table put", "bob", "orders greeting goodbye");
  line("table get", "mallory", "orders greeting");
  line("status", "alice", "");
  fmt::print(
      "\nWhoever can read a key file is that principal: these are all yours, since one user made them. And "
      "as\n"
      "the broker's user you are admin under each of these names: you may apply a policy and mint tokens. "
      "In\n"
      "earnest each principal has a uid of its own. The policy: {}\nCtrl-C stops the broker.\n\n",
      folder.policy_file());
  std::fflush(stdout);
}

int serve(Options options) {
  // From before anything is made until all of it is removed; the keeper reads these from a descriptor.
  // Whatever comes while it cleans up must not end it half-way.
  sigset_t stops;
  sigemptyset(&stops);
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&stops, signal);
  ::sigprocmask(SIG_BLOCK, &stops, nullptr);
  log::set_level(options.log_level == "debug"     ? log::Level::debug
                 : options.log_level == "info"    ? log::Level::info
                 : options.log_level == "warning" ? log::Level::warning
                                                  : log::Level::error);
  broker::ServeOptions& broker = options.broker;
  broker.janitor = run_janitor;
  if (!options.demo) {
    if (broker.policy_file.empty()) {
      if (::access(policy_usual, F_OK) != 0) {
        fmt::print(stderr,
                   "bailey serve: no policy: {} is not there. Give --policy FILE, or --demo to try things\n",
                   policy_usual);
        return exit_usage;
      }
      broker.policy_file = policy_usual;
    }
    broker.ready = print_ready;
    return told(broker::serve_until_stopped(broker));
  }
  if (broker.socket_path.empty()) broker.socket_path = protocol::default_socket_path();
  // Before the folder of keys, which would only say that another demo lives in it.
  if (const Status free = protocol::Listener::nobody_at(broker.socket_path); !free) return told(free);
  Result<demo::Folder> folder = demo::Folder::beside_socket(broker.socket_path);
  if (!folder) return told(folder.error());
  broker.policy_file = folder->policy_file();
  broker.ready = [&](const broker::Running& running) {
    print_ready(running);
    print_walkthrough(*folder, running.socket_path);
  };
  return told(broker::serve_until_stopped(broker));
}

}  // namespace

void add_serve(CLI::App& app, int& status) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "serve",
      "Runs a broker in the foreground until Ctrl-C or SIGTERM.\n\n"
      "It makes the socket, the pool and what the policy declares. SIGHUP reads the policy anew.\n"
      "Example:\n"
      "  bailey serve --policy policy.toml\n"
      "  bailey serve --demo");
  CLI::Option* policy = command
                            ->add_option("--policy", options->broker.policy_file,
                                         fmt::format("who may do what ({})", policy_usual))
                            ->type_name("FILE");
  command
      ->add_option("--socket", options->broker.socket_path,
                   "where to listen ($BAILEY_SOCKET, or the usual place)")
      ->type_name("PATH");
  command
      ->add_option("--key", options->broker.key_file,
                   "secret key of the broker, for clients that pin it (a new one)")
      ->type_name("KEYFILE");
  command
      ->add_option("--audit", options->broker.audit_file,
                   "the audit log (in the state folder, beside the socket)")
      ->type_name("FILE");
  command->add_option("--log", options->log_level, "debug, info, warning or error (info)")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  command
      ->add_flag("--demo", options->demo,
                 "the policy that ships with Bailey, with new keys for its principals; prints what to type")
      ->excludes(policy);
  on_run(command, status, [options] { return serve(*options); });
}

}  // namespace bailey::tools
