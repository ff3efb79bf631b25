// A living broker and raw clients: what is given, to whom, and how it is sealed.
#include "bailey/broker/test_support.h"
#include "bailey/crypto/key_file.h"

namespace bailey::broker {
namespace {

using ::testing::HasSubstr;

std::string own_user() { return fmt::format("user:{}", ::geteuid()); }

// alice is the uid of the test, the others show keys.
std::string policy_of(const std::string& regions, const std::string& grants,
                      const std::string& principals = "") {
  return fmt::format(
      "[pool]\nname = \"courtyard\"\nmedium = \"memory:256MiB\"\n[principal.alice]\nidentity = "
      "\"{}\"\n{}\n{}\n{}\n",
      own_user(), principals, regions, grants);
}
std::string usual_policy() {
  return policy_of(region_toml("orders", "exclusive") + region_toml("carts", "shared"),
                   grant_toml("alice", "*", "rw"));
}

TEST_F(BrokerTest, IsReadyWithinItsBound) {
  serve(usual_policy());
  std::uint64_t start = monotonic_ns();
  Client alice = client();
  std::uint64_t connected = monotonic_ns() - start;
  start = monotonic_ns();
  ASSERT_TRUE(alice.open("orders", true));
  fmt::print("ready {:.1f} ms, connect {:.2f} ms, open {:.2f} ms\n", static_cast<double>(ready_ns_) * 1e-6,
             static_cast<double>(connected) * 1e-6, static_cast<double>(monotonic_ns() - start) * 1e-6);
  EXPECT_EQ(alice.welcome.pool_name, "courtyard");
  EXPECT_THAT(alice.welcome.principals, ::testing::ElementsAre("alice"));
  EXPECT_LT(ready_ns_, 100'000'000u);
}

TEST_F(BrokerTest, TheControlPageIsForReadingOnly) {
  serve(usual_policy());
  Client alice = client();
  EXPECT_EQ(alice.control()->header.magic, BAILEY_CONTROL_MAGIC);
  EXPECT_TRUE(medium::verify_seals(alice.page_file.get(), medium::Purpose::control));
  EXPECT_NE(map_writable(alice.page_file.get(), alice.page.size()), 0);
}

// The whole way of a segment: nobody but its writer has it before it is sealed, nobody can write it after.
TEST_F(BrokerTest, ASegmentIsSealedBeforeOthersAreGivenIt) {
  serve(usual_policy());
  Client writer = client(), reader = client();
  auto w = writer.open("orders", true);
  ASSERT_TRUE(w) << w.error().to_string();
  EXPECT_NE(w->writer, 0u);
  auto r = reader.open("orders", false);
  ASSERT_TRUE(r);
  EXPECT_EQ(r->writer, 0u);
  EXPECT_TRUE(medium::verify_seals(reader.index_file.get(), medium::Purpose::exclusive_index));
  EXPECT_NE(map_writable(reader.index_file.get(), r->index_bytes), 0);
  EXPECT_NE(map_writable(writer.index_file.get(), w->index_bytes), 0) << "not even its writer, once more";

  auto created = writer.ask<protocol::SegmentCreated>(protocol::CreateSegment{w->grant, 100});
  ASSERT_TRUE(created);
  Fd file = std::move(writer.fds.at(0));
  Mapping own = std::move(*Mapping::of_file(file.get(), created->row.bytes, Access::read_write));
  const auto* header = reinterpret_cast<const bailey_segment_header*>(own.data());
  EXPECT_EQ(header->magic, BAILEY_SEGMENT_MAGIC);
  EXPECT_EQ(header->writer, w->writer);
  EXPECT_EQ(header->segment, created->row.segment);
  EXPECT_TRUE(std::equal(w->region.begin(), w->region.end(), header->region));
  struct stat about;
  ASSERT_EQ(::fstat(file.get(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0600u);
  EXPECT_GE(static_cast<std::uint64_t>(about.st_blocks) * 512, created->row.bytes) << "reserved";

  auto early = reader.ask<protocol::Segments>(protocol::MapSegments{r->grant, {created->row.segment}});
  ASSERT_TRUE(early);
  EXPECT_TRUE(early->rows.empty()) << "not before it is sealed";
  std::uint64_t membership = reader.membership(r->number);
  ASSERT_TRUE(writer.ask<protocol::Done>(protocol::SegmentMapped{w->grant, created->row.segment}));
  EXPECT_GT(reader.membership(r->number), membership);
  EXPECT_TRUE(writer.ask<protocol::Done>(protocol::SegmentMapped{w->grant, created->row.segment}))
      << "said twice";
  EXPECT_TRUE(medium::verify_seals(file.get(), medium::Purpose::segment));
  EXPECT_EQ(map_writable(file.get(), created->row.bytes), EPERM);
  EXPECT_EQ(::pwrite(file.get(), "x", 1, 0), -1);
  EXPECT_EQ(errno, EPERM);

  auto given = reader.ask<protocol::Segments>(protocol::MapSegments{r->grant, {}});
  ASSERT_TRUE(given);
  ASSERT_EQ(given->rows.size(), 1u);
  int handed = reader.fds.at(0).get();
  EXPECT_TRUE(medium::verify_seals(handed, medium::Purpose::segment));
  EXPECT_EQ(map_writable(handed, given->rows[0].bytes), EACCES);
  Mapping seen = std::move(*Mapping::of_file(handed, given->rows[0].bytes, Access::read_only));
  own.data()[8192] = std::byte{7};
  EXPECT_EQ(seen.data()[8192], std::byte{7});

  auto members = reader.ask<protocol::Members>(protocol::GetMembers{r->grant});
  ASSERT_TRUE(members);
  ASSERT_EQ(members->desks.size(), 1u);
  EXPECT_EQ(members->desks[0].writer, w->writer);
  EXPECT_EQ(members->desks[0].segment, created->row.segment);
  EXPECT_TRUE(writer.ask<protocol::Members>(protocol::GetMembers{w->grant})->desks.empty())
      << "its own is not told";
}

TEST_F(BrokerTest, AnExclusiveRegionHasOneWriterAndTheNextOneTakesOver) {
  serve(usual_policy());
  Client first = client(), second = client(), reader = client();
  auto a = first.open("orders", true);
  auto r = reader.open("orders", false);
  ASSERT_TRUE(a && r);
  auto refused = second.open("orders", true);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::busy);
  EXPECT_THAT(refused.error().message, HasSubstr(fmt::format("open for writing by session {} (alice, pid {}",
                                                             first.welcome.session, ::getpid())));
  first.index.data()[5000] = std::byte{42};
  EXPECT_EQ(reader.index.data()[5000], std::byte{42}) << "the reader has the writer's index";
  ASSERT_TRUE(first.create(a->grant));
  ASSERT_TRUE(first.ask<protocol::Done>(protocol::CloseRegion{a->grant}));
  EXPECT_EQ(second.ask<protocol::Members>(protocol::GetMembers{0}).error().code, Code::revoked)
      << "not its own";

  std::uint64_t before = reader.word(r->grant);
  auto b = second.open("orders", true);
  ASSERT_TRUE(b) << b.error().to_string();
  EXPECT_GT(b->writer, a->writer);
  EXPECT_EQ(second.index.data()[5000], std::byte{42}) << "copied";
  EXPECT_NE(reader.word(r->grant), before);
  auto attention = reader.attend(r->grant);
  ASSERT_TRUE(attention);
  EXPECT_TRUE(attention->new_index);
  EXPECT_EQ(attention->grant_value, reader.word(r->grant));
  Mapping fresh =
      std::move(*Mapping::of_file(reader.fds.at(0).get(), attention->index_bytes, Access::read_only));
  second.index.data()[5001] = std::byte{43};
  EXPECT_EQ(fresh.data()[5001], std::byte{43});
  EXPECT_EQ(reader.index.data()[5001], std::byte{0}) << "nobody writes the old one";
  auto members = second.ask<protocol::Members>(protocol::GetMembers{b->grant});
  EXPECT_EQ(members->frozen.size(), 1u) << "what the first one wrote stays";
}

TEST_F(BrokerTest, ASharedIndexIsWritableForWritersAlone) {
  serve(usual_policy());
  Client one = client(), two = client(), reader = client();
  ASSERT_TRUE(one.open("carts", true));
  ASSERT_TRUE(two.open("carts", true));
  auto r = reader.open("carts", false);
  ASSERT_TRUE(r);
  EXPECT_TRUE(medium::verify_seals(one.index_file.get(), medium::Purpose::shared_index));
  EXPECT_EQ(map_writable(reader.index_file.get(), r->index_bytes), EACCES);
  one.index.data()[6000] = std::byte{9};
  EXPECT_EQ(two.index.data()[6000], std::byte{9});
  EXPECT_EQ(reader.index.data()[6000], std::byte{9});
}

TEST_F(BrokerTest, ARetiredSegmentsNumberWaitsForThoseThatMayHaveItMapped) {
  serve(usual_policy());
  Client writer = client(), reader = client();
  auto w = writer.open("carts", true);
  auto r = reader.open("carts", false);
  ASSERT_TRUE(w && r);
  auto desk = writer.create(w->grant);
  auto second = writer.create(w->grant);
  ASSERT_TRUE(desk && second);
  auto kept = writer.ask<protocol::Done>(protocol::RetireSegment{w->grant, desk->segment});
  EXPECT_EQ(kept.error().code, Code::busy) << "others read the desk";
  std::uint64_t word = reader.word(r->grant), own_word = writer.word(w->grant);
  ASSERT_TRUE(writer.ask<protocol::Done>(protocol::RetireSegment{w->grant, second->segment}));
  EXPECT_EQ(writer.word(w->grant), own_word) << "who gives back knows";
  EXPECT_NE(reader.word(r->grant), word);
  EXPECT_TRUE(
      reader.ask<protocol::Segments>(protocol::MapSegments{r->grant, {second->segment}})->rows.empty());
  auto attention = reader.attend(r->grant);
  ASSERT_TRUE(attention);
  EXPECT_THAT(attention->gone, ::testing::ElementsAre(second->segment));
  EXPECT_FALSE(attention->new_index);
  EXPECT_EQ(writer.status()->at("regions")[1]["segments_retired"], 1);
  ASSERT_TRUE(reader.ask<protocol::Done>(protocol::Dropped{r->grant, {second->segment}}));
  EXPECT_EQ(writer.status()->at("regions")[1]["segments_retired"], 0);
  EXPECT_EQ(writer.ask<protocol::Done>(protocol::RetireSegment{w->grant, second->segment}).error().code,
            Code::not_found);
}

TEST_F(BrokerTest, NobodyRetiresALivingWritersSegment) {
  serve(usual_policy());
  Client one = client(), two = client();
  auto a = one.open("carts", true);
  auto b = two.open("carts", true);
  ASSERT_TRUE(a && b);
  auto segment = one.create(a->grant);
  ASSERT_TRUE(segment);
  EXPECT_EQ(two.ask<protocol::Done>(protocol::RetireSegment{b->grant, segment->segment}).error().code,
            Code::denied);
  EXPECT_EQ(two.ask<protocol::Done>(protocol::SegmentMapped{b->grant, segment->segment}).error().code,
            Code::not_found);
  auto reader = two.open("carts", false);
  ASSERT_TRUE(reader);
  auto refused = two.ask<protocol::SegmentCreated>(protocol::CreateSegment{reader->grant, 100});
  EXPECT_EQ(refused.error().code, Code::denied);
  EXPECT_THAT(refused.error().message, HasSubstr("region carts is open for reading only"));
}

TEST_F(BrokerTest, FreshWriterIdsAreNewAndCountTheDesk) {
  serve(usual_policy());
  Client one = client(), two = client();
  auto a = one.open("carts", true);
  ASSERT_TRUE(a && one.create(a->grant));
  auto fresh = one.ask<protocol::Writer>(protocol::FreshWriter{a->grant});
  ASSERT_TRUE(fresh);
  EXPECT_GT(fresh->writer, a->writer);
  auto b = two.open("carts", true);
  ASSERT_TRUE(b);
  EXPECT_GT(b->writer, fresh->writer);
  EXPECT_EQ(two.ask<protocol::Members>(protocol::GetMembers{b->grant})->desks.at(0).writer, fresh->writer);
}

TEST_F(BrokerTest, LargeRecordsGetLargerSegments) {
  serve(policy_of(region_toml("orders", "exclusive", "64MiB"), grant_toml("alice", "*", "rw")));
  Client writer = client();
  auto w = writer.open("orders", true);
  ASSERT_TRUE(w);
  EXPECT_EQ(w->segment_bytes, mib);
  EXPECT_EQ(writer.create(w->grant)->bytes, mib);
  auto large = writer.create(w->grant, 16 * mib + 16);
  ASSERT_TRUE(large);
  EXPECT_GE(large->bytes, 16 * mib + 16 + 65536);
  auto beyond = writer.ask<protocol::SegmentCreated>(protocol::CreateSegment{w->grant, 17 * mib});
  EXPECT_EQ(beyond.error().code, Code::too_large);
}

// ---- who is refused
// -------------------------------------------------------------------------------------------------

// mallory shows a key that the policy knows, and has no grant; eve shows one that nobody knows.
TEST_F(BrokerTest, WithoutAGrantNothingIsGiven) {
  auto mallory_key = crypto::SecretKey::generate();
  auto bob_key = crypto::SecretKey::generate();
  ASSERT_TRUE(mallory_key && bob_key);
  auto principal = [](const char* name, const crypto::SecretKey& key) {
    return fmt::format("[principal.{}]\nidentity = \"key:{}\"\n", name,
                       crypto::public_key_text(key.public_key()));
  };
  write_policy("");
  serve(fmt::format(
      "[pool]\nname = \"p\"\nmedium = \"memory:64MiB\"\n[broker]\nadmins = [\"user:4242\"]\n{}{}{}{}",
      principal("mallory", *mallory_key), principal("bob", *bob_key), region_toml("orders", "exclusive"),
      grant_toml("bob", "orders", "r")));
  auto mallory = Client::connect(socket_, &*mallory_key);
  ASSERT_TRUE(mallory) << mallory.error().to_string();
  for (const char* region : {"orders", "secrets"})
    for (bool writable : {false, true}) {
      auto refused = mallory->ask<protocol::Opened>(protocol::OpenRegion{region, writable});
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().code, Code::denied);
      EXPECT_EQ(refused.error().by, By::broker);
      EXPECT_THAT(refused.error().message, HasSubstr(region));
      EXPECT_TRUE(mallory->fds.empty());
    }
  auto bob = Client::connect(socket_, &*bob_key);
  ASSERT_TRUE(bob);
  EXPECT_TRUE(bob->open("orders", false));
  auto write = bob->open("orders", true);
  EXPECT_EQ(write.error().code, Code::denied);
  auto apply = bob->ask<protocol::Text>(protocol::ApplyPolicy{"", "p", "/", false});
  EXPECT_TRUE(apply.error().code == Code::denied || apply.error().code == Code::unauthenticated);
  auto status = bob->status();
  ASSERT_TRUE(status);
  EXPECT_EQ((*status)["sessions"].size(), 1u) << "others' rows are not for bob";

  Client eve = client();
  auto unknown = eve.ask<protocol::Opened>(protocol::OpenRegion{"orders", false});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, Code::unauthenticated);
  std::string log;
  wait_until([&] {
    std::ifstream audit(folder_ + "/audit.log");
    log.assign(std::istreambuf_iterator<char>(audit), {});
    return log.find("\"who\":\"mallory\"") != std::string::npos;
  });
  EXPECT_THAT(log, HasSubstr("\"count\":2,\"reason\":\"denied\",\"region\":\"orders\",\"who\":\"mallory\""));
}

TEST_F(BrokerTest, AnUnknownRegionIsToldToWhoMaySeeAll) {
  serve(usual_policy());
  Client alice = client();
  auto missing = alice.ask<protocol::Opened>(protocol::OpenRegion{"nothing", false});
  EXPECT_EQ(missing.error().code, Code::not_found);
}

TEST_F(BrokerTest, QuotasAreToldWithNumbers) {
  serve(policy_of(region_toml("a", "shared", "16MiB") + region_toml("b", "shared") +
                      region_toml("c", "shared") + region_toml("d", "shared", "4MiB"),
                  grant_toml("alice", "a", "rw", "segments = 1") +
                      grant_toml("alice", "b", "rw", "bytes = \"2MiB\"") +
                      grant_toml("alice", "c", "rw", "sessions = 1") + grant_toml("alice", "d", "rw")));
  Client one = client(), two = client();
  auto a = one.open("a", true);
  ASSERT_TRUE(a) << a.error().to_string();
  ASSERT_TRUE(one.create(a->grant));
  auto more = one.create(a->grant);
  EXPECT_EQ(more.error().code, Code::quota);
  EXPECT_THAT(more.error().message, HasSubstr("allows 1 segment, of which 1 is in use"));

  auto b = one.open("b", true);
  ASSERT_TRUE(b && one.create(b->grant) && one.create(b->grant));
  auto bytes = one.create(b->grant);
  EXPECT_EQ(bytes.error().code, Code::quota);
  EXPECT_THAT(bytes.error().message, HasSubstr("allows 2 MiB, 2 MiB are in use"));

  ASSERT_TRUE(one.open("c", false));
  auto sessions = two.open("c", false);
  EXPECT_EQ(sessions.error().code, Code::quota);
  EXPECT_THAT(sessions.error().message, HasSubstr("allows 1 session"));

  auto d = one.open("d", true);
  ASSERT_TRUE(d);
  Result<protocol::SegmentRow> last = one.create(d->grant);
  std::uint64_t total = d->index_bytes;
  for (int i = 0; i < 8 && last; ++i) {
    total += last->bytes;
    last = one.create(d->grant);
  }
  EXPECT_EQ(last.error().code, Code::quota);
  EXPECT_THAT(last.error().message, HasSubstr("region d is full"));
  EXPECT_LE(total, 4 * mib);
  EXPECT_GT(total, 4 * mib - 3 * 65536) << "the last segment takes what is left";
}

TEST_F(BrokerTest, RequestsASecondAreBounded) {
  serve(policy_of(region_toml("a", "shared"), grant_toml("alice", "a", "rw", "requests_per_second = 20")) +
        "[broker]\nadmins = [\"user:4242\"]\n");
  Client one = client();
  Result<protocol::Text> last;
  int answered = 0;
  while ((last = one.ask<protocol::Text>(protocol::GetStatus{})) && answered < 1000) ++answered;
  ASSERT_FALSE(last);
  EXPECT_EQ(last.error().code, Code::quota);
  EXPECT_THAT(last.error().message, HasSubstr("made more than 20 requests a second"));
  EXPECT_GE(answered, 20);
}

// ---- who misbehaves
// -------------------------------------------------------------------------------------------------

TEST_F(BrokerTest, NothingIsHeardBeforeWelcome) {
  serve(usual_policy());
  std::vector<protocol::Body> bodies{protocol::OpenRegion{"orders", false}, protocol::GetStatus{},
                                     protocol::MapSegments{0, {}}, protocol::Prove{},
                                     protocol::ApplyPolicy{"x", "y", "/", true}};
  for (protocol::Body& body : bodies) {
    std::string name = protocol::name(body);
    Client stranger;
    stranger.connection = std::move(*protocol::connect(socket_));
    auto refused = stranger.ask<protocol::Done>(std::move(body));
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().code, Code::unauthenticated) << name;
    EXPECT_EQ(stranger.receive<protocol::Done>().error().code, Code::closed) << name;
  }
}

