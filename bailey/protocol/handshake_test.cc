#include "bailey/protocol/handshake.h"

#include <grp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>

#include <set>

#include "bailey/abi/control.h"
#include "bailey/protocol/handshake_support.h"

namespace bailey::protocol {
namespace {

constexpr const char* all_bound = "session's pid, session's ids, broker's pid, broker's ids";

class Handshake : public FolderTest {
 protected:
  std::string path() const { return folder_ + "/broker.sock"; }

  // A broker that serves `sessions` of them. Ends with 0 where it admitted the last one, 1 where it refused.
  pid_t start_broker(int sessions = 1) {
    return ready_child([&](const auto& ready) {
      auto listener = Listener::bind(path());
      if (!listener) return 2;
      ready();
      bool admitted = false;
      for (int n = 0; n < sessions; ++n) {
        auto connection = accept_one(*listener);
        if (!connection) return 3;
        admitted = admit(*connection, listener->place()).has_value();
      }
      return admitted ? 0 : 1;
    });
  }
  // A squatter in a folder of its own, as `uid` where that is given. Its socket's path.
  std::string start_squatter(Squatter kind, std::optional<uid_t> uid = {}) {
    std::string front = folder_ + "/front";
    EXPECT_EQ(mkdir(front.c_str(), 0755), 0);
    EXPECT_EQ(chown(front.c_str(), uid.value_or(geteuid()), uid.value_or(getegid())), 0);
    squatter_ = ready_child([&](const auto& ready) {
      if (uid && (setgroups(0, nullptr) != 0 || setgid(*uid) != 0 || setuid(*uid) != 0)) return 9;
      return squat(front + "/s", path(), kind, ready);
    });
    return front + "/s";
  }
  crypto::SecretKey key_ = session_key();
  SessionHandshake::Options with_key() {
    SessionHandshake::Options options;
    options.key = &key_;
    return options;
  }
  pid_t squatter_ = -1;
};

TEST_F(Handshake, BothAgreeAndEverythingIsBound) {
  pid_t broker = start_broker();
  auto bound = enter(path(), with_key());
  ASSERT_TRUE(bound) << bound.error().to_string();
  EXPECT_EQ(*bound, all_bound);
  EXPECT_EQ(ended_with(broker), 0);
}

TEST_F(Handshake, ASessionWithoutAKeyIsWhomTheKernelShows) {
  pid_t broker = start_broker();
  auto bound = enter(path(), {});
  ASSERT_TRUE(bound) << bound.error().to_string();
  EXPECT_EQ(*bound, all_bound);
  EXPECT_EQ(ended_with(broker), 0);
}

TEST_F(Handshake, APinnedBrokerKeyMustBeTheBrokers) {
  pid_t broker = start_broker(2);
  SessionHandshake::Options options = with_key();
  options.broker_key = key_of(9).public_key();
  auto refused = enter(path(), options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::unauthenticated);
  EXPECT_EQ(refused.error().by, By::library);
  options.broker_key = broker_key().public_key();
  EXPECT_TRUE(enter(path(), options));
  EXPECT_EQ(ended_with(broker), 0);
}

// Broker and sessions let nobody look into them (prctl); an ordinary user's may then not even read each
// other's /proc/PID/ns. All that is bound otherwise still is.
TEST_F(Handshake, EndsThatLetNobodyLookIntoThemAgree) {
  if (geteuid() != 0) GTEST_SKIP() << "two other uids need root";
  ASSERT_EQ(mkdir((folder_ + "/own").c_str(), 0755), 0);
  ASSERT_EQ(chown((folder_ + "/own").c_str(), 4242, 4242), 0);
  std::string own = folder_ + "/own/s";
  auto become = [](uid_t uid) {
    return setgroups(0, nullptr) == 0 && setgid(uid) == 0 && setuid(uid) == 0 &&
           prctl(PR_SET_DUMPABLE, 0) == 0;
  };
  pid_t broker = ready_child([&](const auto& ready) {
    if (!become(4242)) return 9;
    auto listener = Listener::bind(own);
    if (!listener) return 2;
    ready();
    auto connection = accept_one(*listener);
    return connection && admit(*connection, listener->place()) ? 0 : 1;
  });
  EXPECT_EQ(ended_with(in_child([&] {
              if (!become(4243)) return 9;
              auto bound = enter(own, with_key());
              return bound && *bound == all_bound ? 0 : 1;
            })),
            0);
  EXPECT_EQ(ended_with(broker), 0);
}

// ---- squatters. Each passes messages on between a session and the true broker; none may succeed.

TEST_F(Handshake, ASquatterOfTheSameUidIsRefused) {
  pid_t broker = start_broker();
  std::string front = start_squatter(Squatter::passes_on);
  auto refused = enter(front, with_key());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::unauthenticated);
  EXPECT_EQ(refused.error().by, By::broker);
  // The same uid and namespaces: it is the pid that tells.
  EXPECT_NE(refused.error().message.find(
                fmt::format("it says pid {}, the kernel at the other end shows {}", getpid(), squatter_)),
            std::string::npos)
      << refused.error().message;
  EXPECT_EQ(ended_with(broker), 1);
  EXPECT_EQ(ended_with(squatter_), 0);
}

TEST_F(Handshake, ASquatterOfAnotherUidIsRefused) {
  if (geteuid() != 0) GTEST_SKIP() << "a second uid needs root";
  pid_t broker = start_broker();
  auto refused = enter(start_squatter(Squatter::passes_on, 4242), with_key());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::unauthenticated);
  EXPECT_EQ(refused.error().by, By::broker);
  EXPECT_EQ(ended_with(broker), 1);
  EXPECT_EQ(ended_with(squatter_), 0);
}

