// The rung `pkey` with real sessions on a real broker. pku_guest_test runs this on a processor that has
// protection keys.
#include <gmock/gmock.h>

#include "bailey/broker/context.h"
#include "bailey/guard/test_support.h"
#include "bailey/policy/policy.h"
#include "tools/e2e/house.h"

namespace bailey::e2e {
namespace {

using guard::Probe;
using ::testing::HasSubstr;

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

}  // namespace
}  // namespace bailey::e2e