TEST_F(BrokerTest, AMalformedMessageEndsItsConnectionAndNoOther) {
  serve(usual_policy());
  Client good = client();
  auto r = good.open("orders", false);
  ASSERT_TRUE(r);
  for (std::string bytes : {std::string("x"), std::string(65536, '\xff'), std::string(1, '\0'),
                            std::string("\x08\x01\x12\x02\xff\xff", 6)}) {
    Client bad = client();
    ASSERT_TRUE(bad.connection.send(as_bytes(bytes), in_10_s()));
    EXPECT_EQ(bad.receive<protocol::Done>().error().code, Code::closed);
  }
  EXPECT_TRUE(good.ask<protocol::Members>(protocol::GetMembers{r->grant}));
  EXPECT_EQ(good.status()->at("sessions").size(), 1u);
}

TEST_F(BrokerTest, DescriptorsSentToTheBrokerAreNotTaken) {
  serve(usual_policy());
  Client bad = client();
  auto count = [&] {
    return std::distance(std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", broker_)), {});
  };
  if (::geteuid() != 0) GTEST_SKIP() << "the descriptors of a non-dumpable process are seen by root alone";
  auto before = count();
  auto bytes = protocol::encode(protocol::Request{1, protocol::GetStatus{}});
  std::vector<int> fds(100, STDIN_FILENO);
  ASSERT_TRUE(bad.connection.send(as_bytes(*bytes), in_10_s(), fds));
  static_cast<void>(bad.connection.receive(in_10_s()));
  EXPECT_LE(count(), before);
}

TEST_F(BrokerTest, AClientThatNeverReadsIsCutOffAndDisturbsNobody) {
  serve(usual_policy());
  Client deaf = client(), good = client();
  auto request = protocol::encode(protocol::Request{1, protocol::GetStatus{}});
  std::uint64_t start = monotonic_ns(), slowest = 0;
  bool cut_off = false;
  while (!cut_off && monotonic_ns() - start < 20'000'000'000) {
    auto sent = deaf.connection.try_send(as_bytes(*request));
    cut_off = !sent;
    std::uint64_t asked = monotonic_ns();
    ASSERT_TRUE(good.status());
    slowest = std::max(slowest, monotonic_ns() - asked);
  }
  EXPECT_TRUE(cut_off);
  EXPECT_LT(slowest, 1'000'000'000u);
}

TEST_F(BrokerTest, ManyStrangersAreBounded) {
  serve(usual_policy());
  std::vector<protocol::Connection> strangers;
  for (int i = 0; i < 300; ++i) {
    auto connection = protocol::connect(socket_);
    if (connection) strangers.push_back(std::move(*connection));
  }
  auto alice = Client::connect(socket_);
  EXPECT_FALSE(alice) << "turned away at once, not kept waiting";
  strangers.clear();
  wait_until([&] { return Client::connect(socket_).has_value(); });
  EXPECT_TRUE(Client::connect(socket_));
}

}  // namespace
}  // namespace bailey::broker
