#include "bailey/policy/identity.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "bailey/policy/testing.h"

namespace bailey::policy {
namespace {

using testing::fixed_context;
using testing::key_one;

Result<ParsedIdentity> parsed(std::string_view text) {
  return parse_identity(text, "/keys", fixed_context().lookups);
}

TEST(Identity, ReadsNumbersNamesAndKeys) {
  EXPECT_EQ(parsed("user:64101")->identity, (Identity{Identity::Kind::user, 64101, {}}));
  EXPECT_EQ(parsed("user:alice")->identity, (Identity{Identity::Kind::user, 1000, {}}));
  EXPECT_EQ(parsed("group:staff")->identity, (Identity{Identity::Kind::group, 50, {}}));
  Identity key = parsed("key:" + key_one)->identity;
  for (std::size_t i = 0; i < key.key.size(); ++i) EXPECT_EQ(key.key[i], i + 1);
  EXPECT_EQ(parsed("key:@one.pub")->identity, key);
  EXPECT_EQ(parsed("key:@/keys/one.pub")->identity, key);
  EXPECT_EQ(key.to_string(), "key:" + key_one);
}

TEST(Identity, WarnsOfAKeyFileThatAllMayWrite) {
  EXPECT_EQ(parsed("key:@one.pub")->warning, "");
  EXPECT_EQ(parsed("key:@open.pub")->warning,
            "the key file \"/keys/open.pub\" can be written by everybody, who can so become this principal");
}

TEST(Identity, RefusesWithWhatWasMeant) {
  struct Case {
    std::string text;
    const char* message;
    const char* remedy;
  };
  const Case cases[] = {
      {"", "the identity \"\" has no kind", "an identity is user:WHO, group:WHO or key:BASE64"},
      {"alice", "the identity \"alice\" has no kind", "did you mean \"user:alice\"?"},
      {"usr:alice", "the identity \"usr:alice\" has an unknown kind", "did you mean \"user\"?"},
      {"user:", "\"user:\" names nobody", "such as \"user:1000\""},
      {"user:-1", "the user number \"-1\" is negative", ""},
      {"user:4294967295", "\"4294967295\" is no user number", "numbers go from 0 to 4294967294"},
      {"user:10x", "\"10x\" is no user number", "numbers go from 0 to 4294967294"},
      {"user:bob", "this machine has no user \"bob\"",
       "create the user, or write its number, \"user:NUMBER\""},
      {"group:bob", "this machine has no group \"bob\"",
       "create the group, or write its number, \"group:NUMBER\""},
      {"key:@", "\"key:@\" names no file", "such as \"key:@alice.pub\""},
      {"key:@none.pub", "could not open the key file \"/keys/none.pub\"",
       "`bailey principal add` makes a key pair"},
      {"key:@bad.pub",
       "the key file \"/keys/bad.pub\": a public key is 44 characters of base64 that end in \"=\"; this one "
       "has 5",
       ""},
      {"key:" + std::string(88, 'A'), "the key has 64 bytes, a public key has 32",
       "is it the private key? keep that one secret"},
      {"key:" + std::string(43, 'A') + "=", "the key is all zeros, which everybody can sign for", ""},
      {"key:" + std::string(42, 'A') + "B=", "the key's last character is not canonical base64", ""},
      {"key:!" + std::string(42, 'A') + "=", "the key has \"!\", which is not base64", ""},
  };
  for (const Case& one : cases) {
    auto identity = parsed(one.text);
    ASSERT_FALSE(identity) << one.text;
    EXPECT_EQ(identity.error().message, one.message);
    EXPECT_EQ(identity.error().remedy, one.remedy) << one.text;
  }
}

TEST(Identity, AKeyHasOneText) {
  PublicKey key{};
  for (unsigned bit = 0; bit < 256; ++bit) {
    key = {};
    key[bit / 8] = static_cast<std::uint8_t>(1u << bit % 8);
    std::string text = public_key_text(key);
    EXPECT_EQ(text.size(), 44u);
    EXPECT_EQ(*parse_public_key(text), key);
  }
}

TEST(Identity, TheMachineIsAskedForNames) {
  Lookups system = Lookups::of_system();
  EXPECT_EQ(*system.user("root"), 0u);
  EXPECT_EQ(*system.group("root"), 0u);
  EXPECT_EQ(system.user("no-such-user-here").error().code, Code::not_found);
  EXPECT_EQ(system.group("no-such-group-here").error().code, Code::not_found);
}

TEST(Identity, KeyFilesAreSmallRegularFiles) {
  char folder[] = "/tmp/bailey-policy-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  std::string base = folder;
  std::ofstream(base + "/good") << "text";
  ASSERT_EQ(chmod((base + "/good").c_str(), 0644), 0);
  std::ofstream(base + "/open") << "text";
  ASSERT_EQ(chmod((base + "/open").c_str(), 0666), 0);
  std::ofstream(base + "/big") << std::string(4097, 'a');
  ASSERT_EQ(mkfifo((base + "/pipe").c_str(), 0600), 0);
  Lookups system = Lookups::of_system();
  EXPECT_EQ(system.key_file(base + "/good")->text, "text");
  EXPECT_FALSE(system.key_file(base + "/good")->writable_by_all);
  EXPECT_TRUE(system.key_file(base + "/open")->writable_by_all);
  EXPECT_EQ(system.key_file(base + "/none").error().os, ENOENT);
  // None of these may block or buy memory without bound.
  EXPECT_EQ(system.key_file(base + "/pipe").error().code, Code::invalid_argument);
  EXPECT_EQ(system.key_file(base).error().code, Code::invalid_argument);
  EXPECT_EQ(system.key_file("/dev/zero").error().code, Code::invalid_argument);
  EXPECT_EQ(system.key_file(base + "/big").error().code, Code::invalid_argument);
  std::filesystem::remove_all(base);
}

}  // namespace
}  // namespace bailey::policy
