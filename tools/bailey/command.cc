#include "tools/bailey/command.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>

#include "bailey/base/bytes.h"
#include "bailey/crypto/base64.h"

namespace bailey::tools {

namespace {

Exit exit_of(const Error& error) {
  switch (error.code) {
    case Code::not_found:
      return exit_not_found;
    case Code::denied:
    case Code::unauthenticated:
    case Code::revoked:
      return exit_refused;
    case Code::io:
      if (error.os == ENOENT || error.os == ENOTDIR) return exit_not_found;
      if (error.os == EACCES || error.os == EPERM) return exit_refused;
      return exit_failed;
    default:
      return exit_failed;
  }
}

}  // namespace

int told(const Error& error) {
  fmt::print(stderr, "bailey: {}\n", error.to_string());
  return exit_of(error);
}
int told(const Status& status) { return status ? exit_ok : told(status.error()); }

void on_run(CLI::App* command, int& status, std::function<int()> work) {
  command->callback([&status, work = std::move(work)] { status = work(); });
}

Result<Session> Reach::connect() const {
  session::Options options;
  options.socket_path = socket;
  options.key_file = key_file;
  options.broker_key = broker_key;
  options.timeout_ms = timeout_ms;
  return Session::connect(options);
}

void add_reach_options(CLI::App* command, Reach& reach) {
  command
      ->add_option("--socket", reach.socket, "where the broker listens ($BAILEY_SOCKET, or the usual place)")
      ->type_name("PATH");
  command->add_option("--as", reach.key_file, "secret key file of the principal that you are")
      ->type_name("KEYFILE");
  command->add_option("--broker-key", reach.broker_key, "public key of the broker: accept no other")
      ->type_name("BASE64");
  command->add_option("--timeout-ms", reach.timeout_ms, "how long to wait for the broker (2000)")
      ->check(CLI::Range(1u, session::timeout_ms_max).description(""))
      ->type_name("N");
}

namespace {

bool is_utf8(std::string_view bytes) {
  const std::string dumped =
      nlohmann::json(std::string(bytes)).dump(-1, ' ', false, nlohmann::json::error_handler_t::ignore);
  // What is not UTF-8 was left out, so that it does not read back as the same.
  return nlohmann::json::parse(dumped).get_ref<const std::string&>() == bytes;
}

}  // namespace

void set_bytes(nlohmann::json& object, const std::string& name, std::string_view bytes) {
  if (is_utf8(bytes))
    object[name] = std::string(bytes);
  else
    object[name + "_base64"] = crypto::base64(as_bytes(bytes));
}

std::string printable(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '\\')
      out += c;
    else
      out += fmt::format("\\x{:02x}", byte);
  }
  return out;
}

}  // namespace bailey::tools
