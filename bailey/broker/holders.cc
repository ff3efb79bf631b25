// Holders: who was given files of a region that are still written, and who of them may not read it any more.
//
// What somebody was given it keeps, descriptors and mappings: where one loses the right, writers leave those
// files (indexes.cc) and the key is renewed (region_keys.cc).
#include <algorithm>
#include <limits>

#include "bailey/base/clock.h"
#include "bailey/broker/broker.h"
#include "bailey/policy/decide.h"

namespace bailey::broker {
namespace {

// Whether somebody is all the principals that a token names. As those are now: names and keys change hands.
bool is_all_of(const policy::Policy& policy, const policy::Verified& who,
               const std::vector<std::string>& names) {
  if (names.empty()) return true;
  auto principals = policy::principals_of(policy, who);
  return std::ranges::all_of(names, [&](const std::string& name) {
    return std::ranges::any_of(principals, [&](const policy::Principal* one) { return one->name == name; });
  });
}

void sooner(std::uint64_t& soonest, std::uint64_t when) {
  if (when != 0 && (soonest == 0 || when < soonest)) soonest = when;
}

// Whether the region was renewed so lately that what narrowed tokens end waits for others of their kind.
bool gathers(const Region& region) {
  return region.renewed_ns != 0 && monotonic_ns() - region.renewed_ns < gather_ns;
}

}  // namespace

void Broker::add_holder(Region& region, const Session& session, const Open& open) {
  if (session.janitor) return;
  if (region.holders_known) {
    Holder holder{session.who, open.token, open.expires, open.holders};
    if (std::find(region.holders.begin(), region.holders.end(), holder) != region.holders.end()) return;
    if (region.holders.size() < holders_max) {
      region.holders.push_back(std::move(holder));
      return;
    }
    // Too many to be told apart. When the first of them is over somebody has lost the right, whoever it is.
    region.first_expiry = next_expiry(region);
    region.holders.clear();
    region.holders_known = false;
  }
  sooner(region.first_expiry, open.expires);
}

// `revokes`: whether the policy or the end of a token took anything from anybody, which is what there is to
// know where the holders are unknown.
bool Broker::lost_holder(const Region& region, bool revokes) const {
  const std::uint64_t now = wall_ns() / 1'000'000'000;
  auto over = [&](std::uint64_t when) { return when != 0 && when <= now && !gathers(region); };
  if (!region.holders_known) return revokes || over(region.first_expiry);
  return std::any_of(region.holders.begin(), region.holders.end(), [&](const Holder& holder) {
    if (!holder.token) return !policy::decide(policy_, holder.who, region.name, policy::Rights::read);
    return !token_stands(*holder.token, 0) || over(holder.expires) ||
           !is_all_of(policy_, holder.who, holder.holders);
  });
}

// When something ends that tokens were narrowed to, in seconds since 1970, or may be acted on; 0: never.
std::uint64_t Broker::next_expiry(const Region& region) const {
  std::uint64_t soonest = region.holders_known ? 0 : region.first_expiry;
  for (const Holder& holder : region.holders) sooner(soonest, holder.expires);
  if (soonest == 0 || !gathers(region)) return soonest;
  return std::max(soonest,
                  (wall_ns() + gather_ns - (monotonic_ns() - region.renewed_ns)) / 1'000'000'000 + 1);
}

}  // namespace bailey::broker