TEST_F(Handshake, ASquatterThatRewritesHelloIsRefusedByTheSession) {
  pid_t broker = start_broker();
  auto refused = enter(start_squatter(Squatter::rewrites_hello), with_key());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::unauthenticated);
  EXPECT_EQ(refused.error().by, By::library);
  EXPECT_NE(refused.error().message.find("passes its messages on"), std::string::npos);
  EXPECT_EQ(ended_with(broker), 1);
  EXPECT_EQ(ended_with(squatter_), 0);
}

TEST_F(Handshake, ASquatterThatRewritesHelloIsRefusedByTheBrokerEvenIfTheSessionTrustsIt) {
  pid_t broker = start_broker();
  auto refused = enter(start_squatter(Squatter::rewrites_hello), with_key(), true);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::unauthenticated);
  EXPECT_EQ(refused.error().by, By::broker);
  EXPECT_NE(refused.error().message.find("proof of its key is wrong"), std::string::npos);
  EXPECT_EQ(ended_with(broker), 1);
  EXPECT_EQ(ended_with(squatter_), 0);
}

TEST_F(Handshake, ASessionNeverTalksToAListenerInSomebodyElsesFolder) {
  if (geteuid() != 0) GTEST_SKIP() << "a second uid needs root";
  pid_t broker = start_broker();
  std::string front = start_squatter(Squatter::passes_on, 4242);
  ASSERT_EQ(chown((folder_ + "/front").c_str(), 0, 0), 0);
  auto refused = enter(front, with_key());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::unauthenticated);
  EXPECT_EQ(refused.error().by, By::library);
  EXPECT_NE(refused.error().message.find("uid 4242 listens"), std::string::npos) << refused.error().message;
  for (pid_t child : {squatter_, broker}) {
    kill(child, SIGKILL);
    ended_with(child);
  }
}

TEST_F(Handshake, AnOverflowUidIsTrustedOnlyWithAPinnedKey) {
  if (geteuid() != 0) GTEST_SKIP() << "a second uid needs root";
  pid_t broker = start_broker();
  std::string front = start_squatter(Squatter::passes_on, 65534);
  auto refused = enter(front, with_key());
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("does not show who listens"), std::string::npos)
      << refused.error().message;
  for (pid_t child : {squatter_, broker}) {
    kill(child, SIGKILL);
    ended_with(child);
  }
}

TEST_F(Handshake, AForkThatUsesItsParentsConnectionIsRefused) {
  auto listener = Listener::bind(path());
  ASSERT_TRUE(listener);
  auto connection = connect(path());
  ASSERT_TRUE(connection);
  auto accepted = accept_one(*listener);
  ASSERT_TRUE(accepted);
  pid_t child = in_child([&] {
    auto handshake = SessionHandshake::start(*connection, path(), {});
    if (!handshake) return 1;
    auto hello = encode(Request{1, handshake->hello()});
    return hello && connection->send(as_bytes(*hello), soon()) ? 0 : 2;
  });
  auto refused = admit(*accepted, listener->place());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::unauthenticated);
  EXPECT_EQ(ended_with(child), 0);
}

// ---- both ends in one process, for what needs no second one

