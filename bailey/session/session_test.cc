#include "bailey/session/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "bailey/session/fake_broker.h"

namespace bailey::session {
namespace {

using protocol::Request;
using ::testing::HasSubstr;
using World = FakeBroker::World;

Options options_for(const FakeBroker& broker, unsigned timeout_ms = 2000) {
  Options options;
  options.socket_path = broker.path();
  options.allow_dump = true;  // for the leak check of the sanitizer
  options.timeout_ms = timeout_ms;
  return options;
}

template <class Asked>
bool is(const Request& request) {
  return std::holds_alternative<Asked>(request.body);
}
void count(World& world) { __atomic_fetch_add(world.seen, 1, __ATOMIC_SEQ_CST); }

// Runs `work` in a forked child, which ends with the number of the first check that failed, or 0.
int in_child(const std::function<int()>& work) {
  pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);
    ::_exit(work());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

TEST(Session, SaysWhoItIsAndWhatItHas) {
  FakeBroker broker;
  auto session = Session::connect(options_for(broker));
  ASSERT_TRUE(session) << session.error().to_string();
  EXPECT_EQ(session->pool_name(), "fake");
  EXPECT_EQ(session->principals(), std::vector<std::string>{"user:alice"});
  EXPECT_FALSE(session->admin());
  EXPECT_EQ(session->status().value(), "{}");
  auto region = session->open_region("orders", Access::read_only);
  ASSERT_TRUE(region) << region.error().to_string();
  EXPECT_EQ(region->kind, "table");
  EXPECT_EQ(region->protect, std::vector<std::string>{"process"});
  EXPECT_FALSE(region->view->writable());
}

TEST(Session, WritesAndReads) {
  FakeBroker broker;
  auto session = Session::connect(options_for(broker)).value();
  auto table = session.open_table("orders", Access::read_write);
  ASSERT_TRUE(table) << table.error().to_string();
  ASSERT_TRUE(table->put("key", "value"));
  ASSERT_TRUE(table->put("large", std::string(1 << 20, 'l')));
  std::string value;
  ASSERT_TRUE(table->get("key", value));
  EXPECT_EQ(value, "value");
  ASSERT_TRUE(table->get("large", value));
  EXPECT_EQ(value.size(), 1u << 20);
}

TEST(Session, TableOutlivesItsSession) {
  FakeBroker broker;
  std::optional<Session> session = Session::connect(options_for(broker)).value();
  auto table = session->open_table("orders", Access::read_write).value();
  session.reset();
  ASSERT_TRUE(table.put("key", "value"));
}

TEST(Session, NobodyListens) {
  Options options;
  options.socket_path = "/tmp/bailey-nobody-is-here/broker.sock";
  options.allow_dump = true;
  std::uint64_t before = monotonic_ns();
  auto session = Session::connect(options);
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().code, Code::unavailable) << session.error().to_string();
  EXPECT_LT(monotonic_ns() - before, 1'000'000'000u) << "there is nobody to wait for";
}

TEST(Session, OptionsAreChecked) {
  Options options;
  options.allow_dump = true;
  options.timeout_ms = 0;
  EXPECT_EQ(Session::connect(options).error().code, Code::invalid_argument);
  options.timeout_ms = timeout_ms_max + 1;
  EXPECT_EQ(Session::connect(options).error().code, Code::invalid_argument);
  options.timeout_ms = 100;
  options.broker_key = "not base64";
  EXPECT_EQ(Session::connect(options).error().code, Code::invalid_argument);
  options.broker_key = "";
  options.key_file = "/nonexistent/key";
  EXPECT_EQ(Session::connect(options).error().code, Code::io);
}

TEST(Session, AnotherBrokerThanThePinnedOneIsRefused) {
  FakeBroker broker;
  Options options = options_for(broker);
  options.broker_key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
  auto session = Session::connect(options);
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().code, Code::unauthenticated) << session.error().to_string();
}

TEST(Session, ProcessIsNotDumpableUnlessAllowed) {
  FakeBroker broker;
  EXPECT_EQ(in_child([&] {
              Options options = options_for(broker);
              if (!Session::connect(options)) return 1;
              if (::prctl(PR_GET_DUMPABLE) != 1) return 2;
              options.allow_dump = false;
              if (!Session::connect(options)) return 3;
              return ::prctl(PR_GET_DUMPABLE) == 0 ? 0 : 4;
            }),
            0);
}

// ---- fork
// -----------------------------------------------------------------------------------------------------

// The child has not the parent's writable mappings: each call must fail by its code, and none by a signal.
TEST(Fork, ChildGetsAnErrorFromEveryCall) {
  FakeBroker broker;
  std::optional<Session> session = Session::connect(options_for(broker)).value();
  std::optional<table::Table> table = session->open_table("orders", Access::read_write).value();
  ASSERT_TRUE(table->put("key", "value"));
  int failed = in_child([&] {
    auto forked = [](auto result) { return !result && result.error().code == Code::forked; };
    std::string value;
    char out[16];
    if (!forked(table->get("key", value))) return 1;
    if (!forked(table->put("key", "other"))) return 2;
    if (!forked(table->insert("new", "x"))) return 3;
    if (!forked(table->update("key", "x"))) return 4;
    if (!forked(table->put_if_version("key", "x", 1))) return 5;
    if (!forked(table->erase("key"))) return 6;
    table::Get get{"key", {reinterpret_cast<std::byte*>(out), sizeof out}, {}, false, {}};
    if (!forked(table->get_many({&get, 1}))) return 7;
    table::Write write;
    write.key = "key";
    if (!forked(table->apply({&write, 1}))) return 8;
    table::Cursor cursor;
    std::vector<table::Item> items;
    if (!forked(table->scan(cursor, 10, items))) return 9;
    if (!forked(table->maintain())) return 10;
    if (!forked(session->open_table("orders", Access::read_only))) return 11;
    if (!forked(session->status())) return 12;
    // What the child maps where the parent's files are mapped is the child's own.
    void* there = table->view().index();
    void* own =
        ::mmap(there, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (own != there) return 13;
    table.reset();
    session.reset();
    *static_cast<volatile char*>(own) = 1;
    // And it can have a session of its own.
    return Session::connect(options_for(broker)) ? 20 : 21;
  });
  // The fake serves one client at a time: the child's own session waits and gives up.
  EXPECT_EQ(failed, 21);
  std::string value;
  ASSERT_TRUE(table->get("key", value)) << "the parent goes on";
  EXPECT_EQ(value, "value");
  EXPECT_TRUE(table->put("key", "again"));
}

TEST(Fork, AReadersChildTooGetsAnError) {
  FakeBroker broker;
  auto session = Session::connect(options_for(broker)).value();
  auto table = session.open_table("orders", Access::read_only).value();
  EXPECT_EQ(in_child([&] {
              std::string value;
              auto got = table.get("key", value);
              return !got && got.error().code == Code::forked ? 0 : 1;
            }),
            0);
}

// ---- the broker goes and comes
// --------------------------------------------------------------------------------

TEST(Resume, ARequestThatWasUnderWayIsSentAgain) {
  FakeBroker broker([](World& world, const Request& request) {
    if (!is<protocol::GetStatus>(request)) return false;
    count(world);
    if (*world.seen < 3) {
      world.connection.close();
      return true;
    }
    return false;
  });
  auto session = Session::connect(options_for(broker)).value();
  auto status = session.status();
  ASSERT_TRUE(status) << status.error().to_string();
  EXPECT_EQ(broker.seen(), 3u);
}

TEST(Resume, ASessionThatTheBrokerForgotHasEnded) {
  FakeBroker broker([](World& world, const Request& request) {
    if (!is<protocol::GetStatus>(request)) return false;
    world.secret[0] ^= 1;  // another broker than before
    world.connection.close();
    return true;
  });
  auto session = Session::connect(options_for(broker)).value();
  auto table = session.open_table("orders", Access::read_write).value();
  ASSERT_TRUE(table.put("key", "value"));
  auto status = session.status();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::not_found);
  EXPECT_THAT(status.error().message, HasSubstr("the session has ended"));
  // Nobody could revoke the table any more, so it is over as well.
  std::string value;
  EXPECT_FALSE(table.get("key", value));
  EXPECT_FALSE(table.put("key", "value"));
}

TEST(Resume, AnotherPoolIsNotTakenForTheOldOne) {
  FakeBroker broker(
      [](World& world, const Request& request) {
        if (is<protocol::GetStatus>(request)) world.connection.close();
        return is<protocol::GetStatus>(request);
      },
      [](World& world, std::uint64_t number, protocol::Welcome welcome) {
        if (world.connections > 1)
          world.control = World::file(sizeof(bailey_control), medium::Purpose::control);
        world.reply(number, welcome, {world.control.fd.get()});
      });
  auto session = Session::connect(options_for(broker)).value();
  auto status = session.status();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::closed) << status.error().to_string();
  EXPECT_THAT(status.error().message, HasSubstr("another pool"));
}

