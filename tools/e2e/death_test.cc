// Anybody may die at any instruction: writers, readers, the broker proper, the keeper.
#include <gmock/gmock.h>

#include "tools/e2e/house.h"

namespace bailey::e2e {
namespace {

using ::testing::HasSubstr;

class Death : public House {};

// Puts key0..key999 = round, round after round, and says how many rounds are whole.
int write_rounds(Result<Session> session, const Board& board, unsigned at) {
  if (!session) return 1;
  auto table = session->open_table("orders", Access::read_write);
  if (!table) return 1;
  for (std::uint64_t round = 1;; ++round) {
    for (int i = 0; i < 1000; ++i)
      if (!table->put(fmt::format("key{}", i), std::to_string(round))) return 2;
    board.set(at, round);
  }
}

// Reads them over and over; every one must be there, always.
int read_always(Result<Session> session, const Board& board, unsigned at) {
  if (!session) return 1;
  auto table = session->open_table("orders", Access::read_only);
  if (!table) return 1;
  std::string value;
  for (int i = 0;; i = (i + 1) % 1000) {
    auto got = table->get(fmt::format("key{}", i), value);
    if (!got) {
      fmt::print(stderr, "key{}: {}\n", i, got.error().to_string());
      return 2;
    }
    board.add(at);
  }
}

TEST_F(Death, AnExclusiveTableIsTakenOverWhileAReaderReads) {
  serve(policy("exclusive"));
  Board board;
  Process first([&] { return write_rounds(session("alice"), board, 0); });
  ASSERT_TRUE(board.reaches(0, 1));
  Process reader([&] { return read_always(session("bob"), board, 1); });
  ASSERT_TRUE(board.reaches(1, 1000));
  auto alice = session("alice").value();
  for (int takeover = 0; takeover < 3; ++takeover) {
    if (takeover == 0) first.kill(SIGKILL);
    std::uint64_t start = monotonic_ns();
    auto table = alice.open_table("orders", Access::read_write);
    while (!table && table.error().code == Code::busy && monotonic_ns() - start < 5 * second)
      table = alice.open_table("orders", Access::read_write);
    ASSERT_TRUE(table) << table.error().to_string();
    if (takeover == 0) {
      EXPECT_LT(monotonic_ns() - start, second / 10) << "the death is noticed within 100 ms";
    }
    std::string value;
    for (int i = 0; i < 1000; ++i) {
      auto got = table->get(fmt::format("key{}", i), value);
      ASSERT_TRUE(got) << i << ": " << got.error().to_string();
      EXPECT_GE(std::stoull(value), takeover == 0 ? 1u : 999'999u + takeover)
          << "nothing acknowledged is lost";
      ASSERT_TRUE(table->put(fmt::format("key{}", i), fmt::format("{}", 1'000'000 + takeover)));
    }
    std::uint64_t seen = board.get(1);
    ASSERT_TRUE(board.reaches(1, seen + 1000)) << "the reader went on";
  }
  auto bob = session("bob").value();
  auto table = bob.open_table("orders", Access::read_only).value();
  std::string value;
  ASSERT_TRUE(table.get("key0", value));
  EXPECT_EQ(value, "1000002");
}

TEST_F(Death, OfOneWriterOfManyLeavesTheOthersAlone) {
  serve(policy("shared"));
  Board board;
  Process dies([&] { return write_rounds(session("alice"), board, 0); });
  Process lives([&] { return write_rounds(session("alice"), board, 1); });
  ASSERT_TRUE(board.reaches(0, 1));
  ASSERT_TRUE(board.reaches(1, 1));
  dies.kill(SIGKILL);
  std::uint64_t rounds = board.get(1);
  EXPECT_TRUE(board.reaches(1, rounds + 3));
  auto bob = session("bob").value();
  auto table = bob.open_table("orders", Access::read_only).value();
  std::string value;
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(table.get(fmt::format("key{}", i), value)) << i;
}

TEST_F(Death, OfTheBrokerProperIsNotFeltByWhoReadsAndWrites) {
  serve(policy("shared"));
  Board board;
  Process writer([&] { return write_rounds(session("alice"), board, 0); });
  ASSERT_TRUE(board.reaches(0, 1));
  Process reader([&] { return read_always(session("bob"), board, 1); });
  ASSERT_TRUE(board.reaches(1, 1000));
  auto alice = session("alice").value();
  auto table = alice.open_table("orders", Access::read_write).value();
  ASSERT_TRUE(table.put("mine", "before"));

  ASSERT_EQ(::kill(broker_, SIGKILL), 0);
  std::uint64_t start = monotonic_ns();
  ASSERT_TRUE(table.put("mine", "while it is away")) << "there is room in the segment";
  // What needs the broker waits for the next one.
  auto large = table.put("large", std::string(4 << 20, 'l'));
  ASSERT_TRUE(large) << large.error().to_string();
  EXPECT_LT(monotonic_ns() - start, second) << "it is back within a second";
  auto status = alice.status();
  ASSERT_TRUE(status) << status.error().to_string();
  std::string value;
  ASSERT_TRUE(table.get("mine", value));
  EXPECT_EQ(value, "while it is away");

  std::uint64_t rounds = board.get(0), reads = board.get(1);
  EXPECT_TRUE(board.reaches(0, rounds + 3)) << "the writer goes on";
  EXPECT_TRUE(board.reaches(1, reads + 10'000)) << "the reader goes on";
  auto late = session("bob");
  ASSERT_TRUE(late) << late.error().to_string();
  auto his = late->open_table("orders", Access::read_only);
  ASSERT_TRUE(his) << his.error().to_string();
  ASSERT_TRUE(his->get("large", value));
  EXPECT_EQ(value.size(), 4u << 20);
}

TEST_F(Death, ASessionThatWasAwayIsStillRevocableAfterTheBrokersDeath) {
  serve(policy("exclusive"));
  auto alice = session("alice").value();
  auto hers = alice.open_table("orders", Access::read_write).value();
  ASSERT_TRUE(hers.put("key", "value"));
  auto bob = session("bob").value();
  auto his = bob.open_table("orders", Access::read_only).value();
  std::string value;
  ASSERT_TRUE(his.get("key", value));
  ASSERT_EQ(::kill(broker_, SIGKILL), 0);
  Result<Session> admin = session("");
  for (std::uint64_t until = monotonic_ns() + 5 * second; !admin && monotonic_ns() < until;)
    admin = session("");
  ASSERT_TRUE(admin) << admin.error().to_string();
  // Bob has not talked to this broker at all; within its bound it cuts him off.
  auto applied = admin->apply_policy(policy("exclusive", false), "policy.toml", folder_, false);
  ASSERT_TRUE(applied) << applied.error().to_string();
  auto got = his.get("key", value);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, Code::revoked) << got.error().to_string();
  EXPECT_TRUE(hers.put("key", "other"));
}

TEST_F(Death, OfKeeperAndBrokerEndsAPoolInMemory) {
  serve(policy("exclusive"));
  auto alice = session("alice", 300).value();
  auto table = alice.open_table("orders", Access::read_write).value();
  ASSERT_TRUE(table.put("key", "value"));
  keeper_.reset();
  std::string value;
  EXPECT_TRUE(table.get("key", value)) << "what is mapped stays";
  auto status = alice.status();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::unavailable);
  EXPECT_THAT(status.error().message, HasSubstr("broker away"));
  // A new house on the same path is another one: it can't be mistaken for the old.
  serve(policy("exclusive"));
  auto ended = alice.status();
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, Code::closed) << ended.error().to_string();
  EXPECT_FALSE(table.get("key", value));
  auto anew = session("alice").value();
  auto fresh = anew.open_table("orders", Access::read_write);
  ASSERT_TRUE(fresh) << fresh.error().to_string();
  EXPECT_EQ(fresh->get("key", value).error().code, Code::not_found);
}

TEST_F(Death, ManyWritersThatPutAndAreKilledNeverFillTheTable) {
  serve(policy("shared", true, "16MiB"));
  Board board;
  for (int i = 0; i < 60; ++i) {
    Process writer([&] { return write_rounds(session("alice"), board, 0); });
    board.set(0, 0);
    ASSERT_TRUE(board.reaches(0, 1)) << "writer " << i << " ended with " << writer.wait();
  }
}

}  // namespace
}  // namespace bailey::e2e
