// The whole suite: every attack comes to what is expected of it, and the canaries are seen.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cctype>
#include <filesystem>
#include <memory>
#include <set>
#include <string>

#include "attack/house.h"
#include "attack/suite.h"

namespace bailey::attack {
namespace {

std::string nothing_unknown;

// One for all attacks, with one courtyard.
class EachAttack : public ::testing::TestWithParam<const Attack*> {
 protected:
  static void SetUpTestSuite() { suite_ = std::make_unique<Suite>(); }
  static void TearDownTestSuite() { suite_.reset(); }
  static inline std::unique_ptr<Suite> suite_;
};
INSTANTIATE_TEST_SUITE_P(All, EachAttack, ::testing::ValuesIn(select(all_attacks(), {}, nothing_unknown)),
                         [](const auto& about) {
                           std::string name = about.param->name;
                           for (char& c : name)
                             if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
                           return name;
                         });

TEST_P(EachAttack, ComesToWhatIsExpected) {
  const Attack& attack = *GetParam();
  const Outcome outcome = suite_->run(attack);
  if (outcome.verdict == Verdict::skipped) GTEST_SKIP() << outcome.came.seen;
  // Stopped by something else than on the machines that it was written on is a surprise here too.
  const bool expected = attack.canary()         ? outcome.verdict == Verdict::canary
                        : attack.gets_through() ? !is_wrong(outcome.verdict)
                                                : outcome.verdict == Verdict::stopped;
  EXPECT_TRUE(expected) << attack.name << ": " << name(outcome.verdict) << "; seen: " << outcome.came.seen
                        << "; it took " << outcome.ns / 1'000'000 << " ms";
}

TEST(AttackSuite, NamesAreTheirOwn) {
  std::set<std::string> names;
  for (const Attack& attack : all_attacks()) {
    EXPECT_TRUE(names.insert(attack.name).second) << attack.name;
    EXPECT_FALSE(attack.what.empty()) << attack.name;
  }
}

// ---- what the suite itself makes of what an attack comes to

Attack attack_that(std::function<Came(const Ground&)> act) {
  return {.name = "test/it",
          .what = "a test",
          .rung = "process",
          .mechanism = "it",
          .expected = {"EPERM"},
          .known = {},
          .act = std::move(act)};
}

TEST(AttackSuite, SuccessThatWasNotExpectedIsWrong) {
  Suite suite;
  Attack attack = attack_that([](const Ground&) { return Came::through("in"); });
  EXPECT_EQ(suite.run(attack).verdict, Verdict::got_through);
  EXPECT_TRUE(is_wrong(Verdict::got_through));
  attack.known = "another rung";
  EXPECT_EQ(suite.run(attack).verdict, Verdict::known);
  EXPECT_FALSE(is_wrong(Verdict::known));
}

TEST(AttackSuite, ACanaryThatIsNotSeenIsWrong) {
  Suite suite;
  Attack attack = attack_that([](const Ground&) { return Came::stopped("EPERM"); });
  EXPECT_EQ(suite.run(attack).verdict, Verdict::stopped);
  attack.rung = "none";
  EXPECT_EQ(suite.run(attack).verdict, Verdict::blind);
  EXPECT_TRUE(is_wrong(Verdict::blind));
}

TEST(AttackSuite, ASetUpThatFailsIsWrong) {
  Suite suite;
  EXPECT_EQ(
      suite.run(attack_that([](const Ground&) -> Came { throw std::runtime_error("no house"); })).verdict,
      Verdict::broken);
  EXPECT_EQ(suite.run(attack_that([](const Ground&) -> Came { ::_exit(0); })).verdict, Verdict::broken);
  EXPECT_EQ(suite.run(attack_that([](const Ground&) -> Came { ::abort(); })).verdict, Verdict::broken);
  EXPECT_TRUE(is_wrong(Verdict::broken));
}

TEST(AttackSuite, ASetUpThatIsKnownToFailHereIsSkippedWithTheReason) {
  Suite suite("no other uids here");
  const Outcome outcome =
      suite.run(attack_that([](const Ground&) -> Came { throw std::runtime_error("no house"); }));
  EXPECT_EQ(outcome.verdict, Verdict::skipped);
  EXPECT_EQ(outcome.came.seen, "no other uids here");
  // What comes to something says it.
  EXPECT_EQ(suite.run(attack_that([](const Ground&) { return Came::through("in"); })).verdict,
            Verdict::got_through);
  EXPECT_EQ(suite.run(attack_that([](const Ground&) { return Came::stopped("EPERM"); })).verdict,
            Verdict::stopped);
}

// As `unshare --user` and `unshare --user --map-root-user` do it.
TEST(AttackSuite, KnowsWhoCanNotSetUpAStage) {
  EXPECT_EQ(why_no_stage(), "");
  for (const bool maps_root : {false, true}) {
    const std::string said = in_attacker(stranger(), {}, [&]() -> std::string {
      const std::string map = fmt::format("0 {} 1", ::geteuid());
      if (::unshare(CLONE_NEWUSER) != 0) return "no user namespace";
      if (maps_root) {
        const Fd file(::open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC));
        if (!file || ::write(file.get(), map.data(), map.size()) < 0) return "no map";
      }
      return why_no_stage();
    });
    if (said == "no user namespace") GTEST_SKIP() << "the machine lets nobody make user namespaces";
    EXPECT_TRUE(said.starts_with(maps_root ? "root can't become uid 64101" : "uid 65534 is")) << said;
  }
}

TEST(AttackSuite, AnAttackThatTakesTooLongIsEndedWithAllThatItStarted) {
  Suite suite;
  int held[2];
  ASSERT_EQ(::pipe2(held, O_CLOEXEC), 0);
  Attack attack = attack_that([&](const Ground&) -> Came {
    if (::fork() == 0)
      for (;;) ::pause();
    for (;;) ::pause();
  });
  attack.seconds = 1;
  const Outcome outcome = suite.run(attack);
  EXPECT_EQ(outcome.verdict, Verdict::broken);
  EXPECT_NE(outcome.came.seen.find("not over after 1 s"), std::string::npos) << outcome.came.seen;
  // Both held an end of the pipe; it ends when both are gone.
  ::close(held[1]);
  char byte;
  EXPECT_EQ(::read(held[0], &byte, 1), 0);
  ::close(held[0]);
}

TEST(AttackSuite, NothingIsLeft) {
  std::string folder;
  {
    Suite suite;
    const Outcome outcome =
        suite.run(attack_that([](const Ground& ground) { return Came::stopped(ground.folder); }));
    folder = outcome.came.seen;
    EXPECT_FALSE(std::filesystem::exists(folder));
  }
  ASSERT_FALSE(folder.empty());
  EXPECT_FALSE(std::filesystem::exists(std::filesystem::path(folder).parent_path()));
}

}  // namespace
}  // namespace bailey::attack
