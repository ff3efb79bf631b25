// What a hostile holder of a token gets to see after it was taken back, also over the death of the broker;
// and what honest sessions see of it.
#include <map>

#include "tools/e2e/house.h"

namespace bailey::e2e {
namespace {

constexpr int keys_most = 200;

// Speaks the protocol itself, maps all that it is given, answers nothing and unmaps nothing.
class Holder {
 public:
  Holder(const std::string& socket, const Token& token) : client_(broker::Client::connect(socket).value()) {
    protocol::OpenRegion request{"orders", false, std::string(as_text(token.bytes()))};
    opened_ = client_.ask<protocol::Opened>(request).value();
    index_ = Mapping::of_file(client_.fds.at(0).get(), opened_.index_bytes, Access::read_only).value();
    auto given = client_.ask<protocol::Segments>(protocol::MapSegments{opened_.grant, {}}).value();
    for (std::size_t i = 0; i < given.rows.size(); ++i)
      segments_.push_back(
          Mapping::of_file(client_.fds.at(i).get(), given.rows[i].bytes, Access::read_only).value());
  }
  bool sees(std::string_view bytes) const {
    return std::any_of(segments_.begin(), segments_.end(), [&](const Mapping& mapping) {
      return std::string_view(reinterpret_cast<const char*>(mapping.data()), mapping.size()).find(bytes) !=
             std::string_view::npos;
    });
  }
  void hang_up() { client_.connection.close(); }

 private:
  broker::Client client_;
  protocol::Opened opened_;
  Mapping index_;
  std::vector<Mapping> segments_;
};

class TokenRevocation : public House, public ::testing::WithParamInterface<std::tuple<const char*, bool>> {
 protected:
  void broker_dies() {
    auto epoch = [&] {
      auto client = broker::Client::connect(socket());
      return client ? client->control()->header.broker_epoch : 0;
    };
    std::uint64_t before = epoch();
    ::kill(broker_, SIGKILL);
    ASSERT_LT(broker::wait_until([&] { return epoch() > before; }), 10 * second);
  }
};
INSTANTIATE_TEST_SUITE_P(Modes, TokenRevocation,
                         ::testing::Combine(::testing::Values("exclusive", "shared"), ::testing::Bool()));

TEST_P(TokenRevocation, AHostileReaderSeesNothingThatIsWrittenAfterIt) {
  auto [mode, broker_restarts] = GetParam();
  serve(policy(mode));
  Session admin = session("", 10'000).value();
  Token token = admin.mint_token("orders", {}).value();
  Session alice = session("alice", 10'000).value();
  Table table = alice.open_table("orders", Access::read_write).value();
  auto write = [&](const std::string& value) {
    for (int i = 0; i < keys_most; ++i) {
      auto put = table.put(fmt::format("key{}", i), fmt::format("{}-{}", value, i));
      ASSERT_TRUE(put) << put.error().to_string();
    }
  };
  write("BEFORE");
  Holder spy(socket(), token), gone(socket(), token);
  gone.hang_up();
  ASSERT_TRUE(spy.sees("BEFORE-7") && gone.sees("BEFORE-7")) << "it has mapped what there is";
  write("STILL");
  EXPECT_TRUE(spy.sees("STILL-7")) << "and sees what is written into it, or the test shows nothing";

  Session bob = session("bob").value();
  Table honest = bob.open_table("orders", Access::read_only, &token).value();
  std::string value;
  ASSERT_TRUE(honest.get("key1", value));
  if (broker_restarts) broker_dies();
  // alice is between two operations, and attends at her next: waited for a second, which is the bound.
  std::uint64_t begin = monotonic_ns();
  auto said = admin.revoke_token(token.id());
  ASSERT_TRUE(said) << said.error().to_string();
  EXPECT_LT(monotonic_ns() - begin, 6 * second);
  EXPECT_EQ(honest.get("key1", value).error().code, Code::revoked);
  EXPECT_EQ(bob.open_table("orders", Access::read_only, &token).error().code, Code::revoked);
  EXPECT_TRUE(bob.open_table("orders", Access::read_only)) << "bob's own grant stands";
  write("AFTERWARDS");
  EXPECT_FALSE(spy.sees("AFTERWARDS"));
  EXPECT_FALSE(gone.sees("AFTERWARDS")) << "it had hung up; its mappings are still there";
  ASSERT_TRUE(table.get("key7", value));
  EXPECT_EQ(value, "AFTERWARDS-7") << "nothing was lost";
}

}  // namespace
}  // namespace bailey::e2e
