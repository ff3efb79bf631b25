// What happens to who had it when a policy takes something away, and when the policy is read again.
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>

#include "bailey/broker/death_test.h"
#include "bailey/broker/state.h"

namespace bailey::broker {
namespace {

using ::testing::HasSubstr;

// Whether a signal has been sent to a process that has not taken it.
bool pending(pid_t pid, int signal) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("ShdPnd:"))
      return (std::strtoull(line.c_str() + 7, nullptr, 16) >> (signal - 1) & 1) != 0;
  return false;
}

TEST_F(DeathTest, ARevokedReaderHearsOfIt) {
  serve(policy(all_grants()));
  Client reader = as('c');
  auto r = reader.open("orders", false);
  ASSERT_TRUE(r);
  Words words;
  Process applying([&] {
    auto applied = apply(policy(grant_toml("a", "*", "rw") + grant_toml("b", "*", "rw")));
    return applied && applied->find("grant") != std::string::npos ? 0 : 1;
  });
  wait_until([&] { return reader.word(r->grant) != r->grant_value; });
  auto attention = reader.attend(r->grant);
  EXPECT_EQ(attention.error().code, Code::revoked);
  EXPECT_THAT(attention.error().message, HasSubstr("the grant on region orders was taken back"));
  EXPECT_EQ(applying.wait(), 0) << "it returns when the session has heard of it";
  EXPECT_EQ(reader.open("orders", false).error().code, Code::denied);
  EXPECT_EQ(reader.ask<protocol::Segments>(protocol::MapSegments{r->grant, {}}).error().code, Code::revoked);
}

