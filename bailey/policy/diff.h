// What applying a policy over another would change, and what of it is refused.
//
// The broker applies a new policy where `refused()` is empty; after that it decides anew for every live
// session, so that what a change of a principal or a grant takes away is taken from all who had it by
// whatever way.
//
// Thread safety: pure functions over const values.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bailey/policy/policy.h"

namespace bailey::policy {

enum class ChangeKind : std::uint8_t {
  pool_changed,
  admins_changed,
  region_added,
  region_removed,
  region_changed,    // in place: quota, or what is asked for where available
  region_recreated,  // size, kind, mode, records or protection: data is dropped
  principal_added,
  principal_removed,
  principal_changed,
  grant_added,
  grant_removed,
  grant_widened,
  grant_narrowed,  // less in any respect, even if more in another
};
std::string_view name(ChangeKind kind);

struct Change {
  ChangeKind kind;
  std::string subject;      // "region orders", "grant of alice on orders"
  std::string text;         // "size 256 MiB -> 512 MiB"; may be empty
  bool drops_data = false;  // the region's bytes are gone afterwards
  bool revokes = false;     // somebody can do less afterwards
  std::string refusal;      // why this is refused and what to do, or empty

  // "region orders changed: quota 64 MiB -> 32 MiB"
  std::string to_string() const;
};

struct Diff {
  std::vector<Change> changes;  // pool, admins, regions, principals, grants
  bool empty() const { return changes.empty(); }
  std::vector<const Change*> refused() const;
  // Error denied (by the broker) with one line a refused change; else success.
  Status allowed() const;
};

struct DiffOptions {
  bool drop = false;  // data may be dropped: `policy apply --drop`
};

Diff diff(const Policy& before, const Policy& after, DiffOptions options = {});

}  // namespace bailey::policy