class HandshakeEnds : public Handshake {
 protected:
  void SetUp() override {
    Handshake::SetUp();
    listener_.emplace(std::move(*Listener::bind(path())));
    client_ = std::move(*connect(path()));
    server_ = std::move(*accept_one(*listener_));
  }
  Result<SessionHandshake> session(const SessionHandshake::Options& options) {
    return SessionHandshake::start(client_, path(), options);
  }
  Result<BrokerHandshake> broker(const Hello& hello) {
    return BrokerHandshake::start(server_, listener_->place(), hello, broker_key_);
  }
  std::optional<Listener> listener_;
  Connection client_, server_;
  crypto::SecretKey broker_key_ = broker_key();
};

TEST_F(HandshakeEnds, OtherVersionsAreNamed) {
  Hello hello = session({})->hello();
  hello.protocol = 7;
  auto refused = broker(hello);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::incompatible);
  EXPECT_NE(refused.error().message.find("protocol 7, the broker 1"), std::string::npos);
  hello.protocol = protocol_version;
  hello.layout = 99;
  refused = broker(hello);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::incompatible);
  EXPECT_NE(refused.error().message.find("layout 99"), std::string::npos);
}

TEST_F(HandshakeEnds, AHelloThatLiesAboutEitherEndIsRefused) {
  const Hello right = session({})->hello();
  ASSERT_TRUE(broker(right));
  const std::pair<const char*, std::function<void(Hello&)>> lies[] = {
      {"its pid", [](Hello& hello) { ++hello.client.pid; }},
      {"its uid", [](Hello& hello) { ++hello.client.uid; }},
      {"its gid", [](Hello& hello) { ++hello.client.gid; }},
      {"its start", [](Hello& hello) { ++hello.client.start_ticks; }},
      {"its pid namespace", [](Hello& hello) { ++hello.client.pid_namespace; }},
      {"its user namespace", [](Hello& hello) { ++hello.client.user_namespace; }},
      {"no place", [](Hello& hello) { hello.client = {}; }},
      {"the broker's pid", [](Hello& hello) { ++hello.broker.place.pid; }},
      {"an invisible broker", [](Hello& hello) { hello.broker.place = {}; }},
      {"the broker's start", [](Hello& hello) { ++hello.broker.place.start_ticks; }},
      {"the broker's uid", [](Hello& hello) { ++hello.broker.uid; }},
      {"the broker's gid", [](Hello& hello) { ++hello.broker.gid; }},
      {"the broker's pid namespace", [](Hello& hello) { ++hello.broker.place.pid_namespace; }},
      {"the broker's user namespace", [](Hello& hello) { ++hello.broker.place.user_namespace; }}};
  for (const auto& [what, lie] : lies) {
    Hello hello = right;
    lie(hello);
    auto refused = broker(hello);
    ASSERT_FALSE(refused) << what;
    EXPECT_EQ(refused.error().code, Code::unauthenticated) << what;
  }
}

TEST_F(HandshakeEnds, OnlyTheKeysHolderProvesIt) {
  auto ours = session(with_key());
  auto theirs = broker(ours->hello());
  ASSERT_TRUE(theirs);
  auto proof = ours->answer(theirs->challenge());
  ASSERT_TRUE(proof);
  EXPECT_TRUE(theirs->check(*proof));

  Prove none;
  EXPECT_EQ(theirs->check(none).error().code, Code::unauthenticated) << "claimed and not proved";
  Prove other = *proof;
  other.signature = key_of(3).sign(as_bytes(transcript(Role::session, ours->hello(), theirs->challenge())));
  EXPECT_EQ(theirs->check(other).error().code, Code::unauthenticated) << "proved by another key";
  other.signature = key_.sign(as_bytes(transcript(Role::broker, ours->hello(), theirs->challenge())));
  EXPECT_EQ(theirs->check(other).error().code, Code::unauthenticated) << "the proof of the other role";

  auto keyless = session({});
  auto plain = broker(keyless->hello());
  EXPECT_EQ(plain->check(*proof).error().code, Code::unauthenticated) << "proved and not claimed";
  EXPECT_TRUE(plain->check(none));
}

TEST_F(HandshakeEnds, AProofIsGoodOnce) {
  auto ours = session(with_key());
  auto first = broker(ours->hello());
  auto proof = ours->answer(first->challenge());
  ASSERT_TRUE(proof);
  auto again = broker(ours->hello());
  EXPECT_EQ(again->check(*proof).error().code, Code::unauthenticated);
  auto fresh = session(with_key());
  EXPECT_EQ(fresh->answer(first->challenge()).error().code, Code::unauthenticated) << "a challenge of before";
}