TEST(Away, WhatIsMappedStaysUsable) {
  FakeBroker broker;
  auto session = Session::connect(options_for(broker, 200)).value();
  auto table = session.open_table("orders", Access::read_write).value();
  ASSERT_TRUE(table.put("key", "value"));
  broker.kill();
  std::string value;
  EXPECT_TRUE(table.get("key", value));
  EXPECT_TRUE(table.put("key", "other")) << "there is room in the segment";
  std::uint64_t before = monotonic_ns();
  auto large = table.put("large", std::string(1 << 20, 'l'));
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code, Code::unavailable);
  EXPECT_THAT(large.error().message, HasSubstr("broker away"));
  EXPECT_GE(monotonic_ns() - before, 150'000'000u) << "it waits for the broker to come back";
  EXPECT_LT(monotonic_ns() - before, 2'000'000'000u) << "but not for ever";
}

// ---- answers that come too late
// -------------------------------------------------------------------------------

TEST(Late, ASegmentGoesBack) {
  FakeBroker broker([held = std::uint64_t{0}](World& world, const Request& request) mutable {
    if (auto* retire = std::get_if<protocol::RetireSegment>(&request.body);
        retire != nullptr && retire->segment == 50)
      count(world);
    if (!is<protocol::CreateSegment>(request)) return false;
    if (held == 0) {
      held = request.number;
      return true;
    }
    auto file = World::file(FakeBroker::segment_bytes, {});
    world.reply(held, protocol::SegmentCreated{{50, FakeBroker::segment_bytes}}, {file.fd.get()});
    return false;
  });
  auto session = Session::connect(options_for(broker, 100)).value();
  auto table = session.open_table("orders", Access::read_write).value();
  EXPECT_EQ(table.put("key", "value").error().code, Code::unavailable);
  auto put = table.put("key", "value");
  ASSERT_TRUE(put) << put.error().to_string();
  ASSERT_TRUE(session.status());  // after which all that was sent before has been heard
  EXPECT_EQ(broker.seen(), 1u);
}

