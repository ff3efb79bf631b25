// Who somebody is, as the policy writes it: "user:64101", "user:alice", "group:staff", "key:BASE64",
// "key:@FILE".
//
// Names of users and groups are looked up once, when the policy is read: what is granted is the number, so
// that a later change of /etc/passwd moves no grant.
//
// Thread safety: values and pure functions; the lookups of the system are safe for threads.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "bailey/base/error.h"

namespace bailey::policy {

using PublicKey = std::array<std::uint8_t, 32>;  // ed25519

struct Identity {
  enum class Kind : std::uint8_t { user = 1, group = 2, key = 3 };

  Kind kind = Kind::user;
  std::uint32_t id = 0;  // uid or gid
  PublicKey key{};       // of Kind::key

  bool operator==(const Identity&) const = default;
  auto operator<=>(const Identity&) const = default;
  std::string to_string() const;  // "user:64101", "group:50", "key:BASE64"
};

struct KeyFile {
  std::string text;
  bool writable_by_all = false;
};

// What parsing asks the machine. The defaults ask this one; tests and fuzzers put their own here.
struct Lookups {
  // Error: not_found where there is none of that name; io where the machine could not say.
  std::function<Result<std::uint32_t>(const std::string& name)> user;
  std::function<Result<std::uint32_t>(const std::string& name)> group;
  // The text of a small regular file; never blocks on a pipe or device.
  std::function<Result<KeyFile>(const std::string& path)> key_file;

  static Lookups of_system();
};

struct ParsedIdentity {
  Identity identity;
  std::string warning;  // or empty
};

// `folder` is where key:@FILE begins unless FILE is absolute. Error: `message` says what is wrong, `remedy`
// what was probably meant.
Result<ParsedIdentity> parse_identity(std::string_view text, const std::string& folder,
                                      const Lookups& lookups);

// Canonical base64 (RFC 4648 section 4, with padding): 44 characters for 32 bytes, one text a key.
Result<PublicKey> parse_public_key(std::string_view base64);
std::string public_key_text(const PublicKey& key);

}  // namespace bailey::policy
