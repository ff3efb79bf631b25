// For the tests of this room: a context that asks the machine nothing, and policies to begin with.
#pragma once

#include <map>
#include <string>

#include "bailey/policy/policy.h"

namespace bailey::policy::testing {

// Bytes 1..32 and 2..33.
inline const std::string key_one = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
inline const std::string key_two = "AgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICE=";

// Users root (0) and alice (1000), group staff (50), key files /keys/one.pub and /keys/open.pub (written by
// all).
inline ParseContext fixed_context() {
  ParseContext context;
  context.kinds = {"table", "channel", "raw"};
  context.enforced = {"none", "process"};
  context.broker_uid = 7;
  auto among = [](std::map<std::string, std::uint32_t> accounts, std::string what) {
    return [accounts, what](const std::string& name) -> Result<std::uint32_t> {
      auto found = accounts.find(name);
      if (found != accounts.end()) return found->second;
      return fail(Code::not_found, By::kernel, "this machine has no " + what + " " + quote(name));
    };
  };
  context.lookups.user = among({{"root", 0}, {"alice", 1000}}, "user");
  context.lookups.group = among({{"staff", 50}}, "group");
  context.lookups.key_file = [](const std::string& path) -> Result<KeyFile> {
    if (path == "/keys/one.pub") return KeyFile{key_one + "\n", false};
    if (path == "/keys/open.pub") return KeyFile{key_two, true};
    if (path == "/keys/bad.pub") return KeyFile{"hello", false};
    return fail_os(ENOENT, "could not open the key file " + quote(path));
  };
  return context;
}

inline const std::string pool = "[pool]\nname = \"p\"\nmedium = \"memory:64MiB\"\n";       // lines 1-3
inline const std::string alice = "[principal.alice]\nidentity = \"user:1\"\n";             // 4-5
inline const std::string orders = "[region.orders]\nkind = \"table\"\nsize = \"8MiB\"\n";  // 6-8
inline const std::string grant =
    "[[grant]]\nprincipal = \"alice\"\nregion = \"orders\"\nrights = \"rw\"\n";  // 9-12
inline const std::string good = pool + alice + orders + grant;

// A policy that must be right; stops the test program where it is not.
inline Policy policy_of(const std::string& text) {
  auto policy = parse(text, "policy.toml", "/keys", fixed_context());
  if (!policy) std::fprintf(stderr, "%s\n", policy.error().to_string().c_str());
  BAILEY_ASSERT(policy.has_value());
  return *policy;
}

}  // namespace bailey::policy::testing
