// Tokens at the broker's door: who gets one, what it opens, and how it ends. Clients speak the protocol
// themselves.
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <map>

#include "bailey/broker/test_support.h"
#include "bailey/capability/key.h"
#include "bailey/capability/scope.h"
#include "bailey/crypto/key_file.h"

namespace bailey::broker {
namespace {

using capability::Token;
using crypto::SecretKey;
using Rights = std::map<std::string, std::string>;
using ::testing::HasSubstr;
using ::testing::Not;

std::string bytes_of(const Token& token) { return std::string(as_text(token.bytes())); }
std::uint64_t now_seconds() { return wall_ns() / 1'000'000'000; }

class Tokens : public BrokerTest {
 protected:
  Tokens() {
    for (const char* who : {"alice", "bob", "carol", "dave"})
      keys_.emplace(who, SecretKey::generate().value());
  }
  // alice is admin of "orders", which bob and carol know nothing of; dave of all. The tests' own uid is none.
  std::string policy(const Rights& rights = {{"alice", "admin"}}, const std::string& mode = "shared") const {
    std::string text = fmt::format(
        "[pool]\nname = \"courtyard\"\nmedium = \"memory:256MiB\"\n[broker]\nadmins = [\"{}\"]\n", admin_);
    for (auto& [who, key] : keys_)
      text += fmt::format("[principal.{}]\nidentity = [\"key:{}\"]\n", who,
                          crypto::public_key_text(key.public_key()));
    text += region_toml("orders", mode) + region_toml("other", mode);
    for (auto& [who, right] : rights) text += grant_toml(who, "orders", right);
    return text;
  }
  Client as(const std::string& who) const {
    auto connected = Client::connect(socket_, &keys_.at(who));
    if (!connected) throw std::runtime_error(connected.error().to_string());
    return std::move(*connected);
  }
  Token minted(const std::string& holder = "bob", bool writable = true, std::uint64_t expires = 0) const {
    Client alice = as("alice");
    return alice.mint({"orders", writable, holder, expires}).value();
  }
  static Result<protocol::Opened> open(Client& client, const Token& token, bool writable = false) {
    return client.open_with(bytes_of(token), writable);
  }
  static Result<protocol::Text> revoke(Client& client, const Token& token) {
    return client.ask<protocol::Text>(protocol::RevokeToken{token.id()});
  }
  Result<protocol::Text> apply(const std::string& text) const {
    return as("dave").ask<protocol::Text>(protocol::ApplyPolicy{text, "p", folder_, false});
  }
  void broker_dies() const {
    Client before = as("dave");
    std::uint64_t epoch = before.control()->header.broker_epoch;
    ::kill(before.status().value()["broker"]["pid"].get<pid_t>(), SIGKILL);
    ASSERT_LT(wait_until([&] {
                return __atomic_load_n(&before.control()->header.broker_epoch, __ATOMIC_ACQUIRE) != epoch &&
                       Client::connect(socket_).has_value();
              }),
              10'000'000'000u);
  }
  std::string audit() const { return read_file(folder_ + "/audit.log").value(); }

  // A renewal gives the region another index.
  std::uint64_t index_generation() const {
    const nlohmann::json status = as("dave").status().value();
    for (auto& region : status.at("regions"))
      if (region.at("name") == "orders") return region.at("index_generation").get<std::uint64_t>();
    return 0;
  }
  Client resumed(const Client& before, const std::string& who) const {
    protocol::SessionHandshake::Options again{.key = &keys_.at(who), .broker_key = {}, .resume = {}};
    again.resume = protocol::SessionHandshake::Resume{before.welcome.session, before.welcome.resume_secret};
    return Client::connect_with(socket_, again).value();
  }

  std::map<std::string, SecretKey> keys_;
  std::string admin_ = "dave";  // of the policy
};

// ---- who gets one

TEST_F(Tokens, AreMintedByAdminsAlone) {
  serve(policy({{"alice", "admin"}, {"bob", "rw"}}));
  for (const char* who : {"bob", "carol"}) {
    Client client = as(who);
    EXPECT_EQ(client.mint({"orders", false, "", 0}).error().code, Code::denied) << who;
    EXPECT_EQ(client.mint({"other", false, "", 0}).error().code, Code::denied) << who;
    // Nobody learns which regions there are.
    EXPECT_EQ(client.mint({"none", false, "", 0}).error().code, Code::denied) << who;
  }
  Client alice = as("alice");
  EXPECT_TRUE(alice.mint({"orders", true, "bob", 0}));
  EXPECT_EQ(alice.mint({"other", true, "bob", 0}).error().code, Code::denied);
  EXPECT_EQ(alice.mint({"orders", true, "nobody-known", 0}).error().code, Code::not_found);
  EXPECT_EQ(alice.mint({"orders", true, "bob", now_seconds() - 1}).error().code, Code::invalid_argument);
  Client admin = as("dave");
  EXPECT_TRUE(admin.mint({"other", true, "bob", 0}));
  EXPECT_EQ(admin.mint({"none", true, "bob", 0}).error().code, Code::not_found);
}

TEST_F(Tokens, IdsAndTagsAreDrawnAnew) {
  serve(policy());
  EXPECT_NE(minted().id(), minted().id());
  EXPECT_EQ(minted().bytes().size(), 80u + 2 + 3 + 32) << "the whole tag";
}

// ---- what they open

TEST_F(Tokens, OpenARegionForWhomThePolicyGrantsNothing) {
  serve(policy());
  Client bob = as("bob");
  EXPECT_EQ(bob.open("orders", false).error().code, Code::denied);
  Token token = minted();
  auto opened = open(bob, token);
  ASSERT_TRUE(opened) << opened.error().to_string();
  EXPECT_EQ(opened->writer, 0u);
  Client again = as("bob");
  auto writes = open(again, token, true);
  ASSERT_TRUE(writes);
  ASSERT_TRUE(again.ask<protocol::IndexReady>(protocol::IndexMapped{writes->grant}));
  EXPECT_TRUE(again.create(writes->grant));
}

TEST_F(Tokens, GiveTheirRightsAndNoMore) {
  serve(policy({{"alice", "admin"}, {"bob", "rw"}}));
  Token reads = minted("bob", false);
  Client bob = as("bob");
  EXPECT_TRUE(bob.open("orders", true)) << "by the policy's grant";
  EXPECT_EQ(open(bob, reads, true).error().code, Code::denied) << "whatever the grant says";
  auto opened = open(bob, reads);
  ASSERT_TRUE(opened);
  EXPECT_EQ(bob.ask<protocol::SegmentCreated>(protocol::CreateSegment{opened->grant, 100}).error().code,
            Code::denied);
  Token narrowed = minted("bob", true).narrow(capability::Rights{Access::read_only}).value();
  EXPECT_EQ(open(bob, narrowed, true).error().code, Code::denied);
  EXPECT_TRUE(open(bob, narrowed));
  // What only the rights on the region, or those of an admin, would give.
  EXPECT_EQ(bob.mint({"orders", false, "", 0}).error().code, Code::denied);
}

TEST_F(Tokens, AreForTheirHolder) {
  serve(policy());
  Token bobs = minted("bob"), bearers = minted("");
  Client bob = as("bob"), carol = as("carol"), nobody = client();
  EXPECT_EQ(open(carol, bobs).error().code, Code::denied);
  EXPECT_EQ(open(nobody, bobs).error().code, Code::denied);
  EXPECT_TRUE(open(bob, bobs));
  // Handing on: the holder can't, whatever it adds; what was minted for the bearer can.
  EXPECT_EQ(open(carol, bobs.narrow(capability::Holder{"carol"}).value()).error().code, Code::denied);
  EXPECT_TRUE(open(carol, bearers));
  EXPECT_TRUE(open(nobody, bearers));
  EXPECT_EQ(open(nobody, bearers.narrow(capability::Holder{"bob"}).value()).error().code, Code::denied);
}

TEST_F(Tokens, OfOthersOrChangedOnesOpenNothing) {
  serve(policy());
  Token token = minted("", true);
  Client bob = as("bob");
  std::string bytes = bytes_of(token);
  for (std::size_t at : {std::size_t{10}, std::size_t{11}, std::size_t{32}, std::size_t{48}, std::size_t{64},
                         std::size_t{80}, bytes.size() - 1}) {
    std::string other = bytes;
    other[at] = static_cast<char>(other[at] ^ 1);
    EXPECT_FALSE(bob.open_with(other)) << at;
  }
  EXPECT_FALSE(bob.open_with(bytes.substr(0, bytes.size() - 1)));
  EXPECT_FALSE(bob.open_with(std::string(bytes.size(), '\0')));
  EXPECT_EQ(bob.open_with(bytes, false, "other").error().code, Code::denied);
  EXPECT_EQ(bob.open_with(bytes, false, "none").error().code, Code::denied);
  // With keys that somebody might guess, for a region and an id that are right.
  capability::Head head = token.head();
  for (const std::string& key :
       {std::string(), std::string(32, '\0'), std::string("bailey"), std::string(32, '\xff')})
    EXPECT_EQ(open(bob, capability::Key(as_bytes(key)).mint(head)).error().code, Code::denied);
  EXPECT_TRUE(bob.open_with(bytes));
}

// What a session was given verifies for itself; with its key nobody mints for the broker or for another
// session.
TEST_F(Tokens, TheKeyOfASessionMintsForNobodyElse) {
  serve(policy());
  Client bob = as("bob"), carol = as("carol");
  auto bobs = open(bob, minted("", true)), carols = open(carol, minted("", false));
  ASSERT_TRUE(bobs && carols);
  Token session = Token::decode(as_bytes(bobs->token)).value();
  capability::Key key(std::as_bytes(std::span(bobs->token_key)));
  ASSERT_TRUE(key.verify(session));
  EXPECT_EQ(session.head().audience, capability::Audience::session);
  EXPECT_EQ(session.head().access, Access::read_only) << "what was opened, not what the token allows";
  EXPECT_EQ(open(carol, session).error().code, Code::denied) << "a session's own is of no use at the broker";
  capability::Head head = minted("", true).head();
  EXPECT_EQ(open(bob, key.mint(head)).error().code, Code::denied);
  EXPECT_EQ(bob.ask<protocol::Text>(protocol::VerifyToken{bytes_of(key.mint(head))}).error().code,
            Code::denied);
  Token of_carol = Token::decode(as_bytes(carols->token)).value();
  capability::Key carols_key(std::as_bytes(std::span(carols->token_key)));
  ASSERT_TRUE(carols_key.verify(of_carol));
  EXPECT_FALSE(carols_key.verify(key.mint(of_carol.head())));
  EXPECT_FALSE(carols_key.verify(session));
}

TEST_F(Tokens, ForAPartOfAFileAreRefusedWhereNothingHoldsToIt) {
  serve(policy());
  Client bob = as("bob");
  auto prefix = open(bob, minted().narrow(capability::Prefix{"bob/"}).value());
  ASSERT_FALSE(prefix);
  EXPECT_EQ(prefix.error().code, Code::unsupported);
  EXPECT_THAT(prefix.error().to_string(), HasSubstr("all of the file"));
  EXPECT_FALSE(open(bob, minted().narrow(capability::Range{0, 4096}).value())) << "a table has no ranges";
  EXPECT_FALSE(
      open(bob, minted().narrow(capability::Range{0, 8}).value().narrow(capability::Range{8, 8}).value()));
}

// ---- how they end

TEST_F(Tokens, ARevokedOneOpensNothingAndEndsWhatItOpened) {
  for (const char* mode : {"shared", "exclusive"}) {
    serve(policy({{"alice", "admin"}}, mode));
    Token token = minted(), other = minted();
    Client alice = as("alice"), reader = as("bob"), by_other = as("bob");
    auto opened = open(reader, token);
    auto untouched = open(by_other, other);
    ASSERT_TRUE(opened && untouched);
    std::uint64_t word = reader.word(opened->grant);
    auto said = revoke(alice, token);
    ASSERT_TRUE(said) << said.error().to_string();
    EXPECT_NE(reader.word(opened->grant), word);
    EXPECT_EQ(reader.attend(opened->grant).error().code, Code::revoked);
    EXPECT_EQ(open(reader, token).error().code, Code::revoked);
    EXPECT_EQ(open(reader, token.narrow(capability::Rights{Access::read_only}).value()).error().code,
              Code::revoked);
    // Each id has a state of its own.
    EXPECT_TRUE(by_other.attend(untouched->grant));
    EXPECT_TRUE(open(reader, other));
    keeper_.reset();
  }
}

TEST_F(Tokens, AreRevokedByWhoMayMintThemAlone) {
  serve(policy({{"alice", "admin"}, {"carol", "rw"}}));
  Token token = minted();
  for (const char* who : {"bob", "carol"}) {
    Client client = as(who);
    auto refused = revoke(client, token);
    EXPECT_EQ(refused.error().code, Code::not_found) << "not even that it is there";
  }
  Client bob = as("bob"), admin = as("dave");
  EXPECT_TRUE(open(bob, token));
  EXPECT_TRUE(revoke(admin, token));
  EXPECT_FALSE(open(bob, token));
  EXPECT_TRUE(revoke(admin, token)) << "heard twice";
}

TEST_F(Tokens, AreRevokedForGoodAcrossTheDeathOfTheBroker) {
  serve(policy());
  Token revoked = minted(), lives = minted();
  Client alice = as("alice");
  ASSERT_TRUE(revoke(alice, revoked));
  broker_dies();
  Client bob = as("bob");
  EXPECT_EQ(open(bob, revoked).error().code, Code::revoked);
  auto opened = open(bob, lives);
  ASSERT_TRUE(opened) << opened.error().to_string();
  // And what was opened before is still known to rest on its token.
  broker_dies();
  protocol::SessionHandshake::Options again{.key = &keys_.at("bob"), .broker_key = {}, .resume = {}};
  again.resume = protocol::SessionHandshake::Resume{bob.welcome.session, bob.welcome.resume_secret};
  auto resumed = Client::connect_with(socket_, again);
  ASSERT_TRUE(resumed) << resumed.error().to_string();
  alice = as("alice");
  ASSERT_TRUE(revoke(alice, lives));
  EXPECT_EQ(resumed->attend(opened->grant).error().code, Code::revoked);
}

TEST_F(Tokens, AreOverInTime) {
  serve(policy());
  Token minted_for = minted("bob", false, now_seconds() + 2), forever = minted("bob", false);
  Token narrowed = forever.narrow(capability::Expiry{now_seconds() + 2}).value();
  Client bob = as("bob"), carol = as("bob"), dave = as("bob");
  auto by_mint = open(bob, minted_for), by_caveat = open(carol, narrowed), stays = open(dave, forever);
  ASSERT_TRUE(by_mint && by_caveat && stays);
  std::uint64_t first = bob.word(by_mint->grant), second = carol.word(by_caveat->grant);
  EXPECT_LT(
      wait_until([&] { return bob.word(by_mint->grant) != first && carol.word(by_caveat->grant) != second; }),
      4'000'000'000u)
      << "nobody asked: the words move by themselves";
  EXPECT_EQ(bob.attend(by_mint->grant).error().code, Code::revoked);
  EXPECT_EQ(carol.attend(by_caveat->grant).error().code, Code::revoked);
  EXPECT_EQ(open(bob, minted_for).error().code, Code::revoked);
  EXPECT_EQ(open(bob, narrowed).error().code, Code::revoked);
  EXPECT_TRUE(dave.attend(stays->grant));
  EXPECT_TRUE(open(bob, forever));
}

TEST_F(Tokens, EndWithTheRightOfWhoeverMintedThem) {
  serve(policy({{"alice", "admin"}, {"bob", "r"}}));
  Token of_alice = minted();
  Client admin = as("dave"), bob = as("bob");
  Token of_admin = admin.mint({"orders", false, "bob", 0}).value();
  auto opened = open(bob, of_alice);
  ASSERT_TRUE(opened);
  ASSERT_TRUE(apply(policy({{"alice", "rw"}, {"bob", "r"}})));
  EXPECT_EQ(bob.attend(opened->grant).error().code, Code::revoked);
  ASSERT_TRUE(apply(policy({{"alice", "admin"}, {"bob", "r"}})));
  EXPECT_EQ(open(bob, of_alice).error().code, Code::revoked) << "it does not come back";
  EXPECT_TRUE(open(bob, of_admin));
}

TEST_F(Tokens, WhatWasOpenedWithOneOutlivesTheHoldersGrants) {
  serve(policy({{"alice", "admin"}, {"bob", "r"}}));
  Client bob = as("bob");
  auto by_token = open(bob, minted());
  ASSERT_TRUE(by_token);
  ASSERT_TRUE(apply(policy({{"alice", "admin"}})));
  EXPECT_TRUE(bob.attend(by_token->grant));
}

// Each is a holder of its own: there are too many to tell apart.
TEST_F(Tokens, NarrowedToManyTimesEndAllTheSameAndKeepNoBrokerBusy) {
  serve(policy({{"alice", "admin"}, {"bob", "r"}}));
  Token token = minted("bob", false);
  Client bob = as("bob");
  const std::uint64_t first = now_seconds() + 4;
  for (std::uint64_t i = 0; i < 257; ++i) {
    auto opened = open(bob, token.narrow(capability::Expiry{first + i}).value());
    ASSERT_TRUE(opened) << opened.error().to_string();
    ASSERT_TRUE(bob.ask<protocol::Done>(protocol::CloseRegion{opened->grant}));
  }
  ASSERT_LT(now_seconds(), first) << "too slow a machine for what follows";
  const std::uint64_t before = index_generation();
  EXPECT_LT(wait_until([&] { return index_generation() != before; }), 8'000'000'000u)
      << "what bob was given is written on";
  auto cpu_ns = [&] {
    std::uint64_t ns = 0;
    std::ifstream(fmt::format("/proc/{}/schedstat", broker_)) >> ns;
    return ns;
  };
  const std::uint64_t used = cpu_ns(), since = monotonic_ns();
  ASSERT_GT(used, 0u);
  wait_until([&] { return monotonic_ns() - since > 2'000'000'000; });
  EXPECT_LT(cpu_ns() - used, 500'000'000u);
}

// Which ends what was given by a token that names it, whether or not its session lives.
TEST_F(Tokens, EndWithThePrincipalThatTheyName) {
  for (const char* how : {"removed", "another key"}) {
    serve(policy());
    Token token = minted("bob", false), bearers = minted("", false);
    Client bob = as("bob"), carol = as("carol");
    auto opened = open(bob, token), stays = open(carol, bearers);
    ASSERT_TRUE(opened && stays);
    { ASSERT_TRUE(open(carol, bearers.narrow(capability::Holder{"carol"}).value())); }
    broker_dies();
    bob = resumed(bob, "bob");
    carol = resumed(carol, "carol");
    bob.heard[opened->grant] = bob.word(opened->grant);
    ASSERT_TRUE(bob.attend(opened->grant)) << how << ": it is bob still";
    {
      Client gone = as("bob");
      ASSERT_TRUE(open(gone, token));
    }
    const std::uint64_t before = index_generation();
    SecretKey old = std::move(keys_.at("bob"));
    keys_.erase("bob");
    if (std::string_view(how) == "another key") keys_.emplace("bob", SecretKey::generate().value());
    auto applied = apply(policy());
    ASSERT_TRUE(applied) << applied.error().to_string();
    EXPECT_EQ(bob.attend(opened->grant).error().code, Code::revoked) << how;
    EXPECT_GT(index_generation(), before) << how << ": what the one that hung up was given is written on";
    EXPECT_TRUE(carol.attend(stays->grant)) << how;
    keys_.erase("bob");
    keys_.emplace("bob", std::move(old));
    keeper_.reset();
  }
}

TEST_F(Tokens, OfAnAdminOfThePolicyEndWithItsOffice) {
  for (const std::string& office :
       {std::string("dave"), "key:" + crypto::public_key_text(keys_.at("dave").public_key())}) {
    admin_ = office;
    serve(policy());
    Client dave = as("dave"), bob = as("bob");
    Token of_dave = dave.mint({"orders", false, "bob", 0}).value(), of_alice = minted();
    auto opened = open(bob, of_dave);
    ASSERT_TRUE(opened);
    admin_ = "carol";
    ASSERT_TRUE(apply(policy()));
    EXPECT_EQ(bob.attend(opened->grant).error().code, Code::revoked) << office;
    admin_ = office;
    Client carol = as("carol");
    ASSERT_TRUE(carol.ask<protocol::Text>(protocol::ApplyPolicy{policy(), "p", folder_, false}));
    EXPECT_EQ(open(bob, of_dave).error().code, Code::revoked) << "it does not come back";
    EXPECT_TRUE(open(bob, of_alice));
    keeper_.reset();
  }
}

// A revocation that is not in the state would be undone by the broker's death: nobody is told that it is
// done.
TEST_F(Tokens, AreNotSaidToBeRevokedBeforeTheStateSaysSo) {
  serve(policy(), [] { ::signal(SIGXFSZ, SIG_IGN); });
  Token token = minted();
  Client dave = as("dave"), bob = as("bob");
  auto opened = open(bob, token);
  ASSERT_TRUE(opened);
  rlimit before;
  ASSERT_EQ(::prlimit(broker_, RLIMIT_FSIZE, nullptr, &before), 0);
  rlimit nothing = before;
  nothing.rlim_cur = 0;
  ASSERT_EQ(::prlimit(broker_, RLIMIT_FSIZE, &nothing, nullptr), 0);
  for (int again = 0; again < 2; ++again) {
    auto said = revoke(dave, token);
    ASSERT_FALSE(said) << said->text;
    EXPECT_THAT(said.error().message, HasSubstr("would again if the broker died"))
        << said.error().to_string();
  }
  EXPECT_EQ(open(bob, token).error().code, Code::revoked) << "as long as this broker lives";
  EXPECT_EQ(bob.attend(opened->grant).error().code, Code::revoked);
  ASSERT_EQ(::prlimit(broker_, RLIMIT_FSIZE, &before, nullptr), 0);
  EXPECT_LT(wait_until([&] {
              auto said = revoke(dave, token);
              return said.has_value() && said->text.find("was not valid") != std::string::npos;
            }),
            5'000'000'000u)
      << "it tries again by itself, or is asked again";
  broker_dies();
  Client again = as("bob");
  EXPECT_EQ(open(again, token).error().code, Code::revoked);
}

TEST_F(Tokens, LogsNameIdsAndNeverTokens) {
  serve(policy());
  Token token = minted("");
  Client bob = as("bob"), alice = as("alice");
  ASSERT_TRUE(open(bob, token));
  EXPECT_FALSE(bob.open_with(bytes_of(token).substr(1)));
  ASSERT_TRUE(revoke(alice, token));
  std::string log = audit();
  for (const char* event : {"token minted", "open", "token revoked"}) EXPECT_THAT(log, HasSubstr(event));
  EXPECT_THAT(log, HasSubstr(capability::to_string(token.id())));
  std::string tag(as_text(token.bytes().last(32))), text = token.text();
  EXPECT_THAT(log, Not(HasSubstr(tag)));
  EXPECT_THAT(log, Not(HasSubstr(text.substr(0, 60))));
  EXPECT_THAT(log, Not(HasSubstr(text.substr(text.size() - 40, 36))));
}

}  // namespace
}  // namespace bailey::broker
