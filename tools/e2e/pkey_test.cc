// The rung `pkey` with real sessions on a real broker. pku_guest_test runs this on a processor that has
// protection keys.
#include <gmock/gmock.h>

#include <fstream>

#include "bailey/broker/context.h"
#include "bailey/guard/test_support.h"
#include "bailey/guard/window.h"
#include "bailey/policy/policy.h"
#include "tools/e2e/house.h"

namespace bailey::e2e {
namespace {

using guard::Probe;
using ::testing::HasSubstr;

// Where this process has something of a region mapped.
std::vector<std::byte*> guarded_pages() {
  std::vector<std::byte*> pages;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    unsigned long begin = 0;
    if (std::sscanf(line.c_str(), "%lx-", &begin) == 1 && begin >= guard::window_base &&
        begin < guard::window_base + guard::window_bytes && line.find("memfd:") != std::string::npos)
      pages.push_back(reinterpret_cast<std::byte*>(begin));
  }
  return pages;
}

class Pkey : public House {
 protected:
  void SetUp() override {
    House::SetUp();
    protect_ = "\"process\", \"pkey?\"";
  }
};

TEST_F(Pkey, IsRefusedWhereThereIsNoneUnlessItIsAskedForWhereAvailable) {
  auto there = guard::available();
  auto check = [&](const std::string& protect) {
    protect_ = protect;
    return policy::check(policy("shared"), "f", folder_, broker::parse_context());
  };
  auto required = check("\"process\", \"pkey\"");
  EXPECT_EQ(required.policy.has_value(), there.has_value());
  if (!there) {
    EXPECT_THAT(required.diagnostics.front().message,
                HasSubstr("requires \"pkey\", and " + there.error().message));
  }
  auto wished = check("\"process\", \"pkey?\"");
  ASSERT_TRUE(wished.policy);
  EXPECT_EQ(wished.policy->regions[0].protect[1].in_force, there.has_value());
}

TEST_F(Pkey, IsInForceForSessionsWhereItIsAvailableAndTheStatusSaysWhich) {
  bool there = guard::available().has_value();
  serve(policy("shared"));
  auto alice = session("alice").value(), bob = session("bob").value();
  auto hers = alice.open_table("orders", Access::read_write).value();
  auto his = bob.open_table("orders", Access::read_only).value();
  ASSERT_TRUE(hers.put("key", "value"));
  std::string value;
  ASSERT_TRUE(his.get("key", value));
  EXPECT_EQ(value, "value");
  for (pool::View* view : {&hers.view(), &his.view()}) {
    EXPECT_EQ(Probe::load(view->index()), there ? SEGV_PKUERR : 0);
    EXPECT_EQ(view->closed(), there);
  }
  auto status = nlohmann::json::parse(alice.status().value());
  std::string text = status.dump();
  EXPECT_THAT(text, HasSubstr(there ? "Protection keys hold off loads and stores that stray"
                                    : "pkey: asked where available"));
}

TEST_F(Pkey, ATokenForAPartOfARawRegionIsForItsWindowsAlone) {
  bool there = guard::available().has_value();
  serve(policy("shared") + "[region.frames]\nkind = \"raw\"\nmode = \"shared\"\nsize = \"4MiB\"\n" +
        fmt::format("protect = [{}]\n", protect_));
  Session admin = session("", 10'000).value(), bob = session("bob").value();
  Token whole = admin.mint_token("frames", {Access::read_write, "bob", 0}).value();
  Token part = whole.narrow(capability::Range{4096, 4096}).value();
  auto opened = bob.open_raw("frames", Access::read_write, &part);
  auto verified = bob.verify_token(part);
  ASSERT_EQ(opened.has_value(), there);
  ASSERT_EQ(verified.has_value(), there);
  if (!there) {
    for (const Error& refused : {opened.error(), verified.error()}) {
      EXPECT_EQ(refused.code, Code::unsupported);
      EXPECT_THAT(refused.to_string(), HasSubstr("nothing there holds a session to a part"));
      EXPECT_THAT(refused.to_string(), HasSubstr("protect the region with \"pkey\""));
    }
    return;
  }
  EXPECT_FALSE(bob.open_region("frames", Access::read_write, &part)) << "where all of it could be had";
  for (auto beyond : {capability::Range{4095, 2}, {8191, 2}, {8192, 1}, {0, 1}})
    EXPECT_EQ(opened->acquire(beyond.offset, beyond.length, Access::read_only).error().code, Code::denied);
  Window window = opened->acquire(4096, 4096, Access::read_write).value();
  std::byte bytes[16] = {std::byte{7}}, read[16] = {};
  ASSERT_TRUE(window.write(4080, bytes));
  ASSERT_TRUE(window.read(4080, read));
  EXPECT_EQ(read[0], std::byte{7});
  EXPECT_TRUE(window.compare(4080, bytes).value());
  EXPECT_EQ(window.read(4081, read).error().code, Code::invalid_argument);

  // All is closed again, and an access is no way around: nothing is copied between guarded pages.
  std::vector<std::byte*> pages = guarded_pages();
  ASSERT_FALSE(pages.empty());
  for (std::byte* page : pages) {
    EXPECT_EQ(Probe::load(page), SEGV_PKUERR);
    EXPECT_EQ(Probe::store(page), SEGV_PKUERR);
    EXPECT_EQ(window.write(0, Bytes(page, 16)).error().code, Code::denied);
    EXPECT_EQ(window.read(0, MutableBytes(page, 16)).error().code, Code::denied);
    EXPECT_EQ(window.compare(0, Bytes(page, 16)).error().code, Code::denied);
  }
  ASSERT_TRUE(admin.revoke_token(part.id()));
  EXPECT_EQ(window.read(0, read).error().code, Code::revoked);
}

}  // namespace
}  // namespace bailey::e2e
