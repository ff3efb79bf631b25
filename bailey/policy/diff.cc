#include "bailey/policy/diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "bailey/policy/size.h"

namespace bailey::policy {
namespace {

using Texts = std::vector<std::string>;

std::string in_force(const Region& region) {
  Texts names;
  for (const Protection& protection : region.protect)
    if (protection.in_force) names.push_back(protection.name);
  std::sort(names.begin(), names.end());
  return fmt::format("{}", fmt::join(names, "+"));
}

std::string asked(const Region& region) {
  Texts names;
  for (const Protection& protection : region.protect)
    names.push_back(protection.name + (protection.where_available ? "?" : ""));
  std::sort(names.begin(), names.end());
  return fmt::format("{}", fmt::join(names, "+"));
}

template <class T>
std::string shown(const std::optional<T>& value) {
  return value ? fmt::to_string(*value) : "none";
}
std::string shown_bytes(const std::optional<std::uint64_t>& value) {
  return value ? size_text(*value) : "none";
}

void note(Texts& into, std::string_view what, const std::string& before, const std::string& after) {
  if (before != after) into.push_back(fmt::format("{} {} -> {}", what, before, after));
}

std::string joined(const Texts& texts) { return fmt::format("{}", fmt::join(texts, ", ")); }

std::vector<Identity> sorted(std::vector<Identity> identities) {
  std::sort(identities.begin(), identities.end());
  return identities;
}

// Whether `after` lacks something that `before` has; both sorted.
template <class T>
bool lost(const std::vector<T>& before, const std::vector<T>& after) {
  return !std::includes(after.begin(), after.end(), before.begin(), before.end());
}

void diff_region(const Region& before, const Region& after, DiffOptions options, Diff& out) {
  Texts recreated, in_place;
  note(recreated, "size", size_text(before.bytes), size_text(after.bytes));
  note(recreated, "kind", before.kind, after.kind);
  note(recreated, "mode", std::string(name(before.mode)), std::string(name(after.mode)));
  note(recreated, "records", shown(before.records), shown(after.records));
  note(recreated, "protection in force", in_force(before), in_force(after));
  note(recreated, "cipher", before.cipher, after.cipher);
  note(in_place, "readers_may_forge", before.readers_may_forge ? "true" : "false",
       after.readers_may_forge ? "true" : "false");
  note(in_place, "quota", size_text(before.quota_bytes), size_text(after.quota_bytes));
  note(in_place, "protection asked", asked(before), asked(after));
  if (recreated.empty() && in_place.empty()) return;
  Change change{recreated.empty() ? ChangeKind::region_changed : ChangeKind::region_recreated,
                "region " + after.name,
                {},
                false,
                false,
                {}};
  if (!recreated.empty()) {
    if (!options.drop)
      change.refusal = fmt::format(
          "{} of a region is fixed when it is made; a new one under another name keeps the data, --drop "
          "makes it anew and empty",
          recreated.front().substr(0, recreated.front().find(' ')));
    change.drops_data = change.revokes = true;
  }
  change.revokes |= after.quota_bytes < before.quota_bytes;
  recreated.insert(recreated.end(), in_place.begin(), in_place.end());
  change.text = joined(recreated);
  out.changes.push_back(std::move(change));
}

void diff_regions(const Policy& before, const Policy& after, DiffOptions options, Diff& out) {
  for (const Region& region : after.regions) {
    const Region* old = before.find_region(region.name);
    if (old != nullptr)
      diff_region(*old, region, options, out);
    else
      out.changes.push_back(
          {ChangeKind::region_added,
           "region " + region.name,
           fmt::format("{}, {}, {}", region.kind, name(region.mode), size_text(region.bytes)),
           false,
           false,
           {}});
  }
  for (const Region& region : before.regions)
    if (after.find_region(region.name) == nullptr)
      out.changes.push_back({ChangeKind::region_removed, "region " + region.name, size_text(region.bytes),
                             true, true,
                             options.drop ? "" : "its data would be lost; --drop says that this is meant"});
}

void diff_principals(const Policy& before, const Policy& after, Diff& out) {
  for (const Principal& principal : after.principals) {
    const Principal* old = before.find_principal(principal.name);
    std::string subject = "principal " + principal.name;
    if (old == nullptr) {
      out.changes.push_back({ChangeKind::principal_added, subject, {}, false, false, {}});
      continue;
    }
    auto now = sorted(principal.identities), then = sorted(old->identities);
    if (now == then) continue;
    Texts texts;
    for (const Identity& one : then)
      if (!std::binary_search(now.begin(), now.end(), one)) texts.push_back("without " + one.to_string());
    for (const Identity& one : now)
      if (!std::binary_search(then.begin(), then.end(), one)) texts.push_back("with " + one.to_string());
    out.changes.push_back(
        {ChangeKind::principal_changed, subject, joined(texts), false, lost(then, now), {}});
  }
  for (const Principal& principal : before.principals)
    if (after.find_principal(principal.name) == nullptr)
      out.changes.push_back(
          {ChangeKind::principal_removed, "principal " + principal.name, {}, false, true, {}});
}

// Less than before: absent is "no limit", the most.
template <class T>
bool less(const std::optional<T>& after, const std::optional<T>& before) {
  return after && (!before || *after < *before);
}

void diff_grants(const Policy& before, const Policy& after, Diff& out) {
  using Key = std::pair<std::string_view, std::string_view>;
  std::map<Key, const Grant*> then, now;
  for (const Grant& grant : before.grants) then[{grant.principal, grant.region}] = &grant;
  for (const Grant& grant : after.grants) now[{grant.principal, grant.region}] = &grant;
  auto subject = [](const Grant& grant) {
    return fmt::format("grant of {} on {}", grant.principal, grant.region);
  };
  for (const Grant& grant : after.grants) {
    auto found = then.find({grant.principal, grant.region});
    if (found == then.end()) {
      out.changes.push_back(
          {ChangeKind::grant_added, subject(grant), std::string(name(grant.rights)), false, false, {}});
      continue;
    }
    const Grant& old = *found->second;
    Texts texts;
    note(texts, "rights", std::string(name(old.rights)), std::string(name(grant.rights)));
    note(texts, "sessions", shown(old.quotas.sessions), shown(grant.quotas.sessions));
    note(texts, "segments", shown(old.quotas.segments), shown(grant.quotas.segments));
    note(texts, "requests_per_second", shown(old.quotas.requests_per_second),
         shown(grant.quotas.requests_per_second));
    note(texts, "bytes", shown_bytes(old.quotas.bytes), shown_bytes(grant.quotas.bytes));
    if (texts.empty()) continue;
    bool narrowed = grant.rights < old.rights || less(grant.quotas.sessions, old.quotas.sessions) ||
                    less(grant.quotas.segments, old.quotas.segments) ||
                    less(grant.quotas.bytes, old.quotas.bytes) ||
                    less(grant.quotas.requests_per_second, old.quotas.requests_per_second);
    out.changes.push_back({narrowed ? ChangeKind::grant_narrowed : ChangeKind::grant_widened,
                           subject(grant),
                           joined(texts),
                           false,
                           narrowed,
                           {}});
  }
  for (const Grant& grant : before.grants)
    if (!now.contains({grant.principal, grant.region}))
      out.changes.push_back(
          {ChangeKind::grant_removed, subject(grant), std::string(name(grant.rights)), false, true, {}});
}

void diff_admins(const Policy& before, const Policy& after, Diff& out) {
  auto all = [](const Policy& policy) {
    Texts texts = policy.admin_principals;
    for (const Identity& identity : policy.admins) texts.push_back(identity.to_string());
    std::sort(texts.begin(), texts.end());
    return texts;
  };
  Texts then = all(before), now = all(after);
  if (then == now) return;
  out.changes.push_back({ChangeKind::admins_changed,
                         "admins",
                         fmt::format("{} -> {}", joined(then), joined(now)),
                         false,
                         lost(then, now),
                         {}});
}

}  // namespace

std::string_view name(ChangeKind kind) {
  switch (kind) {
    case ChangeKind::region_added:
    case ChangeKind::principal_added:
    case ChangeKind::grant_added:
      return "added";
    case ChangeKind::region_removed:
    case ChangeKind::principal_removed:
    case ChangeKind::grant_removed:
      return "removed";
    case ChangeKind::region_recreated:
      return "made anew";
    case ChangeKind::grant_widened:
      return "widened";
    case ChangeKind::grant_narrowed:
      return "narrowed";
    case ChangeKind::pool_changed:
    case ChangeKind::admins_changed:
    case ChangeKind::region_changed:
    case ChangeKind::principal_changed:
      return "changed";
  }
  return "changed";
}

std::string Change::to_string() const {
  std::string line = fmt::format("{} {}", subject, name(kind));
  if (!text.empty()) line += ": " + text;
  if (!refusal.empty()) line += "; refused: " + refusal;
  return line;
}

std::vector<const Change*> Diff::refused() const {
  std::vector<const Change*> found;
  for (const Change& change : changes)
    if (!change.refusal.empty()) found.push_back(&change);
  return found;
}

Status Diff::allowed() const {
  auto found = refused();
  if (found.empty()) return {};
  std::string message = "the new policy is refused, nothing is changed:";
  for (const Change* change : found) message += "\n  " + change->to_string();
  return fail(Code::denied, By::broker, std::move(message), "see each line");
}

Diff diff(const Policy& before, const Policy& after, DiffOptions options) {
  Diff out;
  Texts pool;
  note(pool, "name", before.pool, after.pool);
  note(pool, "medium", before.medium.to_string(), after.medium.to_string());
  if (!pool.empty())
    out.changes.push_back(
        {ChangeKind::pool_changed, "pool " + before.pool, joined(pool), false, false,
         "a pool's name and medium are fixed while it lives; stop the broker and begin a new pool"});
  diff_admins(before, after, out);
  diff_regions(before, after, options, out);
  diff_principals(before, after, out);
  diff_grants(before, after, out);
  return out;
}

}  // namespace bailey::policy
