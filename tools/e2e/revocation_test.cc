// What a reader gets to see after its grant was taken back, if it is hostile; and what others feel of it.
//
// The spy speaks the protocol itself, maps all that it is given, answers nothing and unmaps nothing.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "bailey/broker/test_support.h"
#include "tools/e2e/house.h"

namespace bailey::e2e {
namespace {

using ::testing::HasSubstr;

constexpr int keys_most = 500;
std::string key_of(int i) { return fmt::format("key{}", i); }

class Spy {
 public:
  Spy(const std::string& socket, const std::string& key_file)
      : key_(crypto::read_secret_key(key_file).value()),
        client_(broker::Client::connect(socket, &key_).value()),
        opened_(client_.open("orders", false).value()) {}

  // Maps what there is and it does not have yet.
  void look_around() {
    auto given = client_.ask<protocol::Segments>(protocol::MapSegments{opened_.grant, {}});
    ASSERT_TRUE(given) << given.error().to_string();
    for (std::size_t i = 0; i < given->rows.size(); ++i)
      if (!segments_.contains(given->rows[i].segment))
        segments_[given->rows[i].segment] =
            Mapping::of_file(client_.fds.at(i).get(), given->rows[i].bytes, Access::read_only).value();
  }
  bool sees(std::string_view bytes) const {
    return std::any_of(segments_.begin(), segments_.end(), [&](const auto& entry) {
      return text_of(entry.second).find(bytes) != std::string_view::npos;
    });
  }
  std::string all_that_it_sees() const {
    std::string all(text_of(client_.index));
    for (const auto& [id, mapping] : segments_) all += text_of(mapping);
    return all;
  }
  void hang_up() { client_.connection.close(); }
  std::size_t segments() const { return segments_.size(); }
  broker::Client& client() { return client_; }
  std::uint32_t grant() const { return opened_.grant; }

