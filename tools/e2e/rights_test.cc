// Who may do what, with real sessions on a real broker.
#include <gmock/gmock.h>

#include "tools/e2e/house.h"

namespace bailey::e2e {
namespace {

using ::testing::HasSubstr;

class Rights : public House, public ::testing::WithParamInterface<const char*> {};
class RightsAlone : public House {};
INSTANTIATE_TEST_SUITE_P(Modes, Rights, ::testing::Values("exclusive", "shared"));

TEST_P(Rights, AliceWritesBobReadsMalloryIsRefused) {
  serve(policy(GetParam()));
  auto alice = session("alice");
  ASSERT_TRUE(alice) << alice.error().to_string();
  auto hers = alice->open_table("orders", Access::read_write);
  ASSERT_TRUE(hers) << hers.error().to_string();
  for (int i = 0; i < 1000; ++i) {
    auto put = hers->put(fmt::format("key{}", i), fmt::format("value{}", i));
    ASSERT_TRUE(put) << put.error().to_string();
  }

  auto bob = session("bob").value();
  auto his = bob.open_table("orders", Access::read_only);
  ASSERT_TRUE(his) << his.error().to_string();
  std::string value;
  for (int i = 0; i < 1000; ++i) {
    auto got = his->get(fmt::format("key{}", i), value);
    ASSERT_TRUE(got) << got.error().to_string();
    EXPECT_EQ(value, fmt::format("value{}", i));
  }
  auto put = his->put("key1", "forged");
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().code, Code::denied);
  EXPECT_EQ(put.error().by, By::library);
  auto opened = bob.open_table("orders", Access::read_write);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::denied);
  EXPECT_EQ(opened.error().by, By::broker);

  auto mallory = session("mallory").value();
  for (Access access : {Access::read_only, Access::read_write}) {
    auto refused = mallory.open_table("orders", access);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::denied);
    EXPECT_EQ(refused.error().by, By::broker);
  }
  EXPECT_FALSE(mallory.open_table("nothing", Access::read_only));
}

TEST_P(Rights, WhatOnePutsTheOtherSeesAtOnce) {
  serve(policy(GetParam()));
  auto alice = session("alice").value();
  auto bob = session("bob").value();
  auto hers = alice.open_table("orders", Access::read_write).value();
  auto his = bob.open_table("orders", Access::read_only).value();
  std::string value;
  for (int i = 0; i < 2000; ++i) {
    ASSERT_TRUE(hers.put("key", std::to_string(i)));
    auto got = his.get("key", value);
    ASSERT_TRUE(got) << got.error().to_string();
    ASSERT_EQ(value, std::to_string(i));
  }
}

TEST_P(Rights, RevocationEndsWhatIsOpen) {
  serve(policy(GetParam()));
  auto alice = session("alice").value();
  auto hers = alice.open_table("orders", Access::read_write).value();
  ASSERT_TRUE(hers.put("key", "value"));
  Board board;
  Process bob([&] {
    auto his = session("bob").value();
    auto table = his.open_table("orders", Access::read_only).value();
    std::string value;
    for (;;) {
      auto got = table.get("key", value);
      board.add(0);
      if (!got)
        return got.error().code == Code::revoked && !his.open_table("orders", Access::read_only) ? 0 : 1;
    }
  });
  ASSERT_TRUE(board.reaches(0, 1000));
  auto admin = session("").value();
  ASSERT_TRUE(admin.admin());
  auto applied = admin.apply_policy(policy(GetParam(), false), "policy.toml", folder_, false);
  ASSERT_TRUE(applied) << applied.error().to_string();
  EXPECT_EQ(bob.wait(), 0);
  ASSERT_TRUE(hers.put("key", "other")) << "whose grant it was not goes on";
}

TEST_F(RightsAlone, ASecondWriterOfAnExclusiveTableIsToldWhoHasIt) {
  serve(policy("exclusive"));
  auto first = session("alice").value();
  auto second = session("alice").value();
  {
    auto table = first.open_table("orders", Access::read_write);
    ASSERT_TRUE(table) << table.error().to_string();
    auto refused = second.open_table("orders", Access::read_write);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::busy);
    EXPECT_THAT(refused.error().message, HasSubstr("alice"));
  }
  EXPECT_TRUE(second.open_table("orders", Access::read_write)) << "once it is closed it is free";
}

TEST_F(RightsAlone, AStrangersKeyIsNobody) {
  serve(policy("exclusive"));
  ASSERT_TRUE(crypto::write_new_pair(key_file("stranger")));
  auto stranger = session("stranger").value();
  EXPECT_TRUE(stranger.principals().empty());
  auto refused = stranger.open_table("orders", Access::read_only);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::unauthenticated) << refused.error().to_string();
  EXPECT_EQ(refused.error().by, By::broker);
}

TEST_F(RightsAlone, AForkedChildHasItsOwnSessionOrNone) {
  serve(policy("shared"));
  auto alice = session("alice").value();
  auto table = alice.open_table("orders", Access::read_write).value();
  ASSERT_TRUE(table.put("parent", "1"));
  Process child([&] {
    std::string value;
    if (table.get("parent", value).error().code != Code::forked) return 1;
    if (table.put("parent", "2").error().code != Code::forked) return 2;
    auto own = session("alice");
    if (!own) return 3;
    auto opened = own->open_table("orders", Access::read_write);
    if (!opened) return 4;
    return opened->put("child", "1") && opened->get("parent", value) && value == "1" ? 0 : 5;
  });
  EXPECT_EQ(child.wait(), 0);
  std::string value;
  EXPECT_TRUE(table.get("child", value)) << "what the child wrote outlives it";
  EXPECT_TRUE(table.put("parent", "3"));
}

}  // namespace
}  // namespace bailey::e2e
