#include "bailey/policy/diff.h"

#include <gtest/gtest.h>

#include "bailey/policy/testing.h"

namespace bailey::policy {
namespace {

using testing::good;
using testing::policy_of;

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  std::size_t at = text.find(what);
  BAILEY_ASSERT(at != std::string::npos);
  return text.replace(at, what.size(), with);
}

std::vector<std::string> changes(const std::string& before, const std::string& after,
                                 DiffOptions options = {}) {
  std::vector<std::string> all;
  for (const Change& change : diff(policy_of(before), policy_of(after), options).changes)
    all.push_back(change.to_string() + (change.revokes ? " (revokes)" : "") +
                  (change.drops_data ? " (drops)" : ""));
  return all;
}
using Lines = std::vector<std::string>;

TEST(Diff, APolicyDiffersInNothingFromItself) { EXPECT_TRUE(diff(policy_of(good), policy_of(good)).empty()); }

TEST(Diff, TheSizeOfARegionIsFixedUnlessItIsDropped) {
  std::string larger = replaced(good, "8MiB", "16MiB");
  EXPECT_EQ(
      changes(good, larger),
      Lines{
          "region orders made anew: size 8MiB -> 16MiB, quota 8MiB -> 16MiB; refused: size of a region is "
          "fixed when "
          "it is made; a new one under another name keeps the data, --drop makes it anew and empty (revokes) "
          "(drops)"});
  EXPECT_EQ(changes(good, larger, {.drop = true}),
            Lines{"region orders made anew: size 8MiB -> 16MiB, quota 8MiB -> 16MiB (revokes) (drops)"});
  auto status = diff(policy_of(good), policy_of(larger)).allowed();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::denied);
  EXPECT_TRUE(diff(policy_of(good), policy_of(larger), {.drop = true}).allowed());
}

TEST(Diff, SoAreKindModeRecordsAndProtection) {
  auto with = [](const std::string& line) {
    return replaced(good, "size = \"8MiB\"\n", "size = \"8MiB\"\n" + line);
  };
  for (const std::string& after : {replaced(good, "\"table\"", "\"channel\""), with("mode = \"shared\"\n"),
                                   with("records = 10\n"), with("protect = \"none\"\n")}) {
    Diff found = diff(policy_of(good), policy_of(after));
    ASSERT_EQ(found.changes.size(), 1u);
    EXPECT_EQ(found.changes[0].kind, ChangeKind::region_recreated);
    EXPECT_EQ(found.refused().size(), 1u);
    EXPECT_TRUE(diff(policy_of(good), policy_of(after), {.drop = true}).refused().empty());
  }
  EXPECT_EQ(changes(good, with("protect = [\"process\", \"pkey?\"]\n")),
            Lines{"region orders changed: protection asked process -> pkey?+process"});
  EXPECT_EQ(changes(good, with("quota = \"1MiB\"\n")),
            Lines{"region orders changed: quota 8MiB -> 1MiB (revokes)"});
  EXPECT_EQ(changes(with("quota = \"1MiB\"\n"), good), Lines{"region orders changed: quota 1MiB -> 8MiB"});
}

TEST(Diff, ARegionGoesOnlyWithDrop) {
  std::string two = good + "[region.ledger]\nkind = \"table\"\nsize = \"4MiB\"\n";
  EXPECT_EQ(changes(good, two), Lines{"region ledger added: table, exclusive, 4MiB"});
  EXPECT_EQ(changes(two, good), Lines{"region ledger removed: 4MiB; refused: its data would be lost; --drop "
                                      "says that this is meant (revokes) "
                                      "(drops)"});
  EXPECT_EQ(changes(two, good, {.drop = true}), Lines{"region ledger removed: 4MiB (revokes) (drops)"});
}

TEST(Diff, GrantsAreAddedRemovedWidenedAndNarrowed) {
  std::string bob = good + "[principal.bob]\nidentity = \"user:2\"\n";
  std::string reads =
      bob + "[[grant]]\nprincipal = \"bob\"\nregion = \"orders\"\nrights = \"r\"\nsessions = 2\n";
  std::string writes = replaced(reads, "\"r\"", "\"rw\"");
  EXPECT_EQ(changes(bob, reads), Lines{"grant of bob on orders added: r"});
  EXPECT_EQ(changes(reads, bob), Lines{"grant of bob on orders removed: r (revokes)"});
  EXPECT_EQ(changes(reads, writes), Lines{"grant of bob on orders widened: rights r -> rw"});
  EXPECT_EQ(changes(writes, reads), Lines{"grant of bob on orders narrowed: rights rw -> r (revokes)"});
  // Absent is no limit: the most.
  std::string unlimited = replaced(reads, "sessions = 2\n", "");
  EXPECT_EQ(changes(reads, unlimited), Lines{"grant of bob on orders widened: sessions 2 -> none"});
  EXPECT_EQ(changes(unlimited, reads),
            Lines{"grant of bob on orders narrowed: sessions none -> 2 (revokes)"});
  // More rights and fewer sessions: less in one respect is narrower.
  EXPECT_EQ(changes(unlimited, writes),
            Lines{"grant of bob on orders narrowed: rights r -> rw, sessions none -> 2 (revokes)"});
}

TEST(Diff, PrincipalsAreAddedRemovedAndChanged) {
  std::string bob = good + "[principal.bob]\nidentity = [\"user:2\", \"user:3\"]\n";
  EXPECT_EQ(changes(good, bob), Lines{"principal bob added"});
  EXPECT_EQ(changes(bob, good), Lines{"principal bob removed (revokes)"});
  EXPECT_EQ(changes(bob, replaced(bob, "\"user:2\", \"user:3\"", "\"user:3\", \"user:2\"")), Lines{});
  EXPECT_EQ(changes(bob, replaced(bob, "user:3", "user:4")),
            Lines{"principal bob changed: without user:3, with user:4 (revokes)"});
  EXPECT_EQ(changes(bob, replaced(bob, "\"user:3\"", "\"user:3\", \"user:4\"")),
            Lines{"principal bob changed: with user:4"});
}

TEST(Diff, AdminsMayChangeAndThePoolMayNot) {
  EXPECT_EQ(changes(good, good + "[broker]\nadmins = [\"user:root\", \"alice\"]\n"),
            Lines{"admins changed: user:0, user:7 -> alice, user:0 (revokes)"});
  Diff found = diff(policy_of(good), policy_of(replaced(good, "64MiB", "128MiB")), {.drop = true});
  ASSERT_EQ(found.refused().size(), 1u);
  EXPECT_EQ(found.refused()[0]->kind, ChangeKind::pool_changed);
  EXPECT_EQ(found.refused()[0]->text, "medium memory:64MiB -> memory:128MiB");
}

}  // namespace
}  // namespace bailey::policy
