#include "bailey/policy/posture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bailey/policy/testing.h"

namespace bailey::policy {
namespace {

using testing::alice;
using ::testing::Contains;
using testing::good;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::orders;
using testing::policy_of;
using testing::pool;
using ::testing::StartsWith;

RegionPosture of(const std::string& text, const PostureFacts& facts = {.broker_uid = 7}) {
  Policy policy = policy_of(text);
  return posture_of(policy, policy.regions.at(0), facts);
}
std::string with(const std::string& lines) { return pool + alice + orders + lines; }
const std::string on_files = "[pool]\nname = \"p\"\nmedium = \"file:/srv/pool\"\n" + alice + orders;

Word word_of(const RegionPosture& posture, std::string_view what) {
  for (const Holding& holding : posture.holds)
    if (holding.what.find(what) != std::string::npos) return holding.word;
  return Word::nobody;
}

TEST(Posture, SealsAreTheKernelsWordAndRevokedReadsTheClients) {
  RegionPosture posture = of(good);
  EXPECT_EQ(word_of(posture, "writes into another's segment"), Word::kernel);
  EXPECT_EQ(word_of(posture, "shrinks"), Word::kernel);
  EXPECT_EQ(word_of(posture, "the index has one writer"), Word::kernel);
  EXPECT_EQ(word_of(posture, "without a grant"), Word::broker);
  EXPECT_EQ(word_of(posture, "reads and writes of what is mapped fail"), Word::client);
  EXPECT_THAT(posture.not_stopped, Contains(StartsWith("Root is no boundary, except for what seals hold")));
  EXPECT_THAT(posture.not_stopped, Not(Contains(HasSubstr("One uid"))));
  EXPECT_THAT(posture.not_stopped, Not(Contains(HasSubstr("Mode shared"))));
}

TEST(Posture, AFileTakesNoSeals) {
  RegionPosture posture = of(on_files);
  EXPECT_EQ(word_of(posture, "writes into another's segment"), Word::kernel);
  EXPECT_EQ(word_of(posture, "shrinks"), Word::nobody);
  EXPECT_THAT(posture.not_stopped, Contains(HasSubstr("take no seals")));
  EXPECT_THAT(posture.not_stopped, Contains(StartsWith("Root is no boundary: ")));
  // Under one uid nothing but good will is left: the files can be opened again.
  RegionPosture one_uid = of(on_files, {.broker_uid = 7, .one_uid = true});
  EXPECT_EQ(word_of(one_uid, "writes into another's segment"), Word::client);
  EXPECT_EQ(word_of(one_uid, "the index has one writer"), Word::client);
}

TEST(Posture, OneUidIsNotABoundary) {
  EXPECT_THAT(of(good, {.broker_uid = 7, .one_uid = true}).not_stopped.front(),
              StartsWith("One uid is not a boundary"));
  // alice is user 1: the broker's own.
  EXPECT_THAT(of(good, {.broker_uid = 1}).not_stopped, Contains(HasSubstr("/proc/PID/mem")));
  std::string two = good + "[principal.bob]\nidentity = \"user:1\"\n";
  EXPECT_THAT(of(two).not_stopped, Contains(HasSubstr("ptrace each other")));
  std::string apart = good + "[principal.bob]\nidentity = \"user:2\"\n";
  EXPECT_THAT(of(apart).not_stopped, Not(Contains(HasSubstr("ptrace each other"))));
}

TEST(Posture, NoneProtectsNothing) {
  RegionPosture posture = of(with("protect = \"none\"\n"));
  EXPECT_TRUE(posture.holds.empty());
  EXPECT_THAT(posture.not_stopped.front(), StartsWith("Protection none protects nothing"));
  EXPECT_THAT(posture.not_stopped, Not(Contains(HasSubstr("seals hold"))));
}

TEST(Posture, SharedWritersTrustEachOtherWithTheIndex) {
  RegionPosture posture = of(with("mode = \"shared\"\n"));
  EXPECT_THAT(posture.not_stopped, Contains(StartsWith("Mode shared: all with rw write one index")));
  EXPECT_EQ(word_of(posture, "the index has one writer"), Word::nobody);
}

TEST(Posture, WhatIsAskedAndNotInForceIsTold) {
  RegionPosture posture = of(with("protect = [\"process\", \"pkey?\"]\n"));
  auto text = lines(posture);
  EXPECT_EQ(text[0], "region orders (table, exclusive, memory)");
  EXPECT_EQ(text[1], "  asked        process, pkey?");
  EXPECT_EQ(text[2], "  in force     process");
  EXPECT_THAT(text, Contains("  not held     pkey: asked where available: it is not available here"));
  EXPECT_THAT(text, Contains(StartsWith("  by kernel    process: nobody writes into another's segment: ")));
  auto table = rows(posture);
  ASSERT_GT(table.size(), 4u);
  EXPECT_EQ(table[0].what, "process");
  EXPECT_TRUE(table[0].in_force);
  EXPECT_EQ(table[1].what, "pkey");
  EXPECT_FALSE(table[1].in_force);
  EXPECT_EQ(table[1].word, "nobody");
  EXPECT_EQ(table.size(), posture.protections.size() + posture.holds.size() + posture.not_stopped.size());
}

TEST(Posture, KeysHoldOffWhatStraysAndNotWhatGoesForIt) {
  Policy policy = policy_of(with("protect = [\"process\", \"pkey?\"]\n"));
  EXPECT_THAT(posture_of(policy, policy.regions[0], {}).not_stopped,
              Not(Contains(HasSubstr("Protection keys"))));
  policy.regions[0].protect[1].in_force = true;
  RegionPosture posture = posture_of(policy, policy.regions[0], {});
  EXPECT_EQ(word_of(posture, "pkey"), Word::client);
  EXPECT_THAT(posture.not_stopped,
              Contains(StartsWith("Protection keys hold off loads and stores that stray")));
}

TEST(Posture, PlainBytesHaveNoSegmentsAndNoOtherWordThanThatOfWindowsForAPart) {
  const std::string raw = pool + alice + "[region.orders]\nkind = \"raw\"\nsize = \"8MiB\"\n";
  RegionPosture exclusive = of(raw), shared = of(raw + "mode = \"shared\"\n");
  EXPECT_EQ(word_of(exclusive, "the bytes have one writer"), Word::kernel);
  EXPECT_EQ(word_of(shared, "the bytes have one writer"), Word::nobody);
  EXPECT_THAT(shared.not_stopped, Contains(StartsWith("Mode shared: all with rw write the same bytes")));
  for (const RegionPosture& posture : {exclusive, shared}) {
    EXPECT_EQ(word_of(posture, "writes into another's segment"), Word::nobody);
    EXPECT_EQ(word_of(posture, "index"), Word::nobody);
    EXPECT_THAT(posture.not_stopped, Contains(StartsWith("Plain bytes have no versions")));
    EXPECT_THAT(posture.not_stopped, Not(Contains(HasSubstr("given all of the file"))));
  }
  Policy policy = policy_of(raw + "protect = [\"process\", \"pkey?\"]\n");
  policy.regions[0].protect[1].in_force = true;
  RegionPosture guarded = posture_of(policy, policy.regions[0], {});
  EXPECT_EQ(word_of(guarded, "a token for a part"), Word::client);
  EXPECT_THAT(guarded.not_stopped, Contains(HasSubstr("given all of the file")));
}

TEST(Posture, IsMadeForEveryRegion) {
  Policy policy = policy_of(good + "[region.ledger]\nkind = \"table\"\nsize = \"4MiB\"\n");
  auto all = posture(policy, {});
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[1].region, "ledger");
}

}  // namespace
}  // namespace bailey::policy
