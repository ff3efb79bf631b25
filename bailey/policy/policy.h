// The policy: who may do what with which region, as checked values.
//
// A Policy that parse() returned keeps these invariants, which validate() states as code:
//  1. names are 1..63 of [a-z0-9-] and begin with a letter or digit; regions and principals are unique by
//  name;
//  2. every grant names a principal of the policy and a region of it or "*"; no two have both the same;
//  3. every region has at least region_bytes_min, a quota not above its size, and, where the pool's size is
//  known,
//     all of them fit into it together;
//  4. every region has at least one protection in force ("none" says itself that it protects nothing); what
//  it
//     requires is enforced by this build;
//  5. somebody may apply a policy.
//
// Thread safety: values; const access by many.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bailey/base/error.h"
#include "bailey/policy/diagnostic.h"
#include "bailey/policy/identity.h"
#include "bailey/policy/medium_spec.h"

namespace bailey::policy {

inline constexpr std::size_t name_bytes_max = 63;
inline constexpr std::size_t regions_max = 512;
inline constexpr std::size_t principals_max = 1024;
inline constexpr std::size_t grants_max = 4096;
inline constexpr std::size_t identities_max = 64;  // of one principal, and of admins
inline constexpr std::uint64_t region_bytes_min = 4u << 20;
inline constexpr std::uint64_t quota_bytes_min = 64u << 10;  // one page of a segment
inline constexpr std::uint64_t records_max = std::uint64_t{1} << 40;

// Each includes those before it. `admin` of a region may also mint and revoke for it.
enum class Rights : std::uint8_t { none = 0, read = 1, write = 2, admin = 3 };
std::string_view name(Rights rights);  // "no rights", "r", "rw", "admin"

enum class Mode : std::uint8_t { exclusive = 1, shared = 2 };
std::string_view name(Mode mode);

// One entry of `protect`.
struct Protection {
  std::string name;
  bool where_available = false;  // written with "?"
  bool in_force = false;         // false only where where_available
  bool operator==(const Protection&) const = default;
};

// What is absent is not limited.
struct Quotas {
  std::optional<std::uint32_t> sessions;
  std::optional<std::uint32_t> segments;
  std::optional<std::uint32_t> requests_per_second;
  std::optional<std::uint64_t> bytes;  // that a writer may hold
  bool operator==(const Quotas&) const = default;
};

struct Region {
  std::string name;
  std::string kind;
  std::uint64_t bytes = 0;
  Mode mode = Mode::exclusive;
  std::optional<std::uint64_t> records;  // expected; fixes the index
  std::uint64_t quota_bytes = 0;         // a writer's; the region's size where the policy says nothing
  std::vector<Protection> protect;
  std::string cipher;  // of an encrypted region: one of cipher_names(); else empty
  // Grants of `r` are taken also where the medium lets readers write, who hold the region's key.
  bool readers_may_forge = false;

  bool has(std::string_view protection) const;  // in force
};

struct Principal {
  std::string name;
  std::vector<Identity> identities;  // any of them suffices
};

struct Grant {
  std::string principal;
  std::string region;  // a name, or "*" for all
  Rights rights = Rights::none;
  Quotas quotas;
  bool covers(std::string_view name) const { return region == "*" || region == name; }
};

struct Policy {
  std::string pool;
  MediumSpec medium;
  std::vector<Identity> admins;               // may apply, and see the status of all
  std::vector<std::string> admin_principals;  // likewise, by name
  std::vector<Principal> principals;          // all in the order of the file
  std::vector<Region> regions;
  std::vector<Grant> grants;

  const Region* find_region(std::string_view name) const;
  const Principal* find_principal(std::string_view name) const;
};

// What parsing must be told, since this room is below those that know.
struct ParseContext {
  std::vector<std::string> kinds = {"table"};  // that regions may have
  std::set<std::string, std::less<>> enforced = {
      "process"};  // names in `protect` that this build and machine enforce
  // Why others are not, by name: "this CPU has no protection keys". A general reason is given where it is
  // absent.
  std::map<std::string, std::string, std::less<>> lacking;
  std::uint32_t broker_uid = ::geteuid();
  Lookups lookups = Lookups::of_system();
};

// The names that `protect` may hold, weakest first.
std::span<const std::string> protection_names();
// Those that `cipher` may hold; the first where the policy says nothing.
std::span<const std::string> cipher_names();

// Who reads an encrypted region holds its key. Where a medium lets all write who can read, readers could
// forge records, and a grant of `r` alone would say what is not so. Whether it is refused.
bool reader_could_forge(const Region& region, MediumKind medium);

struct Checked {
  std::optional<Policy> policy;         // where there is no error; warnings may be there
  std::vector<Diagnostic> diagnostics;  // sorted by place
  bool ok() const { return policy.has_value(); }
};

// All mistakes at once. `file_name` is for the messages, `folder` is where key:@FILE begins.
Checked check(std::string_view text, std::string_view file_name, const std::string& folder,
              const ParseContext& context);

// The same of a file; error only where it could not be read (io, too_large). "-" is no special name.
Result<Checked> check_file(const std::string& path, const ParseContext& context);

// For callers that only want the policy. Error invalid_argument: the message has one line a mistake.
Result<Policy> parse(std::string_view text, std::string_view file_name, const std::string& folder,
                     const ParseContext& context);
Result<Policy> parse_file(const std::string& path, const ParseContext& context);

// The invariants above: parse() asserts them on its way out, and fuzzers and the broker (on what it stored)
// may ask. Error corrupt names the first that does not hold.
Status validate(const Policy& policy);

bool is_name(std::string_view text);

}  // namespace bailey::policy
