// The checker on histories that are written by hand, one line an operation: what it lets pass, what it finds,
// what it leaves undecided, and what it says.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "bailey/table/lincheck.h"

namespace bailey::table {
namespace {

struct Hand {
  std::vector<Operation> operations;
  std::uint32_t process = 0;

  Operation& add(Action action, Outcome outcome, std::uint64_t start, std::uint64_t end) {
    return operations.emplace_back(Operation{.start_ns = start,
                                             .end_ns = end,
                                             .key = 7,
                                             .process = process++,
                                             .action = action,
                                             .outcome = outcome});
  }
  Hand& found(std::uint64_t start, std::uint64_t end, std::uint64_t value, std::uint64_t version = 0) {
    Operation& op = add(Action::get, Outcome::ok, start, end);
    op.observed = value;
    op.version = version;
    return *this;
  }
  Hand& missing(std::uint64_t start, std::uint64_t end) {
    add(Action::get, Outcome::not_found, start, end);
    return *this;
  }
  Hand& write(Action action, Outcome outcome, std::uint64_t start, std::uint64_t end, std::uint64_t value,
              std::uint64_t version = 0) {
    Operation& op = add(action, outcome, start, end);
    op.written = value;
    op.version = version;
    return *this;
  }
  Hand& put(std::uint64_t start, std::uint64_t end, std::uint64_t value, std::uint64_t version = 0) {
    return write(Action::put, Outcome::ok, start, end, value, version);
  }
  Hand& put_if(Outcome outcome, std::uint64_t start, std::uint64_t end, std::uint64_t value,
               std::uint64_t expected, std::uint64_t version = 0) {
    write(Action::put_if_version, outcome, start, end, value, version);
    operations.back().expected = expected;
    return *this;
  }
  Hand& erase(Outcome outcome, std::uint64_t start, std::uint64_t end) {
    add(Action::erase, outcome, start, end);
    return *this;
  }
  LincheckReport check() const { return lincheck(operations); }
};

#define EXPECT_GOOD(hand) EXPECT_EQ((hand).check().verdict, Verdict::linearizable) << (hand).check().text
#define EXPECT_BAD(hand) EXPECT_EQ((hand).check().verdict, Verdict::violation) << (hand).check().text

TEST(LincheckGood, AnEmptyHistory) { EXPECT_GOOD(Hand{}); }

TEST(LincheckGood, OneAfterTheOther) {
  EXPECT_GOOD(Hand{}
                  .missing(0, 1)
                  .write(Action::insert, Outcome::ok, 2, 3, 10, 1)
                  .found(4, 5, 10, 1)
                  .write(Action::insert, Outcome::exists, 6, 7, 11)
                  .write(Action::update, Outcome::ok, 8, 9, 12, 2)
                  .put_if(Outcome::version_mismatch, 10, 11, 13, 1)
                  .put_if(Outcome::ok, 12, 13, 14, 2, 3)
                  .found(14, 15, 14, 3)
                  .erase(Outcome::ok, 16, 17)
                  .erase(Outcome::not_found, 18, 19)
                  .write(Action::update, Outcome::not_found, 20, 21, 15)
                  .missing(22, 23)
                  .put_if(Outcome::ok, 24, 25, 16, 0, 4)
                  .put_if(Outcome::version_mismatch, 26, 27, 17, 0)
                  .found(28, 29, 16));
}

TEST(LincheckGood, ConcurrentOnesInWhicheverOrderFits) {
  EXPECT_GOOD(Hand{}.put(0, 100, 1).put(0, 100, 2).found(10, 20, 2).found(30, 40, 1).found(110, 120, 1));
  EXPECT_GOOD(Hand{}.put(0, 1, 1).put(10, 100, 2).found(20, 30, 1).found(40, 50, 2));
  EXPECT_GOOD(
      Hand{}.write(Action::insert, Outcome::ok, 0, 9, 1).write(Action::insert, Outcome::exists, 0, 9, 2));
}

TEST(LincheckGood, EqualClockReadingsAreConcurrent) { EXPECT_GOOD(Hand{}.put(0, 5, 1).missing(5, 9)); }

TEST(LincheckGood, AnOperationThatNeverEndedHappenedOrNot) {
  Hand hand;
  hand.put(0, 1, 1).write(Action::put, Outcome::unknown, 2, never_ns, 2).found(10, 11, 1);
  EXPECT_GOOD(hand);
  hand.found(12, 13, 2, 77);
  EXPECT_GOOD(hand);
  hand.found(14, 15, 1);
  EXPECT_BAD(hand);
}

TEST(LincheckGood, AContendedOneHappenedInItsIntervalOrNever) {
  EXPECT_GOOD(Hand{}.put(0, 1, 1).write(Action::put, Outcome::unknown, 2, 5, 2).found(10, 11, 2));
  EXPECT_GOOD(Hand{}.put(0, 1, 1).write(Action::put, Outcome::unknown, 2, 5, 2).found(10, 11, 1));
  EXPECT_BAD(
      Hand{}.put(0, 1, 1).write(Action::put, Outcome::unknown, 2, 5, 2).found(10, 11, 1).found(12, 13, 2));
}

TEST(LincheckGood, ManyThatNeverEndedDoNotExplode) {
  Hand hand;
  hand.put(0, 1, 1);
  for (unsigned i = 0; i < 60; ++i) {
    hand.write(Action::put, Outcome::unknown, 2 + i, never_ns, 100 + i);
    hand.write(Action::insert, Outcome::unknown, 2 + i, never_ns, 200 + i);
    hand.erase(Outcome::unknown, 2 + i, never_ns);
  }
  for (unsigned i = 0; i < 40; ++i) {
    hand.missing(1000 + 10 * i, 1001 + 10 * i);
    hand.write(Action::insert, Outcome::exists, 1003 + 10 * i, 1004 + 10 * i, 300 + i);
  }
  EXPECT_GOOD(hand);
}

TEST(LincheckGood, WhatHadNoEffectSaysNothing) {
  EXPECT_GOOD(Hand{}.put(0, 1, 1).write(Action::put, Outcome::no_effect, 2, 3, 2).found(4, 5, 1));
  EXPECT_BAD(Hand{}.put(0, 1, 1).write(Action::put, Outcome::no_effect, 2, 3, 2).found(4, 5, 2));
}

TEST(LincheckBad, AStaleRead) { EXPECT_BAD(Hand{}.put(0, 1, 1).put(2, 3, 2).found(4, 5, 1)); }
TEST(LincheckBad, AReadOfWhatIsWrittenLater) { EXPECT_BAD(Hand{}.put(0, 1, 1).found(2, 3, 2).put(4, 5, 2)); }
TEST(LincheckBad, AMissWherePresent) { EXPECT_BAD(Hand{}.put(0, 1, 1).missing(2, 3)); }
TEST(LincheckBad, AHitAfterAnErase) {
  EXPECT_BAD(Hand{}.put(0, 1, 1).erase(Outcome::ok, 2, 3).found(4, 5, 1));
}
TEST(LincheckBad, AValueThatNobodyWrote) { EXPECT_BAD(Hand{}.put(0, 1, 1).found(2, 3, 9)); }
TEST(LincheckBad, ALostUpdate) {
  // Both replaced version 1, and both were told that they did.
  EXPECT_BAD(Hand{}.put(0, 1, 1, 1).put_if(Outcome::ok, 2, 9, 2, 1, 2).put_if(Outcome::ok, 2, 9, 3, 1, 3));
}
TEST(LincheckBad, TwoInsertsThatBothSucceed) {
  EXPECT_BAD(Hand{}.write(Action::insert, Outcome::ok, 0, 9, 1).write(Action::insert, Outcome::ok, 0, 9, 2));
}
TEST(LincheckBad, TwoInsertsThatBothFail) {
  EXPECT_BAD(
      Hand{}.write(Action::insert, Outcome::exists, 0, 9, 1).write(Action::insert, Outcome::exists, 0, 9, 2));
}
TEST(LincheckBad, AnInsertWherePresent) {
  EXPECT_BAD(Hand{}.put(0, 1, 1).write(Action::insert, Outcome::ok, 2, 3, 2));
}
TEST(LincheckBad, AnUpdateWhereAbsent) { EXPECT_BAD(Hand{}.write(Action::update, Outcome::ok, 0, 1, 1)); }
TEST(LincheckBad, AnUpdateThatMissesWherePresent) {
  EXPECT_BAD(Hand{}.put(0, 1, 1).write(Action::update, Outcome::not_found, 2, 3, 2));
}
TEST(LincheckBad, AnEraseWhereAbsent) { EXPECT_BAD(Hand{}.erase(Outcome::ok, 0, 1)); }
TEST(LincheckBad, AnEraseThatMissesWherePresent) {
  EXPECT_BAD(Hand{}.put(0, 1, 1).erase(Outcome::not_found, 2, 3));
}
TEST(LincheckBad, TwoErasesOfOneValue) {
  EXPECT_BAD(Hand{}.put(0, 1, 1).erase(Outcome::ok, 2, 9).erase(Outcome::ok, 2, 9));
}
TEST(LincheckBad, APutIfVersionOfAnOldVersion) {
  EXPECT_BAD(Hand{}.put(0, 1, 1, 1).put(2, 3, 2, 2).put_if(Outcome::ok, 4, 5, 3, 1, 3));
}
TEST(LincheckBad, APutIfVersionOfAVersionThatNeverWas) {
  EXPECT_BAD(Hand{}.put(0, 1, 1, 1).put_if(Outcome::ok, 4, 5, 3, 99, 3));
}
TEST(LincheckBad, APutIfAbsentWherePresent) {
  EXPECT_BAD(Hand{}.put(0, 1, 1, 1).put_if(Outcome::ok, 4, 5, 3, 0, 3));
}
TEST(LincheckBad, AMismatchOfTheVersionThatIsThere) {
  EXPECT_BAD(Hand{}.put(0, 1, 1, 1).put_if(Outcome::version_mismatch, 4, 5, 3, 1));
}
TEST(LincheckBad, AFailedInsertThatWasSeen) {
  EXPECT_BAD(Hand{}.put(0, 1, 1).write(Action::insert, Outcome::exists, 2, 9, 2).found(3, 4, 2));
}
TEST(LincheckBad, ReadsThatGoBack) {
  EXPECT_BAD(Hand{}.put(0, 1, 1).put(2, 100, 2).found(10, 20, 2).found(30, 40, 1));
}
TEST(LincheckBad, OneValueWithTwoVersions) {
  EXPECT_BAD(Hand{}.put(0, 1, 1, 5).found(2, 3, 1, 6));
  EXPECT_BAD(Hand{}.write(Action::put, Outcome::unknown, 0, never_ns, 1).found(2, 3, 1, 6).found(4, 5, 1, 7));
}
TEST(LincheckBad, OneVersionOfTwoValues) { EXPECT_BAD(Hand{}.put(0, 1, 1, 5).put(2, 3, 2, 5)); }
TEST(LincheckBad, AnOutcomeThatIsNone) {
  EXPECT_BAD(Hand{}.write(Action::put, Outcome::exists, 0, 1, 1));
  EXPECT_BAD(Hand{}.write(Action::update, Outcome::version_mismatch, 0, 1, 1));
}

TEST(LincheckUndecided, IsNeverAPass) {
  Hand same_value;
  same_value.put(0, 1, 1).put(2, 3, 1);
  EXPECT_EQ(same_value.check().verdict, Verdict::undecided);
  Hand backwards;
  backwards.put(9, 1, 1);
  EXPECT_EQ(backwards.check().verdict, Verdict::undecided);
  Hand crowd;
  for (unsigned i = 0; i < 300; ++i) crowd.put(i, 1000, 1 + i);
  EXPECT_EQ(crowd.check().verdict, Verdict::undecided);
  Hand wide;
  for (unsigned i = 0; i < 20; ++i) wide.put(i, 1000 + i, 1 + i).found(2000, 2000, 1 + i);
  EXPECT_EQ(lincheck(wide.operations, {.configurations_max = 8}).verdict, Verdict::undecided);
  EXPECT_EQ(lincheck(wide.operations, {.steps_max = 3}).verdict, Verdict::undecided);
}

TEST(LincheckText, ShowsTheOperationsThatMatterAndNoOthers) {
  Hand hand;
  for (std::uint64_t i = 0; i < 1000; ++i)
    hand.put(100 * i, 100 * i + 10, i + 1).found(100 * i + 20, 100 * i + 30, i + 1);
  hand.found(200'000, 200'010, 998);
  const LincheckReport report = hand.check();
  ASSERT_EQ(report.verdict, Verdict::violation);
  EXPECT_EQ(report.key, 7u);
  EXPECT_NE(report.text.find("value 998 was not there at any moment of the get"), std::string::npos)
      << report.text;
  EXPECT_NE(report.text.find("-> "), std::string::npos);
  EXPECT_NE(report.text.find("put of key 7, value 998: ok"), std::string::npos);
  EXPECT_NE(report.text.find("put of key 7, value 1000: ok"), std::string::npos);
  EXPECT_EQ(report.text.find("value 900"), std::string::npos);
  EXPECT_LT(std::count(report.text.begin(), report.text.end(), '\n'), 14) << report.text;
}

}  // namespace
}  // namespace bailey::table