TEST_F(HandshakeEnds, ResumptionNeedsTheSecretAndDoesNotSendIt) {
  SessionHandshake::Options options = with_key();
  options.resume = {.session = 5, .secret = resume_secret};
  auto ours = session(options);
  auto theirs = broker(ours->hello());
  ASSERT_TRUE(theirs);
  auto proof = ours->answer(theirs->challenge());
  ASSERT_TRUE(proof);
  EXPECT_TRUE(theirs->check_resume(*proof, resume_secret));
  EXPECT_EQ(theirs->check_resume(*proof, Nonce{8}).error().code, Code::unauthenticated);
  EXPECT_EQ(theirs->check_resume(Prove{}, resume_secret).error().code, Code::unauthenticated);
  for (const std::string& sent : {*encode(Request{1, ours->hello()}), *encode(Request{2, *proof})})
    EXPECT_EQ(sent.find(as_text(std::as_bytes(std::span(resume_secret)))), std::string::npos);
}

TEST(Transcript, IsOfFixedSizeAndCoversEveryField) {
  Hello hello;
  Challenge challenge;
  constexpr std::size_t place = 8 + 8 + 4 + 4 + 4 + 8;
  constexpr std::size_t fields =
      4 + 4 + (16 + 8 + 16) + place + (place + 4 + 4) + 32 + 1 + 32 + 1 + 8 + 32 + 32;
  EXPECT_EQ(transcript(Role::broker, hello, challenge).size(), 26 + fields);
  EXPECT_EQ(transcript(Role::session, hello, challenge).size(), 27 + fields);
  EXPECT_TRUE(transcript(Role::session, hello, challenge)
                  .starts_with(std::string_view("bailey handshake 1 session\0\1\0\0\0", 31)));

  std::set<std::string> seen{transcript(Role::session, hello, challenge)};
  auto expect_covered = [&](const char* what, const std::function<void(Hello&, Challenge&)>& change) {
    Hello changed_hello = hello;
    Challenge changed_challenge = challenge;
    change(changed_hello, changed_challenge);
    EXPECT_TRUE(seen.insert(transcript(Role::session, changed_hello, changed_challenge)).second) << what;
  };
  expect_covered("protocol", [](Hello& h, Challenge&) { h.protocol = 9; });
  expect_covered("layout", [](Hello& h, Challenge&) { h.layout = 9; });
  expect_covered("boot", [](Hello& h, Challenge&) { h.process.boot[15] = 9; });
  expect_covered("start", [](Hello& h, Challenge&) { h.process.start_ticks = 9; });
  expect_covered("random", [](Hello& h, Challenge&) { h.process.random[0] = 9; });
  expect_covered("nonce", [](Hello& h, Challenge&) { h.nonce[31] = 9; });
  expect_covered("has_key", [](Hello& h, Challenge&) { h.has_key = true; });
  expect_covered("key", [](Hello& h, Challenge&) { h.key[0] = 9; });
  expect_covered("resume", [](Hello& h, Challenge&) { h.resume = true; });
  expect_covered("session", [](Hello& h, Challenge&) { h.session = 1ull << 63; });
  expect_covered("broker's uid as seen", [](Hello& h, Challenge&) { h.broker.uid = 9; });
  expect_covered("broker's gid as seen", [](Hello& h, Challenge&) { h.broker.gid = 9; });
  expect_covered("broker's nonce", [](Hello&, Challenge& c) { c.nonce[0] = 9; });
  expect_covered("broker's key", [](Hello&, Challenge& c) { c.broker_key[31] = 9; });
  for (bool client : {true, false}) {
    auto of = [client](Hello& h) -> Place& { return client ? h.client : h.broker.place; };
    expect_covered("pid namespace", [&](Hello& h, Challenge&) { of(h).pid_namespace = 1ull << 40; });
    expect_covered("user namespace", [&](Hello& h, Challenge&) { of(h).user_namespace = 1; });
    expect_covered("pid", [&](Hello& h, Challenge&) { of(h).pid = 1; });
    expect_covered("uid", [&](Hello& h, Challenge&) { of(h).uid = 1; });
    expect_covered("gid", [&](Hello& h, Challenge&) { of(h).gid = 1; });
    expect_covered("start time", [&](Hello& h, Challenge&) { of(h).start_ticks = 1; });
  }
  EXPECT_EQ(seen.size(), 27u);
}

}  // namespace
}  // namespace bailey::protocol