TEST(Late, AnOpenRegionIsClosed) {
  FakeBroker broker([held = std::uint64_t{0}](World& world, const Request& request) mutable {
    if (is<protocol::CloseRegion>(request)) count(world);
    if (is<protocol::OpenRegion>(request)) {
      held = request.number;
      return true;
    }
    if (held != 0) world.reply(std::exchange(held, 0), world.opened(false), {world.index.fd.get()});
    return false;
  });
  auto session = Session::connect(options_for(broker, 100)).value();
  EXPECT_EQ(session.open_region("orders", Access::read_only).error().code, Code::unavailable);
  ASSERT_TRUE(session.status());
  ASSERT_TRUE(session.status());
  EXPECT_EQ(broker.seen(), 1u);
}

TEST(Late, ASegmentThatWasNotConfirmedIsConfirmedLater) {
  FakeBroker broker([silent = true](World& world, const Request& request) mutable {
    if (is<protocol::CreateSegment>(request)) count(world);
    return is<protocol::SegmentMapped>(request) && std::exchange(silent, false);
  });
  auto session = Session::connect(options_for(broker, 100)).value();
  auto table = session.open_table("orders", Access::read_write).value();
  EXPECT_EQ(table.put("key", "value").error().code, Code::unavailable);
  auto put = table.put("key", "value");
  ASSERT_TRUE(put) << put.error().to_string();
  EXPECT_EQ(broker.seen(), 1u) << "no second segment was asked for";
}

// ---- what changes
// ---------------------------------------------------------------------------------------------

TEST(Attend, RetiredSegmentsAreUnmappedAndSaidToBe) {
  FakeBroker broker([](World& world, const Request& request) {
    if (is<protocol::Dropped>(request)) count(world);
    if (!is<protocol::Attend>(request)) return false;
    world.reply(request.number,
                protocol::Attention{FakeBroker::grant_value + 1, false, 0, {7}, false, false});
    return true;
  });
  auto session = Session::connect(options_for(broker)).value();
  auto region = session.open_region("orders", Access::read_only).value();
  ASSERT_TRUE(region.view->find(7));
  ASSERT_TRUE(region.view->attend());
  EXPECT_EQ(region.view->extent(7).base, nullptr);
  EXPECT_EQ(broker.seen(), 1u);
}

