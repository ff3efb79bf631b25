// What happens when something dies or memory is short: clients, brokers, keepers.
#include "bailey/broker/death_test.h"
#include "bailey/medium/cgroup_test_support.h"

namespace bailey::broker {
namespace {

using ::testing::HasSubstr;

// ---- clients
// --------------------------------------------------------------------------------------------------------

TEST_F(DeathTest, AKilledWritersSegmentsFreezeWithinItsBound) {
  serve(policy(all_grants()));
  Client reader = as('c'), next = as('b');
  auto r = reader.open("orders", false);
  ASSERT_TRUE(r);
  Words words;
  auto dying = writer("orders", words);
  ASSERT_EQ(words.hear(), 'w');
  std::uint64_t membership = reader.membership(r->number);
  dying->kill(SIGKILL);
  std::uint64_t took = wait_until([&] { return reader.membership(r->number) != membership; });
  fmt::print("a death was noticed after {:.1f} ms\n", static_cast<double>(took) * 1e-6);
  EXPECT_LT(took, 100'000'000u);
  auto members = reader.ask<protocol::Members>(protocol::GetMembers{r->grant});
  ASSERT_TRUE(members);
  EXPECT_TRUE(members->desks.empty());
  ASSERT_EQ(members->frozen.size(), 1u);
  auto b = next.open("orders", true);
  EXPECT_TRUE(b) << "nobody waits for the dead";
  EXPECT_TRUE(next.ask<protocol::Done>(protocol::RetireSegment{b->grant, members->frozen[0]}))
      << "survivors clean up";
}

TEST_F(DeathTest, AForkThatKeepsTheSocketIsNotTheSession) {
  serve(policy(all_grants()));
  Client other = as('b');
  Words words;
  pid_t left = 0;
  int pids[2];
  ASSERT_EQ(::pipe2(pids, O_CLOEXEC), 0);
  auto dying = writer("orders", words, [&](Client&) {
    pid_t child = ::fork();
    if (child == 0) {
      ::alarm(60);
      ::pause();
    }
    EXPECT_EQ(::write(pids[1], &child, sizeof child), static_cast<ssize_t>(sizeof child));
  });
  ASSERT_EQ(words.hear(), 'w');
  ASSERT_EQ(::read(pids[0], &left, sizeof left), static_cast<ssize_t>(sizeof left));
  EXPECT_EQ(dying->wait(), 0);
  EXPECT_LT(wait_until([&] { return other.open("orders", true).has_value(); }), 5'000'000'000u);
  ::kill(left, SIGKILL);
}

TEST_F(DeathTest, AClientThatDiesBeforeItConfirmsLeavesNothing) {
  serve(policy(all_grants()));
  Words words;
  Process dying([&] {
    Client own = as('a');
    auto opened = own.ask<protocol::Opened>(protocol::OpenRegion{"carts", true});
    if (!opened || !own.ask<protocol::SegmentCreated>(protocol::CreateSegment{opened->grant, 1})) return 1;
    auto exclusive = own.ask<protocol::Opened>(protocol::OpenRegion{"orders", true});
    if (!exclusive) return 2;
    words.say();
    ::pause();
    return 0;
  });
  ASSERT_EQ(words.hear(), 'x');
  dying.kill(SIGKILL);
  Client admin = client();
  wait_until([&] { return admin.status()->at("sessions").size() == 1; });
  auto status = *admin.status();
  for (auto& region : status["regions"]) {
    EXPECT_EQ(region["segments_open"], 0);
    EXPECT_EQ(region["segments_frozen"], 0);
    EXPECT_EQ(region["index_generation"], 1) << "the unconfirmed index is nobody's";
  }
  EXPECT_TRUE(as('b').open("orders", true));
}

TEST_F(DeathTest, ClientsThatAreKilledOneAfterAnotherFillNothing) {
  serve(policy(all_grants()));
  // As many segments as would fill the region several times over.
  for (int i = 0; i < 60; ++i) {
    Words words;
    auto dying = writer("carts", words);
    ASSERT_EQ(words.hear(), 'w') << i;
    dying->kill(SIGKILL);
    dying->wait();
    Client survivor = as('b');
    auto opened = survivor.open("carts", true);
    ASSERT_TRUE(opened);
    Result<protocol::Members> members;
    wait_until([&] {
      members = survivor.ask<protocol::Members>(protocol::GetMembers{opened->grant});
      return members && members->desks.empty() && !members->frozen.empty();
    });
    for (std::uint16_t id : members->frozen)
      ASSERT_TRUE(survivor.ask<protocol::Done>(protocol::RetireSegment{opened->grant, id}));
  }
  auto status = *client().status();
  EXPECT_EQ(status["regions"][1]["segments_frozen"], 0);
  EXPECT_EQ(status["regions"][1]["segments_retired"], 0);
}

// ---- the broker
// -----------------------------------------------------------------------------------------------------

TEST_F(DeathTest, AKilledBrokerComesBackWithItsState) {
  serve(policy(all_grants()));
  Client a = as('a'), reader = as('c');
  auto w = a.open("orders", true);
  auto shared = a.open("carts", true);
  ASSERT_TRUE(w && shared);
  auto segment = a.create(w->grant);
  ASSERT_TRUE(segment);
  auto r = reader.open("orders", false);
  ASSERT_TRUE(r);
  auto unconfirmed = a.ask<protocol::SegmentCreated>(protocol::CreateSegment{w->grant, 1});
  ASSERT_TRUE(unconfirmed);
  std::uint64_t epoch = a.control()->header.broker_epoch;
  pid_t killed = broker_;

  ::kill(broker_, SIGKILL);
  std::uint64_t took = wait_until([&] {
    return __atomic_load_n(&a.control()->header.broker_epoch, __ATOMIC_ACQUIRE) != epoch &&
           Client::connect(socket_);
  });
  fmt::print("the broker was back after {:.1f} ms\n", static_cast<double>(took) * 1e-6);
  EXPECT_LT(took, 1'000'000'000u);
  a.segment.data()[9000] = std::byte{1};  // the writer went on

  EXPECT_EQ(a.ask<protocol::Done>(protocol::CloseRegion{99}).error().code, Code::closed);
  Client stranger;
  {
    protocol::SessionHandshake::Options options;
    options.key = &*keys_[0];
    options.resume = protocol::SessionHandshake::Resume{a.welcome.session, protocol::Nonce{}};
    auto forged = Client::connect_with(socket_, options);
    EXPECT_EQ(forged.error().code, Code::not_found) << "who does not know the secret resumes nothing";
  }
  protocol::SessionHandshake::Options options;
  options.key = &*keys_[0];
  options.resume = protocol::SessionHandshake::Resume{a.welcome.session, a.welcome.resume_secret};
  auto back = Client::connect_with(socket_, options);
  ASSERT_TRUE(back) << back.error().to_string();
  EXPECT_EQ(back->welcome.session, a.welcome.session);
  // Nobody knows what it was told: it attends once, and keeps what is its own.
  EXPECT_NE(back->word(w->grant), w->grant_value);
  auto attention = back->attend(w->grant);
  ASSERT_TRUE(attention) << attention.error().to_string();
  EXPECT_FALSE(attention->new_index) << "an exclusive writer has its own";
  EXPECT_EQ(attention->grant_value, back->word(w->grant));
  auto shared_attention = back->attend(shared->grant);
  ASSERT_TRUE(shared_attention);
  EXPECT_TRUE(shared_attention->new_index);
  EXPECT_EQ(map_writable(back->fds.at(0).get(), shared_attention->index_bytes), 0);
  EXPECT_TRUE(back->ask<protocol::Done>(protocol::SegmentMapped{w->grant, unconfirmed->row.segment}))
      << "what was under way goes on";
  EXPECT_TRUE(back->create(w->grant));
  Client b = as('b');
  EXPECT_EQ(b.open("orders", true).error().code, Code::busy) << "the writer lives";
  auto b_reads = b.open("orders", false);
  ASSERT_TRUE(b_reads);
  auto given = b.ask<protocol::Segments>(protocol::MapSegments{b_reads->grant, {segment->segment}});
  ASSERT_EQ(given->rows.size(), 1u);
  Mapping seen = std::move(*Mapping::of_file(b.fds.at(0).get(), given->rows[0].bytes, Access::read_only));
  EXPECT_EQ(seen.data()[9000], std::byte{1});
  auto status = *client().status();
  EXPECT_NE(status["broker"]["pid"], killed);
  EXPECT_EQ(status["broker"]["keeper"], keeper_->pid);
}

TEST_F(DeathTest, WhoDiedWhileTheBrokerWasAwayIsNoticed) {
  serve(policy(all_grants()));
  Words words;
  auto dying = writer("orders", words);
  ASSERT_EQ(words.hear(), 'w');
  ::kill(broker_, SIGSTOP);
  dying->kill(SIGKILL);
  dying->wait();
  ::kill(broker_, SIGKILL);
  Result<Client> b = fail(Code::unavailable);
  wait_until([&] { return (b = Client::connect(socket_, &*keys_[1])).has_value(); });
  ASSERT_TRUE(b);
  auto opened = b->open("orders", true);
  ASSERT_TRUE(opened) << opened.error().to_string();
  EXPECT_EQ(b->ask<protocol::Members>(protocol::GetMembers{opened->grant})->frozen.size(), 1u);
}

TEST_F(DeathTest, BrokersThatKeepDyingAreGivenUp) {
  serve(policy(all_grants()));
  for (unsigned i = 0; i < deaths_max; ++i) {
    pid_t now = 0;
    wait_until([&] {
      auto connected = Client::connect(socket_);
      auto status = connected ? connected->status() : Result<nlohmann::json>(fail(Code::unavailable));
      now = status ? status->at("broker")["pid"].get<pid_t>() : 0;
      return now != 0;
    });
    ASSERT_NE(now, 0);
    ::kill(now, SIGKILL);
    if (i + 1 < deaths_max) wait_until([&] { return ::kill(now, 0) != 0; });
  }
  EXPECT_EQ(keeper_->wait(), 1);
  EXPECT_FALSE(std::filesystem::exists(socket_)) << "nothing is left lying about";
}

TEST_F(DeathTest, WithTheKeeperAllIsGone) {
  serve(policy(all_grants()));
  Client a = as('a');
  auto opened = a.open("orders", true);
  ASSERT_TRUE(opened && a.create(opened->grant));
  keeper_->kill(SIGKILL);
  keeper_->wait();
  EXPECT_LT(wait_until([&] { return ::kill(broker_, 0) != 0; }), 5'000'000'000u) << "its child dies with it";
  EXPECT_EQ(protocol::connect(socket_).error().code, Code::unavailable);
  a.segment.data()[9000] = std::byte{1};  // what is mapped stays mapped
  serve(policy(all_grants()));            // and nothing has to be cleaned up
  EXPECT_FALSE(a.resume(socket_));
  auto status = *client().status();
  EXPECT_EQ(status["regions"][0]["segments_frozen"], 0);
}

TEST_F(DeathTest, TheEndLeavesNothingBehind) {
  serve(policy(all_grants()));
  keeper_->kill(SIGTERM);
  EXPECT_EQ(keeper_->wait(), 0);
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder_))
    left.push_back(entry.path().filename());
  EXPECT_THAT(left, ::testing::UnorderedElementsAre("policy.toml", "audit.log"));
}

TEST_F(DeathTest, ASecondBrokerIsRefusedAndNamesTheFirst) {
  serve(policy(all_grants()));
  auto [status, said] = serve_and_fail(socket_);
  EXPECT_EQ(status, 1);
  EXPECT_THAT(said, HasSubstr(std::to_string(keeper_->pid)));
  EXPECT_TRUE(Client::connect(socket_)) << "the first goes on";
}

TEST_F(DeathTest, ABrokerThatCantStartSaysWhy) {
  write_policy(policy(all_grants()) + "[region.more]\nkind = \"tabel\"\n");
  auto [status, said] = serve_and_fail(socket_);
  EXPECT_EQ(status, 1);
  EXPECT_THAT(said, HasSubstr("policy.toml:"));
  EXPECT_THAT(said, HasSubstr("did you mean \"table\""));
  EXPECT_FALSE(std::filesystem::exists(socket_));
  auto [too_long, why] = serve_and_fail(folder_ + "/" + std::string(120, 'x'));
  EXPECT_EQ(too_long, 1);
  write_policy(policy("", region_toml("orders", "exclusive"), "memory:256MiB?delay_ns=100"));
  EXPECT_THAT(serve_and_fail(socket_).second, HasSubstr("injects no delay"));
}

// ---- memory
// ---------------------------------------------------------------------------------------------------------

TEST_F(DeathTest, AShortageInItsCgroupIsAnErrorWithANumber) {
  medium::LimitedCgroup cgroup(64 * mib);
  if (!cgroup.why_not().empty()) GTEST_SKIP() << cgroup.why_not();
  write_policy(policy(all_grants(), region_toml("big", "shared", "128MiB")));
  auto [status, said] = serve_and_fail(socket_, [&] { ASSERT_TRUE(cgroup.enter()); });
  EXPECT_EQ(status, 1);
  EXPECT_THAT(said, HasSubstr("are missing"));
  EXPECT_THAT(said, HasSubstr("memory limit of the cgroup"));

  // Two regions that fit until somebody else takes the memory.
  serve(policy(all_grants(), region_toml("carts", "shared", "40MiB")), [&] { ASSERT_TRUE(cgroup.enter()); });
  auto bigger = apply(
      policy(all_grants(), region_toml("carts", "shared", "40MiB") + region_toml("big", "shared", "128MiB")));
  EXPECT_EQ(bigger.error().code, Code::no_space) << bigger.error().to_string();
  EXPECT_THAT(bigger.error().message, HasSubstr("are missing"));
  Words full;
  Process hog([&] {
    if (!cgroup.enter()) return 1;
    auto file = medium::create_file({}, "hog", 38 * mib);
    if (!file || ::fallocate(file->get(), 0, 0, 38 * mib) != 0) return 2;
    full.say();
    ::pause();
    return 0;
  });
  ASSERT_EQ(full.hear(), 'x');
  Client a = as('a');
  auto opened = a.open("carts", true);
  ASSERT_TRUE(opened);
  Result<protocol::SegmentRow> last = a.create(opened->grant);
  for (int i = 0; i < 40 && last; ++i) last = a.create(opened->grant);
  EXPECT_EQ(last.error().code, Code::no_space) << last.error().to_string();
  EXPECT_THAT(last.error().message, HasSubstr("a segment of region carts needs 1048576 bytes"));
  EXPECT_EQ(client().status()->at("broker")["pid"], broker_) << "the broker survived";
  hog.kill(SIGKILL);
  hog.wait();
  wait_until([&] { return a.create(opened->grant).has_value(); });
  EXPECT_TRUE(a.create(opened->grant)) << "and goes on when there is memory again";
}

// ---- other media, the janitor
// ----------------------------------------------------------------------------------------

TEST_F(DeathTest, APoolInFilesOutlivesItsKeeper) {
  std::string pool = folder_ + "/pool";
  serve(policy(all_grants(), {}, "file:" + pool));
  std::uint16_t id = 0;
  {
    Client a = as('a');
    auto w = a.open("orders", true);
    ASSERT_TRUE(w) << w.error().to_string();
    a.index.data()[5000] = std::byte{5};
    auto segment = a.create(w->grant);
    ASSERT_TRUE(segment) << segment.error().to_string();
    id = segment->segment;
    a.segment.data()[9000] = std::byte{1};
  }
  {
    Client a = as('a');
    auto w = a.open("orders", true);
    ASSERT_TRUE(w && a.create(w->grant));
    ::kill(broker_, SIGKILL);
    protocol::SessionHandshake::Options options;
    options.key = &*keys_[0];
    options.resume = protocol::SessionHandshake::Resume{a.welcome.session, a.welcome.resume_secret};
    Result<Client> back = fail(Code::unavailable);
    wait_until([&] { return (back = Client::connect_with(socket_, options)).has_value(); });
    ASSERT_TRUE(back) << back.error().to_string();
    ASSERT_TRUE(back->attend(w->grant));
    EXPECT_TRUE(back->create(w->grant)) << "sessions of a pool in files outlive their broker too";
  }
  auto [busy, said] = serve_and_fail(folder_ + "/other.sock");
  EXPECT_EQ(busy, 1);
  EXPECT_THAT(said, HasSubstr("another broker serves the pool"));
  keeper_->kill(SIGKILL);
  keeper_->wait();
  serve(policy(all_grants(), {}, "file:" + pool));
  Client c = as('c');
  auto r = c.open("orders", false);
  ASSERT_TRUE(r) << r.error().to_string();
  EXPECT_EQ(c.index.data()[5000], std::byte{5});
  EXPECT_EQ(map_writable(c.index_file.get(), r->index_bytes), EACCES);
  auto given = c.ask<protocol::Segments>(protocol::MapSegments{r->grant, {id}});
  ASSERT_EQ(given->rows.size(), 1u);
  EXPECT_EQ(map_writable(c.fds.at(0).get(), given->rows[0].bytes), EACCES);
  Mapping seen = std::move(*Mapping::of_file(c.fds.at(0).get(), given->rows[0].bytes, Access::read_only));
  EXPECT_EQ(seen.data()[9000], std::byte{1});
  keeper_->kill(SIGTERM);
  EXPECT_EQ(keeper_->wait(), 0);

  std::filesystem::resize_file(pool + "/segment-" + std::to_string(id), 65536);
  auto [status, why] = serve_and_fail(socket_);
  EXPECT_EQ(status, 1);
  EXPECT_THAT(why, HasSubstr("has another size"));
}

TEST_F(DeathTest, TheJanitorHasAllRegionsAndMakesWay) {
  Words words;
  serve(policy(all_grants()), {}, [&](const std::string& path) {
    auto janitor = Client::connect(path);
    if (!janitor || !janitor->open("orders", true)) return 1;
    words.say('j');
    ::pause();
    return 0;
  });
  ASSERT_EQ(words.hear(), 'j');
  auto status = *client().status();
  EXPECT_TRUE(status["sessions"][0]["janitor"]);
  auto opened = as('a').open("orders", true);
  EXPECT_TRUE(opened) << opened.error().to_string();
}

TEST_F(DeathTest, NoneIsServedAsProcessAndSaidSo) {
  serve(
      policy(all_grants(),
             "[region.open]\nkind = \"table\"\nmode = \"shared\"\nsize = \"16MiB\"\nprotect = [\"none\"]\n"));
  Client a = as('a');
  auto opened = a.open("open", true);
  ASSERT_TRUE(opened) << opened.error().to_string();
  EXPECT_THAT(opened->protect, ::testing::ElementsAre("process"));
  auto posture = client().status()->at("regions")[0]["posture"];
  EXPECT_EQ(posture["asked"][0], "none");
  EXPECT_EQ(posture["in_force"][0], "process");
}

}  // namespace
}  // namespace bailey::broker
