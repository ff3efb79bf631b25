// The broker is checked too: each promise that it can break is broken once, and nothing of what it sent is
// used.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bailey/session/fake_broker.h"
#include "bailey/session/session.h"

namespace bailey::session {
namespace {

using protocol::Request;
using ::testing::HasSubstr;
using World = FakeBroker::World;

Options options_for(const FakeBroker& broker) {
  Options options;
  options.socket_path = broker.path();
  options.allow_dump = true;  // for the leak check of the sanitizer
  options.timeout_ms = 1000;
  return options;
}

// What the client does; the error of the first step that failed.
using Step = Error (*)(Session&);

Error none() { return Error{Code{}, By::library, 0, "nothing failed", ""}; }
Error open_to_read(Session& session) {
  auto region = session.open_region("orders", Access::read_only);
  return region ? none() : region.error();
}
Error open_to_write(Session& session) {
  auto region = session.open_region("orders", Access::read_write);
  return region ? none() : region.error();
}
Error map_a_segment(Session& session) {
  auto region = session.open_region("orders", Access::read_only);
  if (!region) return region.error();
  auto extent = region->view->find(7);
  return extent ? none() : extent.error();
}
Error get_nothing(Session& session) {
  auto table = session.open_table("orders", Access::read_only);
  return table ? none() : table.error();
}
Error put(Session& session) {
  auto table = session.open_table("orders", Access::read_write);
  if (!table) return table.error();
  auto done = table->put("key", "value");
  return done ? none() : done.error();
}
Error attend(Session& session) {
  auto region = session.open_region("orders", Access::read_only);
  if (!region) return region.error();
  if (auto extent = region->view->find(7); !extent) return extent.error();
  auto done = region->view->attend();
  return done ? none() : done.error();
}

struct Broken {
  const char* name;
  Step step;
  const char* told;  // in the message
  std::function<bool(World&, const Request&)> script;
  Code code = Code::corrupt;
};

template <class Asked>
std::function<bool(World&, const Request&)> on(std::function<void(World&, const Request&)> act) {
  return [act = std::move(act)](World& world, const Request& request) {
    if (!std::holds_alternative<Asked>(request.body)) return false;
    act(world, request);
    return true;
  };
}
// An OpenRegion answered with something changed.
std::function<bool(World&, const Request&)> opened(std::function<void(protocol::Opened&)> change) {
  return on<protocol::OpenRegion>([change = std::move(change)](World& world, const Request& request) {
    bool writable = std::get<protocol::OpenRegion>(request.body).writable;
    auto answer = world.opened(writable);
    change(answer);
    std::vector<int> fds{world.index.fd.get()};
    if (answer.copy_index_from) fds.push_back(world.index.fd.get());
    world.reply(request.number, answer, fds);
  });
}

// Likewise, with a token for something else than it should be for, and well signed.
std::function<bool(World&, const Request&)> token_head(std::function<void(capability::Head&)> change) {
  return opened([change = std::move(change)](protocol::Opened& answer) {
    capability::Head head = capability::Token::decode(as_bytes(answer.token))->head();
    change(head);
    World::sign(answer, head);
  });
}

class BrokerBreaks : public ::testing::TestWithParam<Broken> {};

TEST_P(BrokerBreaks, AndIsNotBelieved) {
  FakeBroker broker(GetParam().script);
  auto session = Session::connect(options_for(broker));
  ASSERT_TRUE(session) << session.error().to_string();
  Error error = GetParam().step(*session);
  EXPECT_EQ(error.code, GetParam().code) << error.to_string();
  EXPECT_THAT(error.to_string(), HasSubstr(GetParam().told));
}

using medium::Purpose;
using protocol::Attend;
using protocol::CreateSegment;
using protocol::IndexMapped;
using protocol::MapSegments;
using protocol::OpenRegion;
using protocol::SegmentMapped;

// A new file in place of the one that should be there.
std::function<void(World&, const Request&)> index_file(std::uint64_t less, std::optional<Purpose> sealed) {
  return [less, sealed](World& world, const Request& request) {
    auto file = World::file(world.geometry.index_bytes() - less, sealed);
    world.reply(request.number, world.opened(false), {file.fd.get()});
  };
}
std::function<void(World&, const Request&)> segment_file(std::uint64_t bytes, std::optional<Purpose> sealed,
                                                         std::uint64_t said = FakeBroker::segment_bytes) {
  return [bytes, sealed, said](World& world, const Request& request) {
    auto file = World::file(bytes, sealed);
    world.reply(request.number, protocol::Segments{{{7, said}}}, {file.fd.get()});
  };
}
std::function<void(World&, const Request&)> own_segment(std::uint64_t bytes, std::uint64_t said,
                                                        bool allocated = true) {
  return [bytes, said, allocated](World& world, const Request& request) {
    world.segment = World::file(bytes, {});
    if (!allocated && ::fallocate(world.segment.fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096,
                                  static_cast<off_t>(bytes - 4096)) != 0)
      ::_exit(94);
    world.reply(request.number, protocol::SegmentCreated{{11, said}}, {world.segment.fd.get()});
  };
}

constexpr std::uint64_t segment_bytes = FakeBroker::segment_bytes;

INSTANTIATE_TEST_SUITE_P(
    All, BrokerBreaks,
    ::testing::Values(
        // Shapes and numbers (those that no message can hold are the codec's to refuse: codec_test.cc).
        Broken{"IndexTooSmallForItsBuckets", open_to_read, "buckets",
               opened([](auto& o) { o.buckets = 100'000; })},
        Broken{"NoBuckets", open_to_read, "buckets", opened([](auto& o) { o.buckets = 0; })},
        Broken{"BucketsInPlainBytes", open_to_read, "buckets", opened([](auto& o) { o.kind = "raw"; })},
        Broken{"MoreRightsThanAsked", open_to_read, "other rights", opened([](auto& o) {
                 o.index_writable = true;
                 o.writer = 9;
               })},
        Broken{"FewerRightsThanAsked", open_to_write, "other rights", opened([](auto& o) {
                 o.index_writable = o.copy_index_from = false;
                 o.writer = 0;
               })},
        Broken{"OtherKind", get_nothing, "not a table", opened([](auto& o) { o.kind = "channel"; }),
               Code::unsupported},
        // Keys.
        Broken{"EncryptedWithoutAKey", open_to_read, "gave no key",
               opened([](auto& o) { o.protect.push_back("encrypted"); })},
        Broken{"AKeyOfARegionInTheClear", open_to_read, "does not say that it is encrypted",
               opened([](auto& o) { o.key.emplace(); })},
        Broken{"NoKeyAfterAChange", attend, "gave no key of an encrypted region", opened([](auto& o) {
                 o.protect.push_back("encrypted");
                 o.key.emplace();
               })},
        Broken{"SignedInTheClear", open_to_read, "not that it is encrypted",
               opened([](auto& o) { o.protect.push_back("signed"); })},
        // The index.
        Broken{"IndexNotSealed", open_to_read, "lacks seals", on<OpenRegion>(index_file(0, {}))},
        Broken{"IndexThatOthersMayComeToWrite", open_to_read, "lacks seals",
               on<OpenRegion>(index_file(0, Purpose::shared_index))},
        Broken{"IndexTooSmall", open_to_read, "were announced",
               on<OpenRegion>(index_file(4096, Purpose::exclusive_index))},
        Broken{"IndexIsAPipe", open_to_read, "not a regular file",
               on<OpenRegion>([](World& world, const Request& r) {
                 int ends[2];
                 if (::pipe(ends) != 0) ::_exit(95);
                 world.reply(r.number, world.opened(false), {ends[0]});
               })},
        Broken{"IndexForWritingCantBeWritten", open_to_write, "could not map", opened([](auto&) {}),
               Code::io},
        Broken{"IndexNeverSealed", open_to_write, "lacks seals",
               on<IndexMapped>([](World& world, const Request& r) {
                 world.reply(r.number, protocol::IndexReady{1});
               })},
        // Segments of others.
        Broken{"SegmentNotSealed", map_a_segment, "lacks seals",
               on<MapSegments>(segment_file(segment_bytes, {}))},
        Broken{"SegmentOfAnotherSize", map_a_segment, "were announced",
               on<MapSegments>(segment_file(segment_bytes / 2, Purpose::segment))},
        Broken{"SegmentWithoutAPage", map_a_segment, "of 4096 bytes",
               on<MapSegments>(segment_file(4096, Purpose::segment, 4096))},
        Broken{"SegmentLargerThanSlotsReach", map_a_segment, "gave a segment",
               on<MapSegments>(segment_file(segment_bytes, Purpose::segment, std::uint64_t{1} << 50))},
        // Own ones.
        Broken{"OwnSegmentOfAnotherSize", put, "were announced",
               on<CreateSegment>(own_segment(segment_bytes, segment_bytes * 2))},
        Broken{"OwnSegmentTooSmallForTheRecord", put, "for a record of",
               on<CreateSegment>(own_segment(65536, 65536))},
        Broken{"OwnSegmentWithoutMemory", put, "has memory for",
               on<CreateSegment>(own_segment(segment_bytes, segment_bytes, false))},
        Broken{"OwnSegmentNeverSealed", put, "lacks seals",
               on<SegmentMapped>([](World& world, const Request& r) {
                 world.reply(r.number, protocol::Done{});
               })},
        // What changes.
        Broken{"NewIndexOfAnotherSize", attend, "new index", on<Attend>([](World& world, const Request& r) {
                 world.reply(r.number, protocol::Attention{1, true, 4096, {}, false, false},
                             {world.index.fd.get()});
               })},
        Broken{"NewIndexNotSealed", attend, "lacks seals", on<Attend>([](World& world, const Request& r) {
                 auto file = World::file(world.geometry.index_bytes(), {});
                 world.reply(r.number,
                             protocol::Attention{1, true, world.geometry.index_bytes(), {}, false, false},
                             {file.fd.get()});
               })},
        // Messages.
        Broken{"Garbage", open_to_read, "",
               on<OpenRegion>([](World& world, const Request&) { world.send("this is no message at all"); })},
        Broken{
            "OtherAnswer", open_to_read, "does not belong",
            on<OpenRegion>([](World& world, const Request& r) { world.reply(r.number, protocol::Done{}); })},
        Broken{"AnswerToNothing", open_to_read, "was not made",
               on<OpenRegion>([](World& world, const Request& r) {
                 world.reply(r.number + 7, protocol::Done{});
               })},
        Broken{"FewerDescriptors", open_to_read, "0 descriptors",
               on<OpenRegion>([](World& world, const Request& r) {
                 world.reply(r.number, world.opened(false), {});
               })},
        Broken{"MoreDescriptors", open_to_read, "3 descriptors",
               on<OpenRegion>([](World& world, const Request& r) {
                 int fd = world.index.fd.get();
                 world.reply(r.number, world.opened(false), {fd, fd, fd});
               })},
        Broken{"NoToken", open_to_read, "a token that is none",
               opened([](protocol::Opened& answer) { answer.token = "not a token"; })},
        Broken{"TokenOfAnotherKey", open_to_read, "a token that its key does not verify",
               opened([](protocol::Opened& answer) { answer.token_key[31] ^= 1; })},
        Broken{"TokenOfAnotherSession", open_to_read, "a token for something else",
               token_head([](capability::Head& head) { head.number ^= 1; })},
        Broken{"TokenOfAnotherGeneration", open_to_read, "a token for something else",
               token_head([](capability::Head& head) { head.generation ^= 1; })},
        Broken{"TokenOfAnotherRegion", open_to_read, "a token for something else",
               token_head([](capability::Head& head) { head.region[0] ^= 1; })},
        Broken{"TokenWithMoreRights", open_to_read, "a token for something else",
               token_head([](capability::Head& head) { head.access = Access::read_write; })},
        Broken{"TokenOfTheBrokersOwn", open_to_read, "a token for something else",
               token_head([](capability::Head& head) {
                 head.audience = capability::Audience::broker;
                 head.grant = 0;
                 head.number = head.generation = 0;
               })},
        Broken{"Silence", open_to_read, "broker away", on<OpenRegion>([](World&, const Request&) {}),
               Code::unavailable},
        Broken{"HangsUpAlways", open_to_read, "broker away",
               on<OpenRegion>([](World& world, const Request&) { world.connection.close(); }),
               Code::unavailable},
        Broken{"RepliesWithoutEnd", open_to_read, "broker away",
               on<OpenRegion>([](World& world, const Request&) {
                 std::string late = protocol::encode(protocol::Reply{1, protocol::Done{}}).value();
                 while (world.connection.send(as_bytes(late), monotonic_ns() + 5'000'000'000)) {}
               }),
               Code::unavailable}),
    [](const auto& at) { return at.param.name; });

// ---- the control page
// -----------------------------------------------------------------------------------------

struct BadControl {
  const char* name;
  const char* told;
  FakeBroker::Greeting greeting;
  Code code = Code::corrupt;
};
class ControlPageBreaks : public ::testing::TestWithParam<BadControl> {};

TEST_P(ControlPageBreaks, AndIsNotUsed) {
  FakeBroker broker({}, GetParam().greeting);
  auto session = Session::connect(options_for(broker));
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().code, GetParam().code) << session.error().to_string();
  EXPECT_THAT(session.error().to_string(), HasSubstr(GetParam().told));
}

FakeBroker::Greeting page(std::uint64_t bytes, std::optional<Purpose> sealed) {
  return [bytes, sealed](World& world, std::uint64_t number, protocol::Welcome welcome) {
    auto file = World::file(bytes, sealed);
    std::memcpy(file.mapping.data(), world.page(), std::min<std::uint64_t>(bytes, sizeof(bailey_control)));
    world.reply(number, welcome, {file.fd.get()});
  };
}
FakeBroker::Greeting header(std::function<void(bailey_control_header&)> change) {
  return [change = std::move(change)](World& world, std::uint64_t number, protocol::Welcome welcome) {
    change(world.page()->header);
    world.reply(number, welcome, {world.control.fd.get()});
  };
}

INSTANTIATE_TEST_SUITE_P(
    All, ControlPageBreaks,
    ::testing::Values(
        BadControl{"NotSealed", "lacks seals", page(sizeof(bailey_control), {})},
        BadControl{"OthersMayComeToWrite", "lacks seals",
                   page(sizeof(bailey_control), Purpose::shared_index)},
        BadControl{"TooSmall", "were announced", page(4096, Purpose::control)},
        BadControl{"AnotherSizeSaid", "this build's",
                   [](World& world, std::uint64_t number, protocol::Welcome welcome) {
                     welcome.control_bytes = 4096;
                     world.reply(number, welcome, {world.control.fd.get()});
                   },
                   Code::incompatible},
        BadControl{"NoMagic", "magic", header([](auto& h) { h.magic = 1; })},
        BadControl{"OtherVersion", "version 9", header([](auto& h) { h.version = 9; }), Code::incompatible},
        BadControl{"OtherLayout", "layout 9", header([](auto& h) { h.layout = 9; }), Code::incompatible},
        BadControl{"OtherPool", "another pool", header([](auto& h) { h.pool[0] = 99; })},
        BadControl{"Silence", "broker away", [](World&, std::uint64_t, protocol::Welcome) {},
                   Code::unavailable},
        BadControl{"Refusal", "no such key",
                   [](World& world, std::uint64_t number, protocol::Welcome) {
                     world.reply(number, Error{Code::unauthenticated, By::broker, 0, "no such key", ""});
                   },
                   Code::unauthenticated}),
    [](const auto& at) { return at.param.name; });

}  // namespace
}  // namespace bailey::session