TEST(Attend, OnesOwnSegmentIsNotGivenUpForTheBrokersWord) {
  FakeBroker broker([](World& world, const Request& request) {
    if (!is<protocol::Attend>(request)) return false;
    world.reply(request.number,
                protocol::Attention{FakeBroker::grant_value + 1, false, 0, {11}, false, false});
    return true;
  });
  auto session = Session::connect(options_for(broker)).value();
  auto table = session.open_table("orders", Access::read_write).value();
  ASSERT_TRUE(table.put("key", "value"));  // in segment 11
  auto attended = table.view().attend();
  ASSERT_FALSE(attended);
  EXPECT_EQ(attended.error().code, Code::corrupt);
  ASSERT_TRUE(table.put("key", "value"));
}

TEST(Attend, SegmentsThatWereLeftAreReadLikeAnothers) {
  FakeBroker broker([left = false](World& world, const Request& request) mutable {
    if (is<protocol::MapSegments>(request)) count(world);
    if (!is<protocol::Attend>(request) || std::exchange(left, true)) return false;
    world.reply(request.number,
                protocol::Attention{FakeBroker::grant_value, false, 0, {}, /*leave=*/true, /*late=*/false});
    return true;
  });
  auto session = Session::connect(options_for(broker)).value();
  auto table = session.open_table("orders", Access::read_write).value();
  ASSERT_TRUE(table.put("key", "value"));  // in segment 11
  ASSERT_TRUE(table.view().attend());
  EXPECT_EQ(table.view().extent(11).base, nullptr) << "it has no writable mapping of it any more";
  std::uint64_t asked = broker.seen();
  EXPECT_FALSE(table.view().find(11)) << "this broker has none for others";
  EXPECT_GT(broker.seen(), asked) << "it asks for it like for anybody's";
  ASSERT_TRUE(table.put("other", "value"));
  EXPECT_NE(table.view().extent(12).base, nullptr) << "a new one is taken";
}

TEST(Attend, WhoWasLateTrustsNoMapping) {
  FakeBroker broker([](World& world, const Request& request) {
    if (!is<protocol::Attend>(request)) return false;
    world.reply(request.number,
                protocol::Attention{FakeBroker::grant_value, false, 0, {}, /*leave=*/false, /*late=*/true});
    return true;
  });
  auto session = Session::connect(options_for(broker)).value();
  auto region = session.open_region("orders", Access::read_only).value();
  ASSERT_TRUE(region.view->find(7));
  ASSERT_TRUE(region.view->attend());
  EXPECT_EQ(region.view->extent(7).base, nullptr);
  ASSERT_TRUE(region.view->find(7)) << "it maps anew";
}

// The broker forgets a grant once its holder has heard that it is revoked, and gives the number to the next.
TEST(Attend, ARevokedTableIsNotMistakenForTheNextOneOfItsNumber) {
  FakeBroker broker([revoked = true](World& world, const Request& request) mutable {
    if (is<protocol::CloseRegion>(request)) count(world);
    if (is<protocol::GetStatus>(request)) ++world.page()->grants[FakeBroker::grant].value;
    if (!is<protocol::Attend>(request) || !revoked) return false;
    revoked = false;
    world.reply(request.number, Error{Code::revoked, By::broker, 0, "the grant was revoked", ""});
    return true;
  });
  auto session = Session::connect(options_for(broker)).value();
  std::optional<table::Table> old = session.open_table("orders", Access::read_only).value();
  std::string value;
  EXPECT_EQ(old->get("key", value).error().code, Code::not_found);
  ASSERT_TRUE(session.status());  // the word moves
  EXPECT_EQ(old->get("key", value).error().code, Code::revoked);
  EXPECT_EQ(old->get("key", value).error().code, Code::revoked) << "and stays so";
  auto next = session.open_table("orders", Access::read_only).value();
  EXPECT_EQ(old->get("key", value).error().code, Code::revoked);
  old.reset();
  EXPECT_EQ(broker.seen(), 0u) << "closing the old one must not close the new one";
  EXPECT_EQ(next.get("key", value).error().code, Code::not_found);
}

TEST(Members, AreAskedForOnceAChange) {
  FakeBroker broker([](World& world, const Request& request) {
    if (is<protocol::GetMembers>(request)) count(world);
    if (is<protocol::GetStatus>(request)) ++world.page()->regions[1].membership;
    return false;
  });
  auto session = Session::connect(options_for(broker)).value();
  auto region = session.open_region("orders", Access::read_only).value();
  pool::Backing& backing = region.view->backing();
  EXPECT_EQ(backing.frozen().value(), std::vector<pool::SegmentId>{7});
  EXPECT_TRUE(backing.desks().value().empty());
  EXPECT_EQ(broker.seen(), 1u);
  ASSERT_TRUE(session.status());
  EXPECT_TRUE(backing.desks());
  EXPECT_EQ(broker.seen(), 2u);
}

}  // namespace
}  // namespace bailey::session