 private:
  static std::string_view text_of(const Mapping& mapping) {
    return {reinterpret_cast<const char*>(mapping.data()), mapping.size()};
  }
  crypto::SecretKey key_;
  broker::Client client_;
  protocol::Opened opened_;
  std::map<std::uint16_t, Mapping> segments_;
};

class Revocation : public House {
 protected:
  // alice may write; bob may read unless he is named; mallory may do as `mallory` says.
  std::string policy_with(const std::string& mode, const std::string& mallory, bool with_bob = true,
                          const std::string& size = "32MiB") const {
    std::string text = policy(mode, with_bob, size);
    if (!mallory.empty())
      text +=
          fmt::format("[[grant]]\nprincipal = \"mallory\"\nregion = \"orders\"\nrights = \"{}\"\n", mallory);
    return text;
  }
  Status apply(const std::string& text) const {
    auto admin = BAILEY_TRY(session("", 10'000));
    BAILEY_TRY(admin.apply_policy(text, "policy.toml", folder_, false));
    return {};
  }
  nlohmann::json region_status() const {
    return nlohmann::json::parse(session("").value().status().value()).at("regions").at(0);
  }
};
class RevocationOf : public Revocation,
                     public ::testing::WithParamInterface<std::tuple<const char*, bool>> {};
INSTANTIATE_TEST_SUITE_P(Modes, RevocationOf,
                         ::testing::Combine(::testing::Values("exclusive", "shared"), ::testing::Bool()));
class RevocationIn : public Revocation, public ::testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Modes, RevocationIn, ::testing::Values("exclusive", "shared"));

// The spy may even have closed its connection: what it has mapped it keeps.
TEST_P(RevocationOf, AHostileReaderSeesNothingThatIsWrittenAfterIt) {
  auto [mode, hangs_up] = GetParam();
  serve(policy_with(mode, "r"));
  Board board;
  enum : unsigned { rounds, revoked, reads };
  broker::Process writer([&] {
    auto alice = session("alice").value();
    auto table = alice.open_table("orders", Access::read_write).value();
    for (std::uint64_t round = 1;; ++round) {
      bool after = board.get(revoked) != 0;
      for (int i = 0; i < keys_most; ++i) {
        auto put = table.put(key_of(i), fmt::format("{}-{}", after ? "AFTERWARDS" : "BEFORE", round));
        if (!put) return fmt::print(stderr, "put: {}\n", put.error().to_string()), 2;
        if (after && i % 50 == 0 && !table.put(fmt::format("AFTERWARDS-key-{}-{}", round % 8, i), "x"))
          return 3;
        if (i % 10 == 0 &&
            (!table.erase(key_of(i)) || !table.put(key_of(i), after ? "AFTERWARDS" : "BEFORE")))
          return 4;
      }
      board.set(rounds, round);
    }
  });
  ASSERT_TRUE(board.reaches(rounds, 1));
  broker::Process reader([&] {
    auto mallory = session("mallory").value();
    auto table = mallory.open_table("orders", Access::read_only).value();
    std::string value;
    for (int i = 1;; i = (i + 1) % keys_most) {
      if (i % 10 == 0) continue;
      auto got = table.get(key_of(i), value);
      if (!got) return fmt::print(stderr, "get: {}\n", got.error().to_string()), 2;
      board.add(reads);
    }
  });
  ASSERT_TRUE(board.reaches(reads, 1000));
  Spy spy(socket(), key_file("bob"));
  spy.look_around();
  auto sees_what_is_written = [&] { return spy.sees(fmt::format("BEFORE-{}", board.get(rounds) + 1)); };
  EXPECT_LT(broker::wait_until(sees_what_is_written), 10 * second)
      << "a spy that sees nothing proves nothing";
  if (hangs_up) spy.hang_up();

  auto applied = apply(policy_with(mode, "r", false));
  ASSERT_TRUE(applied) << applied.error().to_string();
  std::string at_return = spy.all_that_it_sees();
  board.set(revoked, 1);
  ASSERT_TRUE(board.reaches(rounds, board.get(rounds) + 20)) << writer.wait();
  std::uint64_t read_by_now = board.get(reads);
  ASSERT_TRUE(board.reaches(reads, read_by_now + 1000)) << reader.wait();
  EXPECT_FALSE(spy.sees("AFTERWARDS"));
  EXPECT_TRUE(spy.all_that_it_sees() == at_return)
      << "no byte of what it holds changed, slots and words included";

  // And it can't get at the new files.
  if (!hangs_up) {
    auto more = spy.client().ask<protocol::Segments>(protocol::MapSegments{spy.grant(), {}});
    ASSERT_FALSE(more);
    EXPECT_EQ(more.error().code, Code::revoked);
  }
  // What was written when is there for those who may.
  auto alice = session("mallory").value();
  auto table = alice.open_table("orders", Access::read_only).value();
  std::string value;
  auto got = table.get(key_of(1), value);
  ASSERT_TRUE(got) << got.error().to_string();
  EXPECT_THAT(value, HasSubstr("AFTERWARDS"));
}

// A program that does not call into Bailey can't answer, and the library starts no thread.
TEST_P(RevocationIn, IdleSessionsComeBackAsIfNothingHadBeen) {
  serve(policy_with(GetParam(), "r"));
  auto alice = session("alice").value();
  auto mallory = session("mallory").value();
  auto hers = alice.open_table("orders", Access::read_write).value();
  auto idle = mallory.open_table("orders", Access::read_only).value();
  std::string value;
  for (int i = 0; i < keys_most; ++i) ASSERT_TRUE(hers.put(key_of(i), "BEFORE"));
  ASSERT_TRUE(idle.get(key_of(0), value));
  Spy spy(socket(), key_file("bob"));
  spy.look_around();
  ASSERT_TRUE(spy.sees("BEFORE"));

  std::uint64_t start = monotonic_ns();
  ASSERT_TRUE(apply(policy_with(GetParam(), "r", false)));
  EXPECT_LT(monotonic_ns() - start, 8 * second) << "nobody holds it up";
  std::string at_return = spy.all_that_it_sees();
  for (int i = 0; i < keys_most; ++i) {
    if (i % 2 == 0) {
      auto put = hers.put(key_of(i), "AFTERWARDS");
      ASSERT_TRUE(put) << put.error().to_string();
    }
    auto got = hers.get(key_of(i), value);
    ASSERT_TRUE(got) << got.error().to_string();
    EXPECT_EQ(value, i % 2 == 0 ? "AFTERWARDS" : "BEFORE");
  }
  for (int i = 0; i < keys_most; ++i) {
    auto got = idle.get(key_of(i), value);
    ASSERT_TRUE(got) << got.error().to_string();
    EXPECT_EQ(value, i % 2 == 0 ? "AFTERWARDS" : "BEFORE");
  }
  EXPECT_TRUE(spy.all_that_it_sees() == at_return);
  auto erased = hers.erase(key_of(1));
  ASSERT_TRUE(erased) << erased.error().to_string();
  EXPECT_EQ(idle.get(key_of(1), value).error().code, Code::not_found);
}

TEST_F(Revocation, AnIdleWriterComesBackOverTheRevocationOfAnother) {
  serve(policy_with("shared", "rw"));
  auto alice = session("alice").value();
  auto mallory = session("mallory").value();
  auto hers = alice.open_table("orders", Access::read_write).value();
  auto other = mallory.open_table("orders", Access::read_write).value();
  std::string value;
  for (int i = 0; i < keys_most; ++i) ASSERT_TRUE((i % 2 == 0 ? hers : other).put(key_of(i), "BEFORE"));
  ASSERT_TRUE(apply(policy_with("shared", "")));
  EXPECT_EQ(other.get(key_of(0), value).error().code, Code::revoked);
  EXPECT_EQ(other.put(key_of(0), "x").error().code, Code::revoked);
  for (int i = 0; i < keys_most; ++i) {
    auto got = hers.get(key_of(i), value);
    ASSERT_TRUE(got) << got.error().to_string();
    EXPECT_EQ(value, "BEFORE");
    auto put = hers.put(key_of(i), "AFTERWARDS");
    ASSERT_TRUE(put) << put.error().to_string();
    ASSERT_TRUE(hers.get(key_of(i), value));
    EXPECT_EQ(value, "AFTERWARDS");
  }
}

// While it is idle the others may move out and give back what was its own, and the broker may die.
TEST_F(Revocation, AnIdleWriterComesBackAfterItsSegmentsWereEmptiedAndTheBrokerDied) {
  serve(policy_with("shared", "r"));
  auto alice = session("alice").value();
  auto hers = alice.open_table("orders", Access::read_write).value();
  for (int i = 0; i < keys_most; ++i) ASSERT_TRUE(hers.put(key_of(i), "BEFORE"));
  Spy(socket(), key_file("bob")).look_around();
  ASSERT_TRUE(apply(policy_with("shared", "r", false)));
  ASSERT_GT(region_status().at("segments_frozen"), 0);
  {
    auto also = session("alice").value();
    auto table = also.open_table("orders", Access::read_write).value();
    ASSERT_TRUE(table.put("room", "for more"));
    auto given_back = table.maintain();
    ASSERT_TRUE(given_back) << given_back.error().to_string();
    ASSERT_EQ(region_status().at("segments_frozen"), 0);
  }
  ::kill(broker_, SIGKILL);
  std::string value;
  for (int i = 0; i < keys_most; ++i) {
    auto put = i % 2 == 0 ? hers.put(key_of(i), "AFTERWARDS") : Result<std::uint64_t>(0);
    ASSERT_TRUE(put) << put.error().to_string();
    auto got = hers.get(key_of(i), value);
    ASSERT_TRUE(got) << key_of(i) << ": " << got.error().to_string();
    EXPECT_EQ(value, i % 2 == 0 ? "AFTERWARDS" : "BEFORE");
  }
  auto bob = session("mallory").value();
  auto table = bob.open_table("orders", Access::read_only).value();
  for (int i = 0; i < keys_most; ++i) ASSERT_TRUE(table.get(key_of(i), value)) << key_of(i);
}

// ---- stopped in the middle of an operation
// ---------------------------------------------------------------------------------------------------------------

struct At : pool::StepHook {
  At(pool::Step where, std::function<void()> what) : step(where), then(std::move(what)) {}
  void at(pool::Step now) override {
    if (now == step && then) std::exchange(then, nullptr)();
  }
  pool::Step step;
  std::function<void()> then;
};

using Stopped = std::tuple<const char*, pool::Step>;
class RevocationWhile : public Revocation, public ::testing::WithParamInterface<Stopped> {};
INSTANTIATE_TEST_SUITE_P(
    AWriterIsStoppedAt, RevocationWhile,
    ::testing::Combine(::testing::Values("exclusive", "shared"),
                       ::testing::Values(pool::Step::slot_loaded, pool::Step::record_written,
                                         pool::Step::before_publish, pool::Step::published)));

// It loses no value that was there, and says so where it can't know what became of its own.
TEST_P(RevocationWhile, LosesNothingThatWasAcknowledged) {
  auto [mode, step] = GetParam();
  serve(policy_with(mode, "r"));
  auto alice = session("alice").value();
  auto mallory = session("mallory").value();
  auto hers = alice.open_table("orders", Access::read_write).value();
  auto reading = mallory.open_table("orders", Access::read_only).value();
  ASSERT_TRUE(hers.put("key", "old"));
  At hook(step, [&] { ASSERT_TRUE(apply(policy_with(mode, "r", false))); });
  {
    auto bob = session("bob").value();
    auto his = bob.open_table("orders", Access::read_only).value();  // so that there is somebody to revoke
    std::string value;
    ASSERT_TRUE(his.get("key", value));
    hers.view().set_hook(&hook);
    auto put = hers.update("key", "new");
    hers.view().set_hook(nullptr);
    ASSERT_FALSE(hook.then) << "it was stopped";
    if (!put) {
      EXPECT_STREQ(mode, "shared") << put.error().to_string();
      EXPECT_EQ(put.error().code, Code::timed_out);
      EXPECT_THAT(put.error().to_string(), HasSubstr("whether the write happened is open"));
    }
    for (table::Table* table : {&hers, &reading}) {
      auto got = table->get("key", value);
      ASSERT_TRUE(got) << got.error().to_string();
      EXPECT_TRUE(value == "new" || (!put && value == "old")) << value;
    }
  }
  for (int i = 0; i < keys_most; ++i) ASSERT_TRUE(hers.put("key", std::to_string(i)));
  std::string value;
  ASSERT_TRUE(reading.get("key", value));
  EXPECT_EQ(value, std::to_string(keys_most - 1));
}

// A writer that was passed over works again once it was told so, and before it says that it heard: the others
// wait for it as for any other, or what it publishes meanwhile would be in no index that they use.
TEST_F(Revocation, WaitsForAWriterThatCameBack) {
  const std::string with = policy_with("shared", "rw"), no_bob = policy_with("shared", "rw", false),
                    mallory_reads = policy_with("shared", "r", false);
  serve(with);
  auto alice = session("alice").value();
  auto hers = alice.open_table("orders", Access::read_write).value();
  ASSERT_TRUE(hers.put("key", "old"));
  auto mallory = session("mallory").value();
  auto his = mallory.open_table("orders", Access::read_write).value();
  auto bob = session("bob").value();
  auto bobs = bob.open_table("orders", Access::read_only).value();
  ASSERT_TRUE(apply(no_bob));  // alice and mallory do not answer, and are passed over
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(hers.put("key", "back"));
  At hook(pool::Step::before_publish, [&] { ASSERT_TRUE(apply(mallory_reads)); });
  hers.view().set_hook(&hook);
  auto put = hers.update("key", "new");
  hers.view().set_hook(nullptr);
  std::string value;
  ASSERT_TRUE(hers.get("key", value));
  if (put) {
    EXPECT_EQ(value, "new") << "an acknowledged write was lost";
  } else {
    EXPECT_EQ(put.error().code, Code::timed_out) << put.error().to_string();
  }
}

// ---- what it costs
// ----------------------------------------------------------------------------------------------------------------------

TEST_P(RevocationIn, OfAPrincipalThatHasNothingOfARegionMovesNothing) {
  serve(policy_with(GetParam(), "r"));
  auto alice = session("alice").value();
  auto hers = alice.open_table("orders", Access::read_write).value();
  ASSERT_TRUE(hers.put("key", "value"));
  auto before = region_status();
  std::uint64_t start = monotonic_ns();
  ASSERT_TRUE(apply(policy_with(GetParam(), "r", false)));
  EXPECT_LT(monotonic_ns() - start, second) << "nobody is waited for";
  auto after = region_status();
  EXPECT_EQ(before.at("index_generation"), after.at("index_generation"));
  EXPECT_EQ(after.at("segments_frozen"), 0);
}

// In a region that is full to the brim a writer that had to leave its segments still updates and deletes.
TEST_P(RevocationIn, AFullRegionStaysUsable) {
  serve(policy_with(GetParam(), "r", true, "8MiB"));
  auto alice = session("alice").value();
  auto hers = alice.open_table("orders", Access::read_write).value();
  std::string large(4000, 'x');
  int count = 0;
  while (hers.put(key_of(count), large)) ++count;
  ASSERT_GT(count, 500);
  auto bob = session("bob").value();
  auto his = bob.open_table("orders", Access::read_only).value();
  ASSERT_TRUE(his.get(key_of(0), large));
  ASSERT_TRUE(apply(policy_with(GetParam(), "r", false, "8MiB")));
  for (int i = 0; i < count; ++i) {
    auto put = hers.put(key_of(i), large);
    ASSERT_TRUE(put) << i << " of " << count << ": " << put.error().to_string();
  }
  for (int i = 0; i < count; ++i) ASSERT_TRUE(hers.erase(key_of(i))) << i;
  for (int i = 0; i < count; ++i) ASSERT_TRUE(hers.put(key_of(i), large)) << i << " of " << count;
  EXPECT_LE(region_status().at("bytes").get<std::uint64_t>(), (8u << 20) + (1u << 20));
}

// ---- sessions that do not let go
// -------------------------------------------------------------------------------------------------------------

// A writer with two segments, of which it can give the second one back. Throws where it can't have them.
struct TwoSegments {
  TwoSegments(const std::string& socket, const std::string& key_file)
      : key(crypto::read_secret_key(key_file).value()),
        client(broker::Client::connect(socket, &key).value()),
        grant(client.open("orders", true).value().grant) {
    client.create(grant).value();
    second = client.create(grant).value();
  }
  Result<protocol::Done> retire_second() {
    return client.ask<protocol::Done>(protocol::RetireSegment{grant, second.segment});
  }
  crypto::SecretKey key;
  broker::Client client;
  std::uint32_t grant;
  protocol::SegmentRow second;
};

// A reader that never says Dropped: the bytes count against the region until it is not waited for any more.
TEST_F(Revocation, ARetiredSegmentIsNotHeldByOneThatNeverDropsIt) {
  serve(policy_with("shared", "r"));
  Spy spy(socket(), key_file("bob"));
  TwoSegments alice(socket(), key_file("alice"));
  spy.look_around();
  ASSERT_EQ(spy.segments(), 2u);
  auto bytes = region_status().at("bytes").get<std::uint64_t>();
  std::uint64_t start = monotonic_ns();
  ASSERT_TRUE(alice.retire_second());
  EXPECT_EQ(region_status().at("bytes"), bytes) << "somebody may have them mapped";
  std::uint64_t took = broker::wait_until([&] { return region_status().at("segments_retired") == 0; });
  took = monotonic_ns() - start;
  EXPECT_GT(took, second / 2);
  EXPECT_LT(took, 5 * second);
  EXPECT_EQ(region_status().at("bytes"), bytes - alice.second.bytes);
  // It hears so, and that nothing of what it has mapped is valid.
  auto attention = spy.client().attend(spy.grant());
  ASSERT_TRUE(attention) << attention.error().to_string();
  EXPECT_TRUE(attention->late);
  EXPECT_FALSE(attention->leave);
  auto again = spy.client().attend(spy.grant());
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->late) << "it has heard that";
}

// An answer that did not arrive is said again.
TEST_F(Revocation, WhatAReaderDidNotHearItIsToldAgain) {
  serve(policy_with("shared", "r"));
  Spy spy(socket(), key_file("bob"));
  TwoSegments alice(socket(), key_file("alice"));
  ASSERT_TRUE(alice.retire_second());
  broker::wait_until([&] { return region_status().at("segments_retired") == 0; });
  std::uint64_t heard = spy.client().heard[spy.grant()];
  ASSERT_TRUE(spy.client().attend(spy.grant())->late);
  spy.client().heard[spy.grant()] = heard;
  auto again = spy.client().attend(spy.grant());
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->late);
}

// An honest reader that is idle while segments are retired reads on, whatever became of their numbers.
TEST_F(Revocation, AnIdleReaderComesBackAfterSegmentsWereRetired) {
  serve(policy_with("shared", "r", true, "8MiB"));
  auto alice = session("alice").value();
  auto bob = session("bob").value();
  std::string large(4000, 'x'), value;
  constexpr int many = 3 * keys_most;  // so that the region is three quarters full
  {
    auto first = alice.open_table("orders", Access::read_write).value();
    for (int i = 0; i < many; ++i) ASSERT_TRUE(first.put(key_of(i), large));
  }
  auto his = bob.open_table("orders", Access::read_only).value();
  ASSERT_TRUE(his.get(key_of(0), value));
  auto hers = alice.open_table("orders", Access::read_write).value();
  // All that he has mapped is emptied and given back, and he says nothing. The room comes back all the same.
  for (int round = 0; round < 3; ++round)
    for (int i = 0; i < many; ++i) {
      auto put = hers.put(key_of(i), large + std::to_string(round));
      ASSERT_TRUE(put) << round << " " << i << ": " << put.error().to_string();
    }
  for (int i = 0; i < many; ++i) {
    auto got = his.get(key_of(i), value);
    ASSERT_TRUE(got) << got.error().to_string();
    EXPECT_EQ(value, large + "2");
  }
}

}  // namespace
}  // namespace bailey::e2e
