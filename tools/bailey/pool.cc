// `bailey pool rm`: removes what a pool left on its medium.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <iostream>
#include <memory>

#include "bailey/base/count.h"
#include "bailey/base/fd.h"
#include "bailey/policy/medium_spec.h"
#include "bailey/policy/policy.h"
#include "tools/bailey/command.h"

namespace bailey::tools {
namespace {

struct Options {
  std::string what;
  bool yes = false;
};

Result<policy::MediumSpec> medium_of(const std::string& what) {
  for (const char* kind : {"memory:", "hugepages:", "file:"})
    if (what.starts_with(kind)) return policy::parse_medium(what);
  const policy::Policy policy = BAILEY_TRY(policy::parse_file(what, {}));
  return policy.medium;
}

// Names that a broker gives its files in a pool's folder.
bool is_pool_file(const std::string& name) {
  if (name.starts_with("state.db") || name.starts_with("audit.log")) return true;
  for (const char* prefix : {"segment-", "index-"}) {
    if (!name.starts_with(prefix)) continue;
    const std::string rest = name.substr(std::string_view(prefix).size());
    return !rest.empty() && rest.find_first_not_of("0123456789-") == std::string::npos;
  }
  return false;
}

bool agreed(const std::string& question) {
  if (::isatty(STDIN_FILENO) == 0) return false;
  fmt::print(stderr, "{} [y/N] ", question);
  std::string answer;
  return std::getline(std::cin, answer) && (answer == "y" || answer == "yes");
}

Status remove(const Options& options) {
  const policy::MediumSpec spec = BAILEY_TRY(medium_of(options.what));
  if (spec.kind != policy::MediumKind::file) {
    fmt::print(
        "A pool on {} leaves nothing behind: its memory has no names and is gone with the broker.\n"
        "Nothing to remove.\n",
        policy::name(spec.kind));
    return {};
  }
  const Fd folder(::open(spec.path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder) return fail_os(errno, fmt::format("could not open the pool's folder {}", spec.path));
  struct stat about;
  if (::fstatat(folder.get(), "state.db", &about, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(about.st_mode))
    return fail(Code::not_found, By::library,
                fmt::format("there is no pool in {}: it has no state.db", spec.path),
                "name the folder that the policy has after file:");
  if (::flock(folder.get(), LOCK_EX | LOCK_NB) != 0)
    return fail(Code::busy, By::library, fmt::format("a broker serves the pool in {}", spec.path),
                "stop it first; nothing was removed");

  std::vector<std::string> ours, others;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(spec.path, error)) {
    const std::string name = entry.path().filename().string();
    (is_pool_file(name) && !entry.is_directory() ? ours : others).push_back(name);
  }
  if (error) return fail_os(error.value(), fmt::format("could not list {}", spec.path));
  const std::string question =
      fmt::format("Remove the pool in {}, {}, with all its data?", spec.path, counted(ours.size(), "file"));
  if (!options.yes && !agreed(question))
    return fail(Code::denied, By::library, fmt::format("the pool in {} was not removed", spec.path),
                "answer y, or give --yes");
  for (const std::string& name : ours)
    if (::unlinkat(folder.get(), name.c_str(), 0) != 0 && errno != ENOENT)
      return fail_os(errno, fmt::format("could not remove {}/{}", spec.path, name));
  fmt::print("removed {} of the pool in {}\n", counted(ours.size(), "file"), spec.path);
  if (!others.empty())
    fmt::print("left the folder: what is in it beside the pool, such as {}, is somebody else's\n",
               printable(others.front()));
  else if (::rmdir(spec.path.c_str()) == 0)
    fmt::print("removed the folder\n");
  return {};
}

}  // namespace

void add_pool(CLI::App& app, int& status) {
  CLI::App* pool = app.add_subcommand("pool", "pools on their medium");
  pool->require_subcommand(1);
  auto options = std::make_shared<Options>();
  CLI::App* command =
      pool->add_subcommand("rm",
                           "Removes what a pool left on its medium, with all its data.\n\n"
                           "Refuses while a broker serves it. A pool in memory leaves nothing behind.\n"
                           "Example:\n"
                           "  bailey pool rm file:/var/lib/bailey/courtyard\n"
                           "  bailey pool rm policy.toml --yes");
  command->add_option("MEDIUM", options->what, "the pool's medium, or its policy file")->required();
  command->add_flag("--yes", options->yes, "do not ask");
  on_run(command, status, [options] { return told(remove(*options)); });
}

}  // namespace bailey::tools
