// The rung `encrypted` through a real broker: where keys come from, who has them, and how they are renewed.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "bailey/broker/test_support.h"
#include "bailey/crypto/key_chain.h"
#include "tools/e2e/house.h"

namespace bailey::e2e {
namespace {

using ::testing::HasSubstr;

class Encrypted : public House {
 protected:
  void SetUp() override {
    House::SetUp();
    protect_ = "\"process\", \"encrypted\"";
  }
  nlohmann::json region_status() const {
    return nlohmann::json::parse(session("").value().status().value()).at("regions").at(0);
  }
  Status apply(const std::string& text) const {
    auto admin = BAILEY_TRY(session("", 10'000));
    BAILEY_TRY(admin.apply_policy(text, "policy.toml", folder_, false));
    return {};
  }
  // What the broker tells a session that speaks the protocol itself: the key, and all bytes of the region.
  struct Given {
    std::optional<protocol::RegionKey> key;
    std::string bytes;
  };
  Given given(const std::string& who, const Token* token = nullptr) const {
    auto secret = crypto::read_secret_key(key_file(who)).value();
    auto client = broker::Client::connect(socket(), &secret).value();
    const std::string shown(token != nullptr ? as_text(token->bytes()) : "");
    auto opened = client.ask<protocol::Opened>(protocol::OpenRegion{"orders", false, shown}).value();
    client.index = Mapping::of_file(client.fds.at(0).get(), opened.index_bytes, Access::read_only).value();
    Given all{opened.key, std::string(as_text(client.index.span()))};
    auto rows = client.ask<protocol::Segments>(protocol::MapSegments{opened.grant, {}}).value().rows;
    for (std::size_t i = 0; i < rows.size(); ++i)
      all.bytes +=
          as_text(Mapping::of_file(client.fds.at(i).get(), rows[i].bytes, Access::read_only).value().span());
    return all;
  }
  void put_secrets() const {
    auto alice = session("alice").value();
    auto table = alice.open_table("orders", Access::read_write).value();
    for (int i = 0; i < 100; ++i)
      ASSERT_TRUE(table.put(fmt::format("account-of-carol-{}", i), fmt::format("balance-of-carol-{}", i)));
  }
};
class EncryptedIn : public Encrypted, public ::testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Modes, EncryptedIn, ::testing::Values("exclusive", "shared"));

TEST_P(EncryptedIn, KeysValuesAndTheKeyAreNowhereInThePool) {
  serve(policy(GetParam()));
  put_secrets();
  const Given bobs = given("bob");
  ASSERT_TRUE(bobs.key);
  EXPECT_EQ(bobs.bytes.find("carol"), std::string::npos);
  EXPECT_EQ(bobs.bytes.find(as_text(bobs.key->bytes())), std::string::npos);
  auto bob = session("bob").value();
  std::string value;
  ASSERT_TRUE(bob.open_table("orders", Access::read_only).value().get("account-of-carol-7", value));
  EXPECT_EQ(value, "balance-of-carol-7");
  EXPECT_THAT(region_status().at("posture").dump(), HasSubstr("aes-256-gcm"));
}

// The canary: where nothing is encrypted it is all there, and no key is given.
TEST_P(EncryptedIn, WithoutItTheyAre) {
  protect_ = "\"process\"";
  serve(policy(GetParam()));
  put_secrets();
  const Given bobs = given("bob");
  EXPECT_FALSE(bobs.key);
  EXPECT_NE(bobs.bytes.find("account-of-carol-7"), std::string::npos);
  EXPECT_NE(bobs.bytes.find("balance-of-carol-7"), std::string::npos);
}

TEST_P(EncryptedIn, RotationStopsNobody) {
  serve(policy(GetParam()));
  Board board;
  enum : unsigned { stop, reads, writes };
  broker::Process reader([&] {
    auto bob = session("bob").value();
    auto table = bob.open_table("orders", Access::read_only).value();
    std::string value;
    for (int i = 0; board.get(stop) == 0; ++i) {
      auto found = table.get(fmt::format("key{}", i % 50), value);
      if (!found && found.error().code != Code::not_found)
        return fmt::print(stderr, "get: {}\n", found.error().to_string()), 2;
      if (found) board.add(reads);
    }
    return 0;
  });
  broker::Process writer([&] {
    auto alice = session("alice").value();
    auto table = alice.open_table("orders", Access::read_write).value();
    for (int i = 0; board.get(stop) == 0; ++i) {
      auto put = table.put(fmt::format("key{}", i % 50), fmt::format("value{}", i));
      if (!put) return fmt::print(stderr, "put: {}\n", put.error().to_string()), 3;
      board.add(writes);
    }
    return 0;
  });
  for (unsigned round = 1; round <= 3; ++round) {
    ASSERT_TRUE(board.reaches(writes, board.get(writes) + 100));
    ASSERT_TRUE(board.reaches(reads, board.get(reads) + 100));
    auto rotated = session("", 10'000).value().rotate_key("orders");
    ASSERT_TRUE(rotated) << rotated.error().to_string();
    EXPECT_EQ(*rotated, fmt::format("region orders has the key of generation {}", round + 1));
  }
  ASSERT_TRUE(board.reaches(writes, board.get(writes) + 100));
  ASSERT_TRUE(board.reaches(reads, board.get(reads) + 100));
  board.set(stop, 1);
  EXPECT_EQ(reader.wait(), 0);
  EXPECT_EQ(writer.wait(), 0);
  EXPECT_EQ(region_status().at("key_generation"), 4);
}

// With the key that mallory was given she opens nothing that is written after her revocation has returned.
TEST_P(EncryptedIn, WhoLosesTheRightToReadHasNoKeyToWhatIsNewer) {
  serve(policy(GetParam()) + "[[grant]]\nprincipal = \"mallory\"\nregion = \"orders\"\nrights = \"r\"\n");
  const Given mallorys = given("mallory");
  ASSERT_TRUE(mallorys.key);
  EXPECT_EQ(mallorys.key->generation, 1);
  auto alice = session("alice").value();
  auto table = alice.open_table("orders", Access::read_write).value();
  ASSERT_TRUE(table.put("before", "x"));
  broker::Process other([&] {  // alice attends when she next does something
    return apply(policy(GetParam())) ? 0 : 1;
  });
  EXPECT_EQ(other.wait(), 0);
  ASSERT_TRUE(table.put("after", "y"));
  const Given bobs = given("bob");
  ASSERT_TRUE(bobs.key);
  EXPECT_EQ(bobs.key->generation, 2);
  // Hers follows from his, and not the other way round.
  auto chain = crypto::KeyChain::create(2, bobs.key->bytes()).value();
  EXPECT_TRUE(std::ranges::equal(chain.key(1), mallorys.key->bytes()));
  EXPECT_FALSE(std::ranges::equal(bobs.key->bytes(), mallorys.key->bytes()));
  std::string value;
  auto reading = session("bob").value();
  auto read = reading.open_table("orders", Access::read_only).value();
  EXPECT_TRUE(read.get("before", value));
  EXPECT_TRUE(read.get("after", value));
}

// A key that was given is not forgotten with the session that it was given to.
TEST_F(Encrypted, WhoHadTheRightToReadAndIsGoneHasNoKeyToWhatIsNewer) {
  const std::string mallory = "[[grant]]\nprincipal = \"mallory\"\nregion = \"orders\"\nrights = \"r\"\n";
  serve(policy("shared") + mallory);
  const Given mallorys = given("mallory");
  ASSERT_TRUE(mallorys.key);
  broker::wait_until([&] { return region_status().at("readers") == 0; });
  ASSERT_TRUE(apply(policy("shared")));
  EXPECT_EQ(region_status().at("key_generation"), 2);
  const Given bobs = given("bob");
  ASSERT_TRUE(bobs.key);
  EXPECT_FALSE(std::ranges::equal(bobs.key->bytes(), mallorys.key->bytes()));
}

// A grant that only lets somebody write less, or gives somebody more, renews nothing.
TEST_F(Encrypted, AKeyStaysWhereNobodyLosesTheRightToRead) {
  serve(policy("shared"));
  ASSERT_TRUE(
      apply(policy("shared") + "[[grant]]\nprincipal = \"mallory\"\nregion = \"orders\"\nrights = \"rw\"\n"));
  ASSERT_TRUE(
      apply(policy("shared") + "[[grant]]\nprincipal = \"mallory\"\nregion = \"orders\"\nrights = \"r\"\n"));
  EXPECT_EQ(region_status().at("key_generation"), 1);
}

// Who was given the key by a token loses the right to read with the token.
TEST_P(EncryptedIn, AnEndedTokenOpensNothingThatIsNewer) {
  serve(policy(GetParam()));
  auto admin = session("", 10'000).value();
  Token used = admin.mint_token("orders", {}).value(), unused = admin.mint_token("orders", {}).value();
  const Given mallorys = given("mallory", &used);
  ASSERT_TRUE(mallorys.key);
  EXPECT_EQ(mallorys.key->generation, 1);
  ASSERT_TRUE(admin.revoke_token(unused.id()));
  EXPECT_EQ(region_status().at("key_generation"), 1) << "it gave nobody a key";
  ASSERT_TRUE(admin.revoke_token(used.id()));
  EXPECT_EQ(region_status().at("key_generation"), 2) << "once, and no more";
  put_secrets();
  const Given bobs = given("bob");
  ASSERT_TRUE(bobs.key);
  EXPECT_FALSE(std::ranges::equal(bobs.key->bytes(), mallorys.key->bytes()));
}

// Narrowed by its holder, without asking anybody: no token of the broker's ends. Who does it again and again
// has the region renewed once in ten seconds.
TEST_F(Encrypted, WhatATokenWasNarrowedToEndsWithANewKey) {
  serve(policy("shared"));
  auto admin = session("", 10'000).value();
  const Token token = admin.mint_token("orders", {}).value();
  auto narrowed = [&] { return token.narrow(capability::Expiry{wall_ns() / 1'000'000'000 + 2}).value(); };
  auto has_key = [&](int generation) { return region_status().at("key_generation") == generation; };
  const Token one = narrowed();
  const Given mallorys = given("mallory", &one);
  ASSERT_TRUE(mallorys.key);
  ASSERT_TRUE(has_key(1));
  EXPECT_LT(broker::wait_until([&] { return has_key(2); }), 5 * second);
  const std::uint64_t renewed_ns = monotonic_ns();
  const Token two = narrowed();
  ASSERT_TRUE(given("mallory", &two).key);
  auto session_of_bob = session("bob").value();
  Table bobs = session_of_bob.open_table("orders", Access::read_only, &two).value();
  std::string value;
  EXPECT_LT(broker::wait_until([&] {
              auto got = bobs.get("none", value);
              return !got && got.error().code == Code::revoked;
            }),
            5 * second)
      << "at once";
  EXPECT_FALSE(session_of_bob.open_table("orders", Access::read_only, &two)) << "at once";
  EXPECT_TRUE(has_key(2)) << "a second key within seconds";
  broker::wait_until([&] { return has_key(3); });
  EXPECT_LT(broker::wait_until([&] { return has_key(3); }), 5 * second);
  EXPECT_GT(monotonic_ns() - renewed_ns, 9 * second);
}

TEST_F(Encrypted, RotationIsForAdminsAndForEncryptedRegions) {
  serve(policy("shared") +
        "[region.plain]\nkind = \"table\"\nsize = \"4MiB\"\n[broker]\nadmins = [\"mallory\"]\n");
  auto alice = session("alice", 10'000).value();
  EXPECT_EQ(alice.rotate_key("orders").error().code, Code::denied);
  auto admin = session("mallory", 10'000).value();
  EXPECT_EQ(admin.rotate_key("nothing").error().code, Code::not_found);
  EXPECT_EQ(admin.rotate_key("plain").error().code, Code::unsupported);
  EXPECT_TRUE(admin.rotate_key("orders"));
}

TEST_F(Encrypted, WithTheOtherCipher) {
  std::string text = policy("shared");
  const std::string at = "records = 20000\n";
  text.insert(text.find(at) + at.size(), "cipher = \"xchacha20\"\n");
  serve(text);
  put_secrets();
  const Given bobs = given("bob");
  ASSERT_TRUE(bobs.key);
  EXPECT_EQ(bobs.key->cipher, crypto::Cipher::xchacha20_poly1305);
  EXPECT_EQ(bobs.bytes.find("carol"), std::string::npos);
  std::string value;
  auto bob = session("bob").value();
  ASSERT_TRUE(bob.open_table("orders", Access::read_only).value().get("account-of-carol-99", value));
  EXPECT_EQ(value, "balance-of-carol-99");
}

// Which is said to whoever takes a right, and not passed over; nobody new writes what could not be kept from
// them.
TEST_F(Encrypted, TheLastKeyIsSaidToBeTheLast) {
  auto two = [&](bool with_bob) {
    return policy("shared", with_bob) + "[region.other]\nkind = \"table\"\nsize = \"4MiB\"\nprotect = [" +
           protect_ + "]\n";
  };
  serve(two(true));
  auto admin = session("", 10'000).value();
  auto rotated = [&](crypto::Generation until) {
    for (crypto::Generation at = region_status().at("key_generation"); at < until; ++at)
      ASSERT_TRUE(admin.rotate_key("orders"));
  };
  auto not_stopped = [&] { return region_status().at("posture").at("not_stopped").dump(); };
  const auto warned = crypto::generations_max / 10 * 9;
  rotated(warned - 1);
  EXPECT_THAT(not_stopped(), ::testing::Not(HasSubstr("keys; after the last")));
  rotated(warned);
  EXPECT_THAT(not_stopped(), HasSubstr(fmt::format("has used {} of its 8192 keys", warned)));
  rotated(crypto::generations_max - 1);
  auto alice = session("alice", 10'000).value();
  Table table = alice.open_table("orders", Access::read_write).value();
  ASSERT_TRUE(table.put("key", "value"));
  const Token one = admin.mint_token("orders", {}).value(), next = admin.mint_token("orders", {}).value();
  ASSERT_TRUE(given("mallory", &one).key);
  auto said = admin.revoke_token(one.id());
  ASSERT_TRUE(said) << said.error().to_string();
  EXPECT_THAT(*said, ::testing::Not(HasSubstr("keeps its key"))) << "there was one more";
  EXPECT_THAT(*said, HasSubstr("has used 8192 of its 8192 keys"));
  ASSERT_TRUE(given("mallory", &next).key);
  said = admin.revoke_token(next.id());
  ASSERT_TRUE(said) << said.error().to_string();
  EXPECT_THAT(*said, HasSubstr("region orders keeps its key: its chain is at its end"));
  ASSERT_TRUE(given("bob").key);
  auto applied = admin.apply_policy(two(false), "policy.toml", folder_, false);
  ASSERT_TRUE(applied) << applied.error().to_string();
  EXPECT_THAT(*applied, HasSubstr("region orders keeps its key: its chain is at its end"));
  auto refused = session("alice").value().open_table("orders", Access::read_write);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().to_string(), HasSubstr("takes no new writers"));
  EXPECT_FALSE(admin.rotate_key("orders"));
  EXPECT_TRUE(session("alice").value().open_table("orders", Access::read_only));
  EXPECT_TRUE(table.put("key", "of who had it open")) << "what is under way is not lost";
}

// A broker that takes over makes the same keys.
TEST_F(Encrypted, ABrokersDeathChangesNoKey) {
  serve(policy("exclusive"));
  put_secrets();
  const Given before = given("bob");
  ::kill(broker_, SIGKILL);
  std::string value;
  auto bob = session("bob", 10'000).value();
  ASSERT_TRUE(bob.open_table("orders", Access::read_only).value().get("account-of-carol-1", value));
  const Given after = given("bob");
  ASSERT_TRUE(before.key && after.key);
  EXPECT_EQ(*before.key, *after.key);
}

// ---- pools in files, which outlive their broker

class EncryptedFiles : public Encrypted {
 protected:
  std::string file_policy() const {
    std::string text = policy("exclusive");
    const std::string medium = "memory:256MiB";
    return text.replace(text.find(medium), medium.size(), "file:" + folder_ + "/pool");
  }
  // What `serve` says; it is stopped as soon as it is ready.
  Error try_to_serve(const std::string& key) const {
    std::ofstream(folder_ + "/policy.toml") << file_policy();
    broker::ServeOptions options;
    options.policy_file = folder_ + "/policy.toml";
    options.socket_path = socket();
    options.key_file = key;
    options.ready = [](const broker::Running&) { ::kill(::getpid(), SIGTERM); };
    auto page = Mapping::anonymous(4096).value();
    broker::Process keeper([&] {
      auto served = broker::serve_until_stopped(options);
      if (served) return 0;
      std::snprintf(reinterpret_cast<char*>(page.data()), 4000, "%s", served.error().to_string().c_str());
      return 1;
    });
    const bool good = keeper.wait() == 0;
    return good ? Error{} : Error{Code::unavailable, By::broker, 0, reinterpret_cast<char*>(page.data()), {}};
  }
  void SetUp() override {
    Encrypted::SetUp();
    ASSERT_EQ(::mkdir((folder_ + "/pool").c_str(), 0700), 0);
    ASSERT_TRUE(crypto::write_new_pair(folder_ + "/kept"));
    ASSERT_TRUE(crypto::write_new_pair(folder_ + "/other"));
  }
};

TEST_F(EncryptedFiles, AreRefusedWithoutAKeyThatIsKept) {
  EXPECT_THAT(try_to_serve("").message, HasSubstr("--key FILE"));
  ASSERT_TRUE(crypto::write_new_pair(folder_ + "/pool/inside"));
  EXPECT_THAT(try_to_serve(folder_ + "/pool/inside").message, HasSubstr("the pool's own folder"));
  EXPECT_EQ(try_to_serve(folder_ + "/kept").message, "");
}

TEST_F(EncryptedFiles, OpenUnderTheKeyThatMadeThemAlone) {
  ASSERT_EQ(try_to_serve(folder_ + "/kept").message, "");
  EXPECT_THAT(try_to_serve(folder_ + "/other").message, HasSubstr("another broker's key"));
  EXPECT_THAT(try_to_serve("").message, HasSubstr("another broker's key"));
  EXPECT_EQ(try_to_serve(folder_ + "/kept").message, "");
}

}  // namespace
}  // namespace bailey::e2e
