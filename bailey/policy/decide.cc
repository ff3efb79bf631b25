#include "bailey/policy/decide.h"

#include <fmt/format.h>

#include <algorithm>

#include "bailey/policy/suggest.h"

namespace bailey::policy {
namespace {

template <class T>
void widen(std::optional<T>& into, const std::optional<T>& other) {
  if (!into) return;
  into = other ? std::optional<T>(std::max(*into, *other)) : std::nullopt;
}

std::string joined(const std::vector<const Principal*>& principals) {
  std::vector<std::string_view> names;
  for (const Principal* principal : principals) names.push_back(principal->name);
  return fmt::format("{} {}", names.size() == 1 ? "principal" : "principals", fmt::join(names, " and "));
}

std::unexpected<Error> nobody(const Verified& who) {
  return fail(
      Code::unauthenticated, By::broker,
      fmt::format("no principal of the policy has the identity shown ({})", who.to_string()),
      who.keys.empty()
          ? "show a key (--as KEYFILE), or ask an admin for a [principal.NAME] with one of these identities"
          : "ask an admin for a [principal.NAME] with one of these identities");
}

}  // namespace

bool Verified::shows(const Identity& identity) const {
  switch (identity.kind) {
    case Identity::Kind::user:
      return uid == identity.id;
    case Identity::Kind::group:
      return std::find(gids.begin(), gids.end(), identity.id) != gids.end();
    case Identity::Kind::key:
      return std::find(keys.begin(), keys.end(), identity.key) != keys.end();
  }
  return false;
}

std::string Verified::to_string() const {
  std::vector<std::string> parts;
  if (uid) parts.push_back(fmt::format("uid {}", *uid));
  constexpr std::size_t shown_max = 8;
  for (std::size_t i = 0; i < std::min(gids.size(), shown_max); ++i)
    parts.push_back(fmt::format("gid {}", gids[i]));
  if (gids.size() > shown_max) parts.push_back(fmt::format("{} more groups", gids.size() - shown_max));
  for (const PublicKey& key : keys) parts.push_back("key " + public_key_text(key));
  return parts.empty() ? "nothing was verified" : fmt::format("{}", fmt::join(parts, ", "));
}

std::vector<const Principal*> principals_of(const Policy& policy, const Verified& who) {
  std::vector<const Principal*> matched;
  for (const Principal& principal : policy.principals)
    if (std::any_of(principal.identities.begin(), principal.identities.end(),
                    [&](const Identity& identity) { return who.shows(identity); }))
      matched.push_back(&principal);
  return matched;
}

Result<Decision> decide(const Policy& policy, const Verified& who, std::string_view region, Rights asked) {
  if (asked == Rights::none)
    return fail(Code::invalid_argument, By::broker, "no rights were asked for", "ask for r, rw or admin");
  auto matched = principals_of(policy, who);
  if (matched.empty()) return nobody(who);

  Decision decision;
  for (const Principal* principal : matched) decision.principals.push_back(principal->name);
  const Region* known = policy.find_region(region);
  bool sees_all = false;
  std::vector<std::string> own_regions;
  for (std::size_t i = 0; i < policy.grants.size(); ++i) {
    const Grant& grant = policy.grants[i];
    if (std::find(decision.principals.begin(), decision.principals.end(), grant.principal) ==
        decision.principals.end())
      continue;
    if (grant.region == "*")
      sees_all = true;
    else
      own_regions.push_back(grant.region);
    if (known == nullptr || !grant.covers(region)) continue;
    decision.rights = std::max(decision.rights, grant.rights);
    if (grant.rights < asked) continue;
    if (decision.grants.empty()) {
      decision.quotas = grant.quotas;
    } else {
      widen(decision.quotas.sessions, grant.quotas.sessions);
      widen(decision.quotas.segments, grant.quotas.segments);
      widen(decision.quotas.requests_per_second, grant.quotas.requests_per_second);
      widen(decision.quotas.bytes, grant.quotas.bytes);
    }
    decision.grants.push_back(i);
  }

  if (decision.grants.empty()) {
    if (known == nullptr && sees_all) {
      std::vector<std::string> all;
      for (const Region& one : policy.regions) all.push_back(one.name);
      return fail(Code::not_found, By::broker, fmt::format("there is no region {}", quote(region)),
                  suggestion(region, all));
    }
    if (decision.rights == Rights::none) {
      // What is suggested is only what this principal may know of.
      std::string_view near = nearest(region, own_regions);
      return fail(Code::denied, By::broker,
                  fmt::format("{} {} no grant on a region named {}; {} was asked", joined(matched),
                              matched.size() == 1 ? "has" : "have",
                              is_name(region) ? std::string(region) : quote(region), name(asked)),
                  near.empty() || near == region
                      ? fmt::format("ask an admin for a [[grant]] with rights = \"{}\"", name(asked))
                      : fmt::format("did you mean \"{}\"?", near));
    }
    return fail(Code::denied, By::broker,
                fmt::format("{} {} {} on region {}; {} was asked", joined(matched),
                            matched.size() == 1 ? "has" : "have", name(decision.rights), region, name(asked)),
                fmt::format("ask an admin for a [[grant]] with rights = \"{}\"", name(asked)));
  }
  if (asked >= Rights::write)
    decision.quotas.bytes = std::min(decision.quotas.bytes.value_or(known->quota_bytes), known->quota_bytes);
  return decision;
}

Status may_administer(const Policy& policy, const Verified& who) {
  for (const Identity& admin : policy.admins)
    if (who.shows(admin)) return {};
  auto matched = principals_of(policy, who);
  for (const Principal* principal : matched)
    if (std::find(policy.admin_principals.begin(), policy.admin_principals.end(), principal->name) !=
        policy.admin_principals.end())
      return {};
  if (matched.empty()) return nobody(who);
  return fail(Code::denied, By::broker,
              fmt::format("{} {} not among the admins of the policy", joined(matched),
                          matched.size() == 1 ? "is" : "are"),
              "ask an admin, or have [broker] admins name this principal");
}

}  // namespace bailey::policy
