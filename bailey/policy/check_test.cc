#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "bailey/policy/document.h"
#include "bailey/policy/policy.h"
#include "bailey/policy/testing.h"

namespace bailey::policy {
namespace {

using testing::alice;
using testing::fixed_context;
using testing::good;
using testing::grant;
using testing::key_one;
using testing::orders;
using testing::policy_of;
using testing::pool;

using Lines = std::vector<std::string>;

Lines complaints(const std::string& text, const ParseContext& context = fixed_context()) {
  Lines all;
  for (const Diagnostic& diagnostic : check(text, "f", "/keys", context).diagnostics)
    all.push_back(diagnostic.to_string());
  return all;
}

TEST(Check, AGoodPolicyBecomesValues) {
  Policy policy = policy_of(
      "[pool]\nname = \"courtyard\"\nmedium = \"memory:4GiB?numa=1\"\n"
      "[broker]\nadmins = [\"user:root\", \"alice\"]\n"
      "[principal.alice]\nidentity = [\"user:64101\", \"group:staff\", \"key:@one.pub\"]\n"
      "[region.orders]\nkind = \"table\"\nsize = \"256MiB\"\nmode = \"shared\"\nrecords = 200000\nquota = "
      "\"64MiB\"\n"
      "protect = [\"process\", \"pkey?\"]\n"
      "[region.log]\nkind = \"channel\"\nsize = 4194304\n"
      "[[grant]]\nprincipal = \"alice\"\nregion = \"*\"\nrights = \"rw\"\nsessions = 64\nsegments = 8\n"
      "requests_per_second = 100\nbytes = \"32MiB\"\n");
  EXPECT_EQ(policy.pool, "courtyard");
  EXPECT_EQ(policy.medium.bytes, std::uint64_t{4} << 30);
  EXPECT_EQ(policy.admins, (std::vector<Identity>{{Identity::Kind::user, 0, {}}}));
  EXPECT_EQ(policy.admin_principals, std::vector<std::string>{"alice"});
  ASSERT_EQ(policy.principals.size(), 1u);
  EXPECT_EQ(policy.principals[0].identities.size(), 3u);
  EXPECT_EQ(policy.principals[0].identities[1], (Identity{Identity::Kind::group, 50, {}}));
  const Region* region = policy.find_region("orders");
  ASSERT_NE(region, nullptr);
  EXPECT_EQ(region->bytes, 256u << 20);
  EXPECT_EQ(region->mode, Mode::shared);
  EXPECT_EQ(region->records, 200000u);
  EXPECT_EQ(region->quota_bytes, 64u << 20);
  EXPECT_EQ(region->protect, (std::vector<Protection>{{"process", false, true}, {"pkey", true, false}}));
  const Region* log = policy.find_region("log");
  ASSERT_NE(log, nullptr);
  EXPECT_EQ(log->mode, Mode::exclusive);
  EXPECT_EQ(log->quota_bytes, log->bytes);
  EXPECT_EQ(log->protect, (std::vector<Protection>{{"process", false, true}}));
  ASSERT_EQ(policy.grants.size(), 1u);
  EXPECT_EQ(policy.grants[0].rights, Rights::write);
  EXPECT_EQ(policy.grants[0].quotas, (Quotas{64, 8, 100, std::uint64_t{32} << 20}));
  EXPECT_EQ(policy.find_region("other"), nullptr);
}

TEST(Check, CommentsMayHoldAnyTextAndAByteOrderMarkIsNoMistake) {
  EXPECT_TRUE(check("\xef\xbb\xbf" + good + "# caf\xc3\xa9 \xe2\x80\x9c\n", "f", "", fixed_context()).ok());
}

TEST(Check, AdminsAreRootAndTheBrokerUnlessSaid) {
  EXPECT_EQ(policy_of(good).admins,
            (std::vector<Identity>{{Identity::Kind::user, 7, {}}, {Identity::Kind::user, 0, {}}}));
  ParseContext context = fixed_context();
  context.broker_uid = 0;
  EXPECT_EQ(parse(good, "f", "", context)->admins, (std::vector<Identity>{{Identity::Kind::user, 0, {}}}));
}

std::string with_region(const std::string& lines) { return pool + alice + "[region.orders]\n" + lines; }

TEST(Check, AWarningRefusesNothing) {
  struct Case {
    std::string text;
    std::vector<std::string> said;
  };
  const Case cases[] = {
      {pool, {"f:1:1: warning: the policy has no region, so nobody can open anything"}},
      {pool + alice + orders, {"f:6:9: warning: nobody has a grant on [region.orders]"}},
      {good + "[principal.bob]\nidentity = \"user:1\"\n",
       {"f:14:12: warning: [principal.bob] has the identity \"user:1\" of [principal.alice] too: whoever "
        "shows it is "
        "both"}},
      {good + "[principal.bob]\nidentity = [\"user:alice\", \"user:1000\"]\n",
       {"f:14:27: warning: [principal.bob] has the identity \"user:1000\" twice"}},
      {good + "[principal.bob]\nidentity = \"key:@open.pub\"\n",
       {"f:14:12: warning: the key file \"/keys/open.pub\" can be written by everybody, who can so become "
        "this "
        "principal"}},
      {pool + alice + orders +
           "[[grant]]\nprincipal = \"alice\"\nregion = \"*\"\nrights = \"r\"\nbytes = \"1MiB\"\n",
       {"f:13:9: warning: \"bytes\" limits writing, and this grant is for reading alone"}},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(complaints(one.text), one.said) << one.text;
    EXPECT_TRUE(check(one.text, "f", "/keys", fixed_context()).ok()) << one.text;
  }
}

TEST(Check, WarningsNeverHideAMistake) {
  std::string text = pool;
  for (int i = 0; i < 200; ++i) text += "[principal.p" + std::to_string(i) + "]\nidentity = \"user:1\"\n";
  EXPECT_TRUE(check(text, "f", "", fixed_context()).ok());
  text += "[region.orders]\nkind = \"table\"\nsise = 1\n";
  auto said = complaints(text);
  EXPECT_THAT(
      said, ::testing::Contains("f:406:1: unknown key \"sise\" in [region.orders]; did you mean \"size\"?"));
  EXPECT_THAT(said,
              ::testing::Contains(::testing::HasSubstr("more than 50 warnings; the rest is not shown")));
  EXPECT_FALSE(check(text, "f", "", fixed_context()).ok());
}

TEST(Check, WhatIsKnownButNotEnforcedIsRefusedWithTheReason) {
  ParseContext context = fixed_context();
  context.lacking["pkey"] = "this CPU has no protection keys";
  EXPECT_EQ(complaints(with_region("kind = \"table\"\nsize = \"8MiB\"\nprotect = [\"process\", \"pkey\"]\n"),
                       context),
            (std::vector<std::string>{
                "f:9:23: [region.orders] requires \"pkey\", and this CPU has no protection keys; leave it "
                "out, or \"pkey?\" takes it where it is available"}));
  context.enforced = {"none"};
  EXPECT_EQ(complaints(good, context),
            (std::vector<std::string>{
                "f:6:9: [region.orders] is protected by \"process\" unless it says otherwise, and this "
                "build does not enforce it"}));
  context.enforced = {"process", "pkey"};
  EXPECT_TRUE(check(with_region("kind = \"table\"\nsize = \"8MiB\"\nprotect = [\"process\", \"pkey\"]\n"),
                    "f", "", context)
                  .ok());
}

TEST(Check, LimitsHoldAndAreSaid) {
  const std::string on_files = "[pool]\nname = \"p\"\nmedium = \"file:/srv/pool\"\n";
  std::string principals = on_files, regions = on_files;
  auto principal = [](std::size_t i) {
    return "[principal.p" + std::to_string(i) + "]\nidentity = \"user:" + std::to_string(i) + "\"\n";
  };
  auto region = [](std::size_t i) {
    return "[region.r" + std::to_string(i) + "]\nkind = \"table\"\nsize = \"4MiB\"\n";
  };
  for (std::size_t i = 0; i < principals_max; ++i) principals += principal(i);
  for (std::size_t i = 0; i < regions_max; ++i) regions += region(i);
  EXPECT_TRUE(check(principals, "f", "", fixed_context()).ok());
  EXPECT_TRUE(check(regions, "f", "", fixed_context()).ok());
  EXPECT_EQ(complaints(principals + principal(principals_max)),
            Lines{"f:2052:12: more than 1024 principals"});
  EXPECT_EQ(complaints(regions + region(regions_max)), Lines{"f:1540:9: more than 512 regions"});

  std::string grants = principals;
  for (std::size_t i = 0; i < 5; ++i) grants += region(i);
  auto add = [&](std::size_t i) {
    grants += "[[grant]]\nprincipal = \"p" + std::to_string(i % principals_max) + "\"\nregion = \"r" +
              std::to_string(i / principals_max) + "\"\nrights = \"r\"\n";
  };
  for (std::size_t i = 0; i < grants_max; ++i) add(i);
  EXPECT_TRUE(check(grants, "f", "", fixed_context()).ok());
  add(grants_max);
  EXPECT_EQ(complaints(grants), Lines{"f:18451:1: more than 4096 grants"});

  std::string many = good;
  for (std::size_t i = 0; i <= errors_max + 10; ++i) many += grant;
  EXPECT_EQ(complaints(many).size(), errors_max + 1);
  EXPECT_THAT(complaints(many).back(), ::testing::HasSubstr("more than 100 mistakes; the rest is not shown"));

  std::string large = good + std::string(text_bytes_max + 1 - good.size(), '\n');
  EXPECT_EQ(complaints(large),
            std::vector<std::string>{
                "f:1:1: the policy has 1048577 bytes, more than the 1048576 that it may have"});
  large.pop_back();
  EXPECT_TRUE(check(large, "f", "/keys", fixed_context()).ok());
}

// A tree deep enough to overflow the stack when it is freed, by every way that TOML nests.
TEST(Check, DepthIsBounded) {
  std::string dots = "a", brackets, tables;
  for (int i = 0; i < 200'000; ++i) dots += ".a";
  for (int i = 0; i < 200'000; ++i) brackets += "[";
  for (int i = 0; i < 10'000; ++i) tables += "{a.a.a.a = [\n";
  for (const std::string& text : {dots + " = 1\n", "[" + dots + "]\n", "x = " + brackets + "\n",
                                  "x = " + tables, "x = \"\"\"\n\"\"\"\n" + dots + " = 1\n"}) {
    Checked checked = check(text, "f", "", fixed_context());
    EXPECT_FALSE(checked.ok());
    EXPECT_FALSE(checked.diagnostics.empty());
  }
}

TEST(Check, ParseTellsAllMistakesInOneError) {
  auto policy =
      parse(with_region("kind = \"tabel\"\nsise = 1\nsize = \"8MiB\"\n"), "p.toml", "", fixed_context());
  ASSERT_FALSE(policy);
  EXPECT_EQ(policy.error().code, Code::invalid_argument);
  EXPECT_EQ(policy.error().message,
            "the policy \"p.toml\" is refused, nothing is changed:\n"
            "  p.toml:7:8: unknown kind \"tabel\" in [region.orders]; did you mean \"table\"?\n"
            "  p.toml:8:1: unknown key \"sise\" in [region.orders]; did you mean \"size\"?");
}

TEST(Check, ValidateFindsEveryBrokenRule) {
  ASSERT_TRUE(validate(policy_of(good)));
  auto broken = [](auto&& change) {
    Policy policy = policy_of(good);
    change(policy);
    return !validate(policy).has_value();
  };
  EXPECT_TRUE(broken([](Policy& p) { p.pool = "Upper"; }));
  EXPECT_TRUE(broken([](Policy& p) { p.medium.bytes = 1; }));
  EXPECT_TRUE(broken([](Policy& p) { p.admins.clear(); }));
  EXPECT_TRUE(broken([](Policy& p) { p.admin_principals = {"nobody"}; }));
  EXPECT_TRUE(broken([](Policy& p) { p.principals.push_back(p.principals[0]); }));
  EXPECT_TRUE(broken([](Policy& p) { p.principals[0].identities.clear(); }));
  EXPECT_TRUE(broken([](Policy& p) { p.regions.push_back(p.regions[0]); }));
  EXPECT_TRUE(broken([](Policy& p) { p.regions[0].bytes = region_bytes_min - 1; }));
  EXPECT_TRUE(broken([](Policy& p) { p.regions[0].bytes = p.medium.bytes + 1; }));
  EXPECT_TRUE(broken([](Policy& p) { p.regions[0].quota_bytes = p.regions[0].bytes + 1; }));
  EXPECT_TRUE(broken([](Policy& p) { p.regions[0].protect.clear(); }));
  EXPECT_TRUE(broken([](Policy& p) { p.regions[0].protect.push_back({"pkey", false, false}); }));
  EXPECT_TRUE(broken([](Policy& p) { p.grants[0].principal = "nobody"; }));
  EXPECT_TRUE(broken([](Policy& p) { p.grants[0].region = "nothing"; }));
  EXPECT_TRUE(broken([](Policy& p) { p.grants[0].rights = Rights::none; }));
  EXPECT_TRUE(broken([](Policy& p) { p.grants.push_back(p.grants[0]); }));
}

TEST(Check, QuotingDisarmsControlCharactersAndBrokenText) {
  EXPECT_EQ(quote("plain"), "\"plain\"");
  EXPECT_EQ(quote("a\x1b[31m\n"), "\"a\\x1b[31m\\x0a\"");
  EXPECT_EQ(quote("\xc2\x9b"), "\"\\xc2\\x9b\"");
  EXPECT_EQ(quote("\xc3\xa4\xff"), "\"\xc3\xa4\\xff\"");
  EXPECT_EQ(quote(std::string(100, 'a')), "\"" + std::string(80, 'a') + "...\"");
}

class Folder {
 public:
  Folder() { BAILEY_ASSERT(mkdtemp(path_) != nullptr); }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string write(const std::string& name, const std::string& text) const {
    std::string path = std::string(path_) + "/" + name;
    std::ofstream(path) << text;
    return path;
  }

 private:
  char path_[32] = "/tmp/bailey-policy-XXXXXX";
};

TEST(Check, TheDefaultPolicyIsGood) {
  Folder folder;
  std::ifstream shipped(BAILEY_DEFAULT_POLICY);
  std::string text((std::istreambuf_iterator<char>(shipped)), {});
  ASSERT_FALSE(text.empty());
  std::string path = folder.write("policy.toml", text);
  for (const char* name : {"alice", "bob", "mallory"}) {
    PublicKey key{};
    key[0] = static_cast<std::uint8_t>(name[0]);
    folder.write(std::string(name) + ".pub", public_key_text(key) + "\n");
  }
  ParseContext context;  // as on a real machine
  auto checked = check_file(path, context);
  ASSERT_TRUE(checked);
  std::vector<std::string> said;
  for (const Diagnostic& diagnostic : checked->diagnostics) said.push_back(diagnostic.to_string());
  EXPECT_EQ(said, std::vector<std::string>{});
  ASSERT_TRUE(checked->ok());
  const Policy& policy = *checked->policy;
  EXPECT_EQ(policy.pool, "courtyard");
  ASSERT_EQ(policy.regions.size(), 2u);
  EXPECT_EQ(policy.find_region("orders")->mode, Mode::shared);
  EXPECT_EQ(policy.find_region("orders")->bytes, 256u << 20);
  EXPECT_EQ(policy.find_region("ledger")->mode, Mode::exclusive);
  ASSERT_EQ(policy.principals.size(), 3u);
  EXPECT_EQ(policy.principals[1].identities[0], (Identity{Identity::Kind::user, 64102, {}}));
  EXPECT_EQ(policy.principals[1].identities[1].key[0], 'b');
  for (const Grant& one : policy.grants) EXPECT_NE(one.principal, "mallory");
}

TEST(Check, AFileThatCannotBeReadIsAnError) {
  Folder folder;
  EXPECT_EQ(check_file("/nowhere/policy.toml", fixed_context()).error().os, ENOENT);
  std::string path = folder.write("large.toml", std::string(text_bytes_max + 1, '#'));
  EXPECT_EQ(check_file(path, fixed_context()).error().code, Code::too_large);
  EXPECT_EQ(parse_file(folder.write("empty.toml", ""), fixed_context()).error().code, Code::invalid_argument);
}

}  // namespace
}  // namespace bailey::policy
