// `bailey principal`: key pairs.
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <memory>

#include "bailey/crypto/key_file.h"
#include "bailey/policy/policy.h"
#include "tools/bailey/command.h"

namespace bailey::tools {
namespace {

struct Add {
  std::string name;
  std::string folder = ".";
};

// Empty, or what is wrong with it.
std::string is_name(const std::string& name) {
  if (policy::is_name(name)) return {};
  return fmt::format(
      "\"{}\" is no name of a principal: names are 1 to {} of a-z, 0-9 and \"-\", and begin with a letter or "
      "digit",
      printable(name), policy::name_bytes_max);
}

Status add(const Add& options) {
  if (::mkdir(options.folder.c_str(), 0755) != 0 && errno != EEXIST)
    return fail_os(errno, fmt::format("could not make the folder {}", options.folder));
  const std::string path = options.folder + "/" + options.name;
  const crypto::PublicKey key = BAILEY_TRY(crypto::write_new_pair(path));
  fmt::print(
      "# Secret key: {0} (mode 0600, for {1} alone). Public key: {0}.pub\n"
      "[principal.{1}]\n"
      "identity = [\"key:{2}\"]\n"
      "\n"
      "# What {1} may do; without a grant, nothing.\n"
      "# [[grant]]\n"
      "# principal = \"{1}\"\n"
      "# region = \"REGION\"\n"
      "# rights = \"r\"\n",
      path, options.name, crypto::public_key_text(key));
  return {};
}

}  // namespace

void add_principal(CLI::App& app, int& status) {
  CLI::App* principal = app.add_subcommand("principal", "key pairs for principals of a policy");
  principal->require_subcommand(1);
  auto options = std::make_shared<Add>();
  CLI::App* command = principal->add_subcommand(
      "add",
      "Makes an ed25519 key pair and prints the policy lines for it.\n\n"
      "Writes DIR/NAME (the secret key, mode 0600) and DIR/NAME.pub. Nothing is ever overwritten.\n"
      "Example:\n"
      "  bailey principal add carol >> policy.toml\n"
      "  bailey table get --as carol orders some-key");
  command->add_option("NAME", options->name, "the principal's name in the policy")
      ->required()
      ->check(is_name);
  command->add_option("--out", options->folder, "folder for the two files (.); made if it is missing")
      ->type_name("DIR");
  on_run(command, status, [options] { return told(add(*options)); });
}

}  // namespace bailey::tools
