#include "bailey/policy/decide.h"

#include <gtest/gtest.h>

#include "bailey/policy/testing.h"

namespace bailey::policy {
namespace {

using testing::key_one;
using testing::policy_of;
using testing::pool;

Policy courtyard() {
  return policy_of(pool +
                   "[broker]\nadmins = [\"user:9\", \"carol\"]\n"
                   "[principal.alice]\nidentity = [\"user:1\", \"key:@one.pub\"]\n"
                   "[principal.bob]\nidentity = \"user:2\"\n"
                   "[principal.carol]\nidentity = \"user:3\"\n"
                   "[principal.staff]\nidentity = \"group:staff\"\n"
                   "[principal.mallory]\nidentity = \"user:4\"\n"
                   "[region.orders]\nkind = \"table\"\nsize = \"8MiB\"\nquota = \"4MiB\"\n"
                   "[region.ledger]\nkind = \"table\"\nsize = \"4MiB\"\n"
                   "[[grant]]\nprincipal = \"alice\"\nregion = \"orders\"\nrights = \"rw\"\nsessions = "
                   "2\nbytes = \"1MiB\"\n"
                   "[[grant]]\nprincipal = \"bob\"\nregion = \"orders\"\nrights = \"r\"\nsessions = 5\n"
                   "[[grant]]\nprincipal = \"carol\"\nregion = \"*\"\nrights = \"admin\"\n"
                   "[[grant]]\nprincipal = \"staff\"\nregion = \"orders\"\nrights = \"rw\"\nsessions = 7\n");
}

Verified user(std::uint32_t uid, std::vector<std::uint32_t> gids = {}) { return {uid, std::move(gids), {}}; }

std::string refusal(const Policy& policy, const Verified& who, std::string_view region, Rights asked) {
  auto decision = decide(policy, who, region, asked);
  return decision ? "allowed" : decision.error().to_string();
}

TEST(Decide, AnyIdentityOfAPrincipalSuffices) {
  Policy policy = courtyard();
  Verified by_key{64000, {}, {*parse_public_key(key_one)}};
  for (const Verified& who : {user(1), by_key}) {
    auto decision = decide(policy, who, "orders", Rights::write);
    ASSERT_TRUE(decision);
    EXPECT_EQ(decision->rights, Rights::write);
    EXPECT_EQ(decision->principals, std::vector<std::string>{"alice"});
    EXPECT_EQ(decision->grants, std::vector<std::size_t>{0});
    EXPECT_EQ(decision->quotas, (Quotas{2, {}, {}, std::uint64_t{1} << 20}));
  }
}

TEST(Decide, IdentitiesOfOneKindAreNotThoseOfAnother) {
  Policy policy = courtyard();
  // uid 50 is not gid 50, and gid 1 is not uid 1; a zero key is no key.
  EXPECT_FALSE(decide(policy, user(50), "orders", Rights::read));
  EXPECT_FALSE(decide(policy, {{}, {1, 2, 3}, {}}, "orders", Rights::read));
  EXPECT_FALSE(decide(policy, {{}, {}, {PublicKey{}}}, "orders", Rights::read));
  EXPECT_FALSE(decide(policy, {}, "orders", Rights::read));
}

TEST(Decide, GrantsAddUpAndOnlyThoseThatSufficeCountForQuotas) {
  Policy policy = courtyard();
  auto both = user(2, {7, 50});  // bob and staff
  auto writing = decide(policy, both, "orders", Rights::write);
  ASSERT_TRUE(writing);
  EXPECT_EQ(writing->grants, std::vector<std::size_t>{3});
  EXPECT_EQ(writing->quotas.sessions, 7u);
  // No limit of the grant, so the region's own.
  EXPECT_EQ(writing->quotas.bytes, std::uint64_t{4} << 20);
  auto reading = decide(policy, both, "orders", Rights::read);
  ASSERT_TRUE(reading);
  EXPECT_EQ(reading->rights, Rights::write);
  EXPECT_EQ(reading->grants, (std::vector<std::size_t>{1, 3}));
  EXPECT_EQ(reading->quotas.sessions, 7u);
  EXPECT_EQ(reading->quotas.bytes, std::nullopt);
  // alice's two sessions and carol's unlimited ones: no limit beats any.
  auto unlimited = decide(policy, {3, {}, {*parse_public_key(key_one)}}, "orders", Rights::write);
  ASSERT_TRUE(unlimited);
  EXPECT_EQ(unlimited->quotas.sessions, std::nullopt);
}

TEST(Decide, AStarCoversAllRegions) {
  Policy policy = courtyard();
  EXPECT_EQ(decide(policy, user(3), "ledger", Rights::admin)->rights, Rights::admin);
  EXPECT_EQ(decide(policy, user(3), "orders", Rights::admin)->rights, Rights::admin);
}

TEST(Decide, ARefusalSaysWhoHasWhatAndWhatToDo) {
  Policy policy = courtyard();
  EXPECT_EQ(refusal(policy, user(2), "orders", Rights::write),
            "principal bob has r on region orders; rw was asked [denied, by the broker]\n"
            "  what to do: ask an admin for a [[grant]] with rights = \"rw\"");
  EXPECT_EQ(refusal(policy, user(4), "orders", Rights::read),
            "principal mallory has no grant on a region named orders; r was asked [denied, by the broker]\n"
            "  what to do: ask an admin for a [[grant]] with rights = \"r\"");
  EXPECT_EQ(refusal(policy, user(2, {50}), "orders", Rights::admin),
            "principals bob and staff have rw on region orders; admin was asked [denied, by the broker]\n"
            "  what to do: ask an admin for a [[grant]] with rights = \"admin\"");
  EXPECT_EQ(
      refusal(policy, user(5, {6}), "orders", Rights::read),
      "no principal of the policy has the identity shown (uid 5, gid 6) [not authenticated, by the broker]\n"
      "  what to do: show a key (--as KEYFILE), or ask an admin for a [principal.NAME] with one of these "
      "identities");
  EXPECT_EQ(refusal(policy, user(2), "ordres", Rights::read),
            "principal bob has no grant on a region named ordres; r was asked [denied, by the broker]\n"
            "  what to do: did you mean \"orders\"?");
  EXPECT_EQ(refusal(policy, user(3), "legder", Rights::read),
            "there is no region \"legder\" [not found, by the broker]\n"
            "  what to do: did you mean \"ledger\"?");
  EXPECT_EQ(decide(policy, user(1), "orders", Rights::none).error().code, Code::invalid_argument);
}

TEST(Decide, WhoHasNoGrantCannotTellWhetherARegionExists) {
  Policy policy = courtyard();
  std::string there = refusal(policy, user(4), "ledger", Rights::read);
  std::string absent = refusal(policy, user(4), "nothin", Rights::read);
  absent.replace(absent.find("nothin"), 6, "ledger");
  EXPECT_EQ(there, absent);
}

TEST(Decide, AdminsAreIdentitiesAndPrincipals) {
  Policy policy = courtyard();
  EXPECT_TRUE(may_administer(policy, user(9)));
  EXPECT_TRUE(may_administer(policy, user(3)));
  EXPECT_EQ(may_administer(policy, user(1)).error().message,
            "principal alice is not among the admins of the policy");
  EXPECT_EQ(may_administer(policy, user(0)).error().code, Code::unauthenticated);
}

}  // namespace
}  // namespace bailey::policy
