// Clients that follow the protocol's letter and mean harm: they cut what they are given, keep what was taken
// from them and take what all share.
#include <grp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <iterator>
#include <map>
#include <sstream>

#include "bailey/broker/broker.h"
#include "bailey/broker/test_support.h"
#include "bailey/crypto/key_file.h"

namespace bailey::broker {
namespace {

using crypto::SecretKey;
using Rights = std::map<std::string, std::string>;
constexpr std::uint64_t second = 1'000'000'000;

class Greedy : public BrokerTest {
 protected:
  Greedy() {
    for (const char* who : {"alice", "bob", "carol"}) keys_.emplace(who, SecretKey::generate().value());
  }
  std::string policy(const std::string& mode, const Rights& rights) {
    std::string text = "[pool]\nname = \"courtyard\"\nmedium = \"memory:256MiB\"\n";
    for (auto& [who, key] : keys_)
      text += fmt::format("[principal.{}]\nidentity = [\"key:{}\"]\n", who,
                          crypto::public_key_text(key.public_key()));
    text += region_toml("orders", mode);
    for (auto& [who, right] : rights) text += grant_toml(who, "orders", right);
    return text;
  }
  Result<Client> connect(const std::string& who) { return Client::connect(socket_, &keys_.at(who)); }
  Client as(const std::string& who) { return std::move(connect(who).value()); }
  void apply(const std::string& text) {
    Client admin = client();
    auto said = admin.ask<protocol::Text>(protocol::ApplyPolicy{text, "p", folder_, false});
    ASSERT_TRUE(said) << said.error().to_string();
  }
  bool comes_back() {
    ::kill(broker_, SIGKILL);
    return wait_until([&] { return connect("bob").has_value(); }) < 10 * second;
  }
  std::map<std::string, SecretKey> keys_;
};

bool is_root() { return ::geteuid() == 0; }
void be_nobody() {
  if (::setgroups(0, nullptr) != 0 || ::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(77);
}
bool cut(const Fd& file) { return ::ftruncate(file.get(), 4096) == 0; }

// A file of another size than the state says would end each broker that comes after.
TEST_F(Greedy, AFileIsNotCutByItsWriter) {
  serve(policy("exclusive", {{"alice", "rw"}, {"bob", "r"}}));
  Client alice = as("alice");
  auto opened = alice.ask<protocol::Opened>(protocol::OpenRegion{"orders", true});
  ASSERT_TRUE(opened);
  EXPECT_FALSE(cut(alice.fds.at(0))) << "an exclusive index, before it is confirmed";
  EXPECT_EQ(errno, EPERM);
  ASSERT_TRUE(alice.ask<protocol::IndexReady>(protocol::IndexMapped{opened->grant}));
  auto created = alice.ask<protocol::SegmentCreated>(protocol::CreateSegment{opened->grant, 100});
  ASSERT_TRUE(created);
  EXPECT_FALSE(cut(alice.fds.at(0))) << "a segment, before it is confirmed";
  EXPECT_EQ(errno, EPERM);
  EXPECT_TRUE(comes_back());
}

// What a revoked writer still has mapped writable is not what others read from then on, however often it
// attended to earlier news without doing what it was told.
TEST_F(Greedy, ARevokedWriterKeepsNoIndexThatOthersRead) {
  const std::string all = policy("exclusive", {{"alice", "rw"}, {"bob", "r"}, {"carol", "r"}});
  serve(all);
  for (bool twice : {false, true}) {
    apply(all);
    Client alice = as("alice"), bob = as("bob"), admin = client();
    auto hers = alice.open("orders", true);
    ASSERT_TRUE(hers);
    ASSERT_TRUE(alice.create(hers->grant));
    auto his = bob.open("orders", false);
    ASSERT_TRUE(his);
    ASSERT_TRUE(admin.send(
        protocol::ApplyPolicy{policy("exclusive", {{"alice", "rw"}, {"carol", "r"}}), "p", folder_, false}));
    wait_until([&] { return alice.word(hers->grant) != alice.heard[hers->grant]; });
    EXPECT_FALSE(bob.attend(his->grant));
    ASSERT_TRUE(alice.attend(hers->grant));
    if (twice) {
      ASSERT_TRUE(alice.attend(hers->grant));
    }
    ASSERT_TRUE(admin.receive<protocol::Text>());
    apply(policy("exclusive", {{"carol", "r"}}));
    EXPECT_FALSE(alice.attend(hers->grant));
    Client carol = as("carol");
    ASSERT_TRUE(carol.open("orders", false));
    auto word = [](Client& client) {
      return reinterpret_cast<volatile std::uint64_t*>(client.index.data() + 4096);
    };
    *word(alice) = 0xdeadbeef;
    EXPECT_NE(*word(carol), 0xdeadbeef) << (twice ? "attended twice" : "attended once");
  }
}

TEST_F(Greedy, AStrangerDoesNotLockOthersOut) {
  if (!is_root()) GTEST_SKIP() << "needs root, for a second uid";
  serve(policy("shared", {{"alice", "rw"}}));
  Words ready;
  Process stranger([&] {
    be_nobody();
    std::vector<protocol::Connection> held;
    for (std::size_t i = 0; i < strangers_max; ++i)
      if (auto connection = protocol::connect(socket_)) held.push_back(std::move(*connection));
    ready.say();
    ::pause();
    return 0;
  });
  ASSERT_NE(ready.hear(), 0);
  EXPECT_TRUE(connect("alice")) << "silent connections";
}

TEST_F(Greedy, AUidWithoutAGrantHasFewSessions) {
  if (!is_root()) GTEST_SKIP() << "needs root, for a second uid";
  serve(policy("shared", {{"alice", "rw"}}));
  Process stranger([&] {
    be_nobody();
    std::vector<Client> held;
    held.reserve(sessions_of_stranger_max + 1);
    for (std::size_t i = 0; i < sessions_of_stranger_max; ++i) {
      auto session = Client::connect(socket_);
      if (!session) return 1;
      held.push_back(std::move(*session));
    }
    auto another = Client::connect(socket_);
    return !another && another.error().code == Code::quota ? 0 : 2;
  });
  EXPECT_EQ(stranger.wait(), 0);
  EXPECT_TRUE(connect("alice"));
}

TEST_F(Greedy, AUidDoesNotTakeAllGrantWords) {
  if (!is_root()) GTEST_SKIP() << "needs root, for a second uid";
  serve(policy("shared", {{"alice", "rw"}, {"bob", "r"}}));
  Process reader([&] {
    be_nobody();
    std::vector<Client> held;
    std::size_t opened = 0;
    for (int i = 0; i < 8; ++i) {
      auto session = connect("bob");
      if (!session) return 1;
      held.push_back(std::move(*session));
      for (std::size_t k = 0; k < opens_of_session_max; ++k)
        if (held.back().ask<protocol::Opened>(protocol::OpenRegion{"orders", false})) ++opened;
    }
    return opened == grants_of_uid_max ? 0 : 2;
  });
  EXPECT_EQ(reader.wait(), 0);
  Client alice = as("alice");
  EXPECT_TRUE(alice.open("orders", true));
}

// Whoever opens a region often enough makes the status longer than a message.
TEST_F(Greedy, AStatusThatIsTooLongLeavesRowsOffAndSaysHowMany) {
  serve(policy("shared", {{"alice", "rw"}, {"bob", "r"}}));
  Client bob = as("bob"), admin = client();
  while (bob.ask<protocol::Opened>(protocol::OpenRegion{"orders", false})) {}
  for (Client* who : {&bob, &admin}) {
    auto status = who->status();
    ASSERT_TRUE(status) << status.error().to_string();
    EXPECT_GE((*status)["left_off"]["sessions"], 1);
    EXPECT_EQ((*status)["broker"]["pid"], broker_);
  }
}

TEST_F(Greedy, AWriterDoesNotUseUpWriterIds) {
  serve(policy("shared", {{"alice", "rw"}}));
  Client alice = as("alice");
  auto opened = alice.open("orders", true);
  ASSERT_TRUE(opened);
  ASSERT_TRUE(alice.ask<protocol::Writer>(protocol::FreshWriter{opened->grant}));
  auto another = alice.ask<protocol::Writer>(protocol::FreshWriter{opened->grant});
  ASSERT_FALSE(another);
  EXPECT_EQ(another.error().code, Code::quota);
}

// Descriptors under way count against the broker's user: whoever does not take them is cut off.
TEST_F(Greedy, WhoDoesNotTakeDescriptorsIsCutOff) {
  serve(policy("shared", {{"alice", "rw"}, {"bob", "r"}}));
  Client alice = as("alice");
  auto hers = alice.open("orders", true);
  ASSERT_TRUE(hers);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(alice.create(hers->grant));
  Client bob = as("bob");
  auto his = bob.open("orders", false);
  ASSERT_TRUE(his);
  auto request = protocol::encode(protocol::Request{77, protocol::MapSegments{his->grant, {}}}).value();
  unsigned sent = 0;
  while (sent < 1000 && bob.connection.send(as_bytes(request), monotonic_ns() + second)) ++sent;
  EXPECT_LT(sent, 1000u);
  EXPECT_TRUE(alice.create(hers->grant)) << "others go on";
}

std::uint64_t cpu_ticks(pid_t pid) {
  std::ifstream stat(fmt::format("/proc/{}/stat", pid));
  std::string text((std::istreambuf_iterator<char>(stat)), {});
  std::istringstream fields(text.substr(text.rfind(')') + 1));
  std::vector<std::string> all{std::istream_iterator<std::string>(fields), {}};
  return std::stoull(all.at(11)) + std::stoull(all.at(12));
}

// What others leave under way is not held against whoever asks next, who has an answer once it is gone.
TEST_F(Greedy, WhoAsksWhileOthersLeaveDescriptorsUntakenIsAnsweredLater) {
  if (!is_root()) GTEST_SKIP() << "needs root, for a broker that is not: root may have any number under way";
  constexpr rlim_t broker_files = 256, hoarder_files = 4096;
  const crypto::PublicKey pinned = crypto::write_new_pair(folder_ + "/broker").value();
  for (const std::string& path : {folder_, folder_ + "/broker"})
    ASSERT_EQ(::chown(path.c_str(), 65534, 65534), 0);
  serve(
      policy("shared", {{"alice", "rw"}, {"bob", "r"}}),
      [&] {
        const rlimit few{broker_files, broker_files};
        if (::setrlimit(RLIMIT_NOFILE, &few) != 0) ::_exit(78);
        be_nobody();
        // As a program of that user begins: the allocator needs its own oom_score_adj.
        if (::prctl(PR_SET_DUMPABLE, 1) != 0) ::_exit(78);
      },
      {}, folder_ + "/broker");
  auto pinning = [&](const std::string& who) {
    return std::move(
        Client::connect_with(socket_, {.key = &keys_.at(who), .broker_key = pinned, .resume = {}}).value());
  };
  Client alice = pinning("alice"), bob = pinning("bob");
  auto hers = alice.open("orders", true);
  auto his = bob.open("orders", false);
  ASSERT_TRUE(hers && his);
  ASSERT_TRUE(alice.create(hers->grant));
  Words ready;
  Process hoarder([&] {
    const rlimit many{hoarder_files, hoarder_files};
    if (::setrlimit(RLIMIT_NOFILE, &many) != 0) return 78;
    be_nobody();
    auto ends = protocol::Connection::pair().value();
    const std::vector<int> fds(protocol::fds_max / 2, STDIN_FILENO);
    for (rlim_t under_way = 0; under_way <= 2 * broker_files; under_way += fds.size())
      if (!ends.first.send(as_bytes(std::string("x")), in_10_s(), fds)) return 79;
    ready.say();
    ::pause();
    return 0;
  });
  ASSERT_EQ(ready.hear(), 'x');
  ASSERT_TRUE(bob.send(protocol::MapSegments{his->grant, {}}));
  const std::uint64_t ticks = cpu_ticks(broker_);
  auto early = bob.receive<protocol::Segments>(monotonic_ns() + unread_ns + second / 2);
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().code, Code::timed_out) << "it is not cut off: " << early.error().to_string();
  EXPECT_LT(cpu_ticks(broker_) - ticks, 50u) << "the broker does not try without end";
  EXPECT_TRUE(alice.attend(hers->grant)) << "what needs no descriptor is answered";
  hoarder.kill(SIGKILL);
  auto late = bob.receive<protocol::Segments>();
  ASSERT_TRUE(late) << late.error().to_string();
  EXPECT_EQ(late->rows.size(), 1u);
}

}  // namespace
}  // namespace bailey::broker
