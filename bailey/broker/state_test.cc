#include "bailey/broker/state.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

namespace bailey::broker {
namespace {

using Rows = std::vector<protocol::WriterKey>;

TEST(WriterKeysInTheState, StayAsTheyWereSaidAsLongAsTheirRegion) {
  char name[] = "/tmp/bailey-state-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::string path = std::string(name) + "/state";
  const protocol::PublicKey one{1}, two{2};
  {
    State state = State::open(path, false).value();
    const auto written = state.commit([&]() -> Status {
      BAILEY_TRY(state.save_writer_key(3, 7, one));
      BAILEY_TRY(state.save_writer_key(3, 7, two));
      BAILEY_TRY(state.inherit_writer_key(3, 7, 9));
      BAILEY_TRY(state.inherit_writer_key(3, 8, 10));  // which has none
      BAILEY_TRY(state.save_writer_key(4, 7, two));
      for (std::uint32_t writer = 100; writer < 120; ++writer)
        BAILEY_TRY(state.save_writer_key(5, writer, one));
      return {};
    });
    ASSERT_TRUE(written) << written.error().to_string();
  }
  State state = State::open(path, false).value();
  EXPECT_EQ(state.writer_keys(3, 1, 256).value(), (Rows{{7, one}, {9, one}}));
  EXPECT_EQ(state.writer_keys(3, 8, 256).value(), (Rows{{9, one}}));
  EXPECT_EQ(state.writer_keys(4, 7, 256).value(), (Rows{{7, two}}));
  EXPECT_EQ(state.writer_keys(5, 105, 4).value(), (Rows{{105, one}, {106, one}, {107, one}, {108, one}}));
  // Numbers of regions are used again.
  ASSERT_TRUE(state.commit([&] { return state.erase_region(3); }));
  EXPECT_TRUE(state.writer_keys(3, 1, 256).value().empty());
  EXPECT_EQ(state.writer_keys(4, 1, 256).value().size(), 1u);
  std::filesystem::remove_all(name);
}

}  // namespace
}  // namespace bailey::broker
