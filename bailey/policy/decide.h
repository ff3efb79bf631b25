// The one place where it is decided what somebody may do.
//
// Thread safety: pure functions over const values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bailey/policy/policy.h"

namespace bailey::policy {

// What was verified of a peer: uid and groups by the kernel, keys by a signed challenge. Never what it
// claims.
struct Verified {
  std::optional<std::uint32_t> uid;
  std::vector<std::uint32_t> gids;  // primary and supplementary
  std::vector<PublicKey> keys;

  bool shows(const Identity& identity) const;
  // "uid 64101, gid 50, key AbCd...": for messages.
  std::string to_string() const;

  bool operator==(const Verified&) const = default;
};

// The principals that somebody is, in the policy's order.
std::vector<const Principal*> principals_of(const Policy& policy, const Verified& who);

struct Decision {
  Rights rights = Rights::none;  // all that the grants give together
  // Of the grants that give what was asked; where several do, the larger, and no limit beats any. `bytes` is
  // never absent for a decision on writing: the region's quota holds too.
  Quotas quotas;
  std::vector<std::size_t> grants;  // numbers in policy.grants of those that give what was asked; not empty
  std::vector<std::string> principals;  // that somebody is
};

// May `who` do `asked` (read or more) with the region?
// Errors, all by the broker, with a reason and a remedy:
//   unauthenticated  is no principal of the policy
//   denied           has no grant, or a smaller one
//   not_found        has a grant that covers all regions, and there is none of that name; others are told
//   `denied`, so
//                    that names of regions don't leak
Result<Decision> decide(const Policy& policy, const Verified& who, std::string_view region, Rights asked);

// May `who` apply a policy, or see the status of all? Error: denied, unauthenticated.
Status may_administer(const Policy& policy, const Verified& who);

}  // namespace bailey::policy