TEST_F(DeathTest, ARevokedSessionThatDoesNotListenIsCutOffInTime) {
  serve(policy(all_grants()));
  Client reader = as('c');
  auto r = reader.open("orders", false);
  ASSERT_TRUE(r);
  std::uint64_t start = monotonic_ns();
  ASSERT_TRUE(apply(policy(grant_toml("a", "*", "rw"))));
  std::uint64_t took = monotonic_ns() - start;
  EXPECT_GT(took, 1'500'000'000u);
  EXPECT_LT(took, 8'000'000'000u);
  EXPECT_NE(reader.word(r->grant), r->grant_value);
}

// As if it had died right after the commit: the state has the new policy, and nobody has heard of it.
TEST_F(DeathTest, ARevocationThatABrokerCommittedAndDidNotSeeThroughIsSeenThroughByTheNext) {
  serve(policy(all_grants()));
  Client reader = as('c'), a = as('a');
  auto r = reader.open("carts", false);
  auto w = a.open("carts", true);
  ASSERT_TRUE(r && w);
  std::uint64_t generation = client().status()->at("regions")[1]["index_generation"];
  keeper_->kill(SIGSTOP);
  Fd process(static_cast<int>(::syscall(SYS_pidfd_open, broker_, 0)));
  ::kill(broker_, SIGKILL);
  pollfd dead{process.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&dead, 1, 10'000), 1);
  {
    auto opened = State::open(socket_ + ".state/state.db", false);
    ASSERT_TRUE(opened) << opened.error().to_string();
    State& state = *opened;
    ASSERT_TRUE(state.set_meta("policy", policy(grant_toml("a", "*", "rw") + grant_toml("b", "*", "rw"))));
    auto regions = state.regions();
    ASSERT_TRUE(regions) << regions.error().to_string();
    for (Region& region : *regions) {
      region.disowned = region.name == "carts";
      ASSERT_TRUE(state.save(region));
    }
  }
  keeper_->kill(SIGCONT);
  auto again = [&](const Client& client, int key) {
    Result<Client> back;
    protocol::SessionHandshake::Options options;
    options.key = &*keys_[static_cast<std::size_t>(key)];
    options.resume = protocol::SessionHandshake::Resume{client.welcome.session, client.welcome.resume_secret};
    wait_until([&] {
      back = Client::connect_with(socket_, options);
      return back.has_value();
    });
    return std::move(*back);
  };
  EXPECT_EQ(again(reader, 2).attend(r->grant).error().code, Code::revoked);
  Client writer = again(a, 0);
  Result<protocol::Attention> attention;
  wait_until([&] {
    attention = writer.attend(w->grant);
    return attention && attention->new_index;
  });
  EXPECT_TRUE(attention->new_index) << "what the reader has mapped is left";
  EXPECT_GT(client().status()->at("regions")[1]["index_generation"], generation);
}

TEST_F(DeathTest, ARevokedExclusiveWritersIndexIsReplaced) {
  serve(policy(all_grants()));
  Client a = as('a'), reader = as('c');
  auto w = a.open("orders", true);
  auto r = reader.open("orders", false);
  ASSERT_TRUE(w && r);
  a.index.data()[5000] = std::byte{5};
  auto segment = a.create(w->grant);
  ASSERT_TRUE(segment);
  ASSERT_TRUE(apply(policy(grant_toml("b", "*", "rw") + grant_toml("c", "*", "r"))));
  a.index.data()[5001] = std::byte{6};  // it is hostile and goes on
  Result<protocol::Attention> attention;
  wait_until([&] {
    attention = reader.attend(r->grant);
    return attention && attention->new_index;
  });
  ASSERT_TRUE(attention && attention->new_index);
  Mapping fresh =
      std::move(*Mapping::of_file(reader.fds.at(0).get(), attention->index_bytes, Access::read_only));
  EXPECT_EQ(fresh.data()[5000], std::byte{5});
  EXPECT_EQ(fresh.data()[5001], std::byte{0});
  EXPECT_EQ(reader.ask<protocol::Members>(protocol::GetMembers{r->grant})->frozen.size(), 1u) << "disowned";
  EXPECT_EQ(a.create(w->grant).error().code, Code::revoked);
  EXPECT_TRUE(as('b').open("orders", true));
}

TEST_F(DeathTest, ARevokedWriterLosesTheSharedIndexAndTheOthersGoOn) {
  serve(policy(all_grants()));
  Client a = as('a'), b = as('b'), reader = as('c');
  auto wa = a.open("carts", true);
  auto wb = b.open("carts", true);
  auto r = reader.open("carts", false);
  ASSERT_TRUE(wa && wb && r);
  ASSERT_TRUE(b.create(wb->grant));
  a.index.data()[5000] = std::byte{5};
  Process applying(
      [&] { return apply(policy(grant_toml("b", "*", "rw") + grant_toml("c", "*", "r"))) ? 0 : 1; });
  wait_until([&] { return b.word(wb->grant) != wb->grant_value; });
  auto attention = b.attend(wb->grant);
  ASSERT_TRUE(attention) << attention.error().to_string();
  ASSERT_TRUE(attention->new_index);
  Mapping fresh = std::move(*Mapping::of_file(b.fds.at(0).get(), attention->index_bytes, Access::read_write));
  EXPECT_EQ(fresh.data()[5000], std::byte{5});
  a.index.data()[5002] = std::byte{7};
  EXPECT_EQ(fresh.data()[5002], std::byte{0}) << "what the disowned one writes is in no file that others use";
  auto read = reader.attend(r->grant);
  ASSERT_TRUE(read);
  EXPECT_TRUE(read->new_index);
  EXPECT_EQ(map_writable(reader.fds.at(0).get(), read->index_bytes), EACCES);
  EXPECT_EQ(applying.wait(), 0);
  EXPECT_TRUE(b.create(wb->grant));
}

TEST_F(DeathTest, AWriterThatIsStoppedDoesNotHoldUpARevocation) {
  serve(policy(all_grants()));
  auto [a, wa] = writer_of("carts", 'a');
  auto [b, wb] = writer_of("carts", 'b');
  ASSERT_TRUE(apply(policy(grant_toml("b", "*", "rw"))));  // neither listens
  // Its grant stands, and it was not waited for: it might have written into the old index.
  auto refused = b.create(wb.grant);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::contended) << "not before it has attended";
  EXPECT_THAT(refused.error().message, HasSubstr("did not answer in time"));
  auto attention = b.attend(wb.grant);
  ASSERT_TRUE(attention) << attention.error().to_string();
  EXPECT_TRUE(attention->late && attention->leave && attention->new_index);
  EXPECT_TRUE(b.create(wb.grant));
}

// The one in between could be answered while the index is copied, and write where nobody will look.
TEST_F(DeathTest, AWriterThatComesWhileTheIndexIsReplacedWritesIntoTheNewOne) {
  serve(policy(all_grants()));
  auto [a, wa] = writer_of("carts", 'a');
  auto [b, wb] = writer_of("carts", 'b');
  Process applying([&] { return apply(policy(grant_toml("b", "*", "rw"))) ? 0 : 1; });
  wait_until([&] { return b.word(wb.grant) != wb.grant_value; });  // the others are waited for
  Client late = as('b');
  auto w = late.open("carts", true);
  ASSERT_TRUE(w) << w.error().to_string();
  EXPECT_NE(late.word(w->grant), w->grant_value) << "it has to attend before it writes";
  ASSERT_TRUE(b.attend(wb.grant)->new_index);
  auto attention = late.attend(w->grant);
  ASSERT_TRUE(attention && attention->new_index);
  EXPECT_EQ(applying.wait(), 0);
}

TEST_F(DeathTest, ADroppedRegionNeedsDropAndIsGone) {
  serve(policy(all_grants()));
  Client a = as('a');
  auto w = a.open("orders", true);
  ASSERT_TRUE(w && a.create(w->grant));
  std::string without = policy(all_grants(), region_toml("carts", "shared"));
  auto refused = apply(without);
  EXPECT_EQ(refused.error().code, Code::denied);
  EXPECT_THAT(refused.error().message, HasSubstr("orders"));
  EXPECT_TRUE(a.create(w->grant)) << "nothing was changed";
  ASSERT_TRUE(apply(without, true));
  EXPECT_EQ(a.create(w->grant).error().code, Code::revoked);
  EXPECT_EQ(client().status()->at("regions").size(), 1u);
  ASSERT_TRUE(apply(policy(all_grants())));
  EXPECT_TRUE(as('b').open("orders", true)) << "a new one of that name";
}

TEST_F(DeathTest, ABadPolicyChangesNothing) {
  serve(policy(all_grants()));
  auto bad = apply(policy(all_grants()) + "[region.x]\nkind = \"table\"\nsize = \"-4MiB\"\n");
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, Code::invalid_argument);
  EXPECT_THAT(bad.error().message, HasSubstr("new.toml:"));
  EXPECT_TRUE(as('c').open("orders", false));
}

TEST_F(DeathTest, SighupReadsThePolicyFileAgain) {
  serve(policy(all_grants()));
  write_policy(policy(all_grants(), region_toml("orders", "exclusive") + region_toml("carts", "shared") +
                                        region_toml("more", "shared")));
  keeper_->kill(SIGHUP);
  Client admin = client();
  EXPECT_LT(wait_until([&] { return admin.status()->at("regions").size() == 3; }), 9'000'000'000u);
}

// Stopped, the broker has the signal and has not looked; the next one reads the file in its place.
TEST_F(DeathTest, ASighupThatABrokerDidNotLiveToHearIsHeardByTheNext) {
  serve(policy(all_grants()));
  ::kill(broker_, SIGSTOP);
  write_policy(policy(all_grants(), region_toml("orders", "exclusive") + region_toml("carts", "shared") +
                                        region_toml("more", "shared")));
  keeper_->kill(SIGHUP);
  wait_until([&] { return pending(broker_, SIGHUP); });
  ASSERT_TRUE(pending(broker_, SIGHUP)) << "the keeper passes it on";
  ::kill(broker_, SIGKILL);
  std::uint64_t took = wait_until([&] {
    auto connected = Client::connect(socket_);
    auto status = connected ? connected->status() : Result<nlohmann::json>(fail(Code::unavailable));
    return status && status->at("broker")["pid"] != broker_ && status->at("regions").size() == 3;
  });
  EXPECT_LT(took, 9'000'000'000u);
}

}  // namespace
}  // namespace bailey::broker
