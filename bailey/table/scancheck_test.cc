#include "bailey/table/scancheck.h"

#include <gtest/gtest.h>

#include <vector>

namespace bailey::table {
namespace {

Operation write_at(std::uint64_t key, std::uint64_t start, std::uint64_t end, Action action = Action::put,
                   Outcome outcome = Outcome::ok) {
  return {
      .start_ns = start, .end_ns = end, .key = key, .written = start, .action = action, .outcome = outcome};
}
Operation scan_at(std::uint64_t start, std::uint64_t end) {
  return {.start_ns = start, .end_ns = end, .scan = 1, .action = Action::scan, .outcome = Outcome::ok};
}
Operation item(std::uint64_t key) {
  return {
      .start_ns = 110, .end_ns = 120, .key = key, .scan = 1, .action = Action::get, .outcome = Outcome::ok};
}

TEST(Scancheck, AKeyThatIsThereThroughoutMustCome) {
  std::vector<Operation> history{write_at(1, 10, 20), write_at(2, 10, 20), scan_at(100, 200), item(1)};
  ScancheckReport report = scancheck(history);
  EXPECT_EQ(report.scans, 1u);
  EXPECT_EQ(report.keys, 2u);
  EXPECT_EQ(report.missing.find("key 2 was there throughout"), 0u) << report.missing;
  history.push_back(item(2));
  report = scancheck(history);
  EXPECT_EQ(report.missing, "");
}

TEST(Scancheck, AnItemOfAnotherScanOrOfAGetIsNoExcuse) {
  std::vector<Operation> history{write_at(1, 10, 20), scan_at(100, 200), item(1)};
  history.back().scan = 2;
  EXPECT_NE(scancheck(history).missing, "");
  history.back().scan = 0;
  EXPECT_NE(scancheck(history).missing, "");
  history.back() = item(1);
  history.back().process = 1;
  EXPECT_NE(scancheck(history).missing, "");
}

TEST(Scancheck, WhatMayHaveComeOrGoneMeanwhileMayBeMissing) {
  const auto may_miss = [](std::vector<Operation> history) {
    history.push_back(scan_at(100, 200));
    return scancheck(history).keys == 0;
  };
  EXPECT_TRUE(may_miss({write_at(1, 50, 150)})) << "acknowledged during the scan";
  EXPECT_TRUE(may_miss({write_at(1, 10, never_ns, Action::put, Outcome::unknown)}))
      << "its writer was killed";
  EXPECT_TRUE(may_miss({write_at(1, 10, 20), write_at(1, 150, 160, Action::erase)}));
  EXPECT_TRUE(may_miss({write_at(1, 10, 20), write_at(1, 30, never_ns, Action::erase, Outcome::unknown)}));
  EXPECT_TRUE(may_miss({write_at(1, 10, 40), write_at(1, 20, 30, Action::erase)}))
      << "either may be the last";
  EXPECT_FALSE(may_miss({write_at(1, 10, 20, Action::erase), write_at(1, 30, 40)})) << "erased before";
  EXPECT_FALSE(may_miss({write_at(1, 10, 20), write_at(1, 201, 210, Action::erase)})) << "erased after";
  EXPECT_FALSE(may_miss({write_at(1, 10, 20), write_at(1, 30, 40, Action::erase, Outcome::not_found)}));
}

TEST(Scancheck, AScanThatDidNotEndIsLeftOut) {
  std::vector<Operation> history{write_at(1, 10, 20), scan_at(100, never_ns)};
  history.back().outcome = Outcome::unknown;
  EXPECT_EQ(scancheck(history).scans, 0u);
  EXPECT_EQ(scancheck(history).missing, "");
}

}  // namespace
}  // namespace bailey::table
