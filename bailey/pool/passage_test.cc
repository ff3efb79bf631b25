// What a view's backing finds open when it is called from within a passage: nothing.
#include "bailey/pool/passage.h"

#include <gtest/gtest.h>

#include "bailey/guard/test_support.h"

namespace bailey::pool {
namespace {

using guard::Probe;
using guard::Room;

// Looks at the page of its view whenever it is asked something.
class Looking : public Backing {
 public:
  Looking(Room& room, std::vector<int>& seen) : room_(room), seen_(seen) {}

  Result<Extent> map(SegmentId) override {
    look();
    Extent extent;
    extent.base = room_.pages.data();
    return extent;
  }
  void unmap(SegmentId, const Extent&) override { look(); }
  Result<OwnSegment> create(std::uint64_t) override {
    look();
    return OwnSegment{2, {room_.pages.data(), 0, 0}};
  }
  Status retire(SegmentId) override { return look(), Status{}; }
  Result<std::vector<Desk>> desks() override { return look(), std::vector<Desk>{}; }
  Result<std::vector<SegmentId>> frozen() override { return look(), std::vector<SegmentId>{}; }
  std::uint64_t membership() const override { return 0; }
  Result<Attention> attend() override { return look(), Attention{}; }
  Result<std::uint32_t> fresh_writer_id() override { return look(), 1; }

 private:
  void look() { seen_.push_back(Probe::load(room_.pages.data())); }
  Room& room_;
  std::vector<int>& seen_;
};

TEST(Passage, TheBackingIsCalledWithTheGateClosedAndItIsOpenAgainAfterwards) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  Room room("a");
  std::vector<int> seen;
  std::uint64_t grant = 0;
  ViewParts parts;
  parts.writable = true;
  parts.grant_word = &grant;
  parts.pin = room.pin.get();
  View view(parts, std::make_unique<Looking>(room, seen));
  ASSERT_TRUE(view.closed());
  {
    Passage passage(view);
    ASSERT_TRUE(passage.opened());
    EXPECT_FALSE(view.closed());
    std::size_t calls = 0;
    auto asked_and_open_again = [&](bool good) {
      EXPECT_TRUE(good);
      EXPECT_GT(seen.size(), calls);
      calls = seen.size();
      EXPECT_EQ(room.byte(), 'x');
    };
    asked_and_open_again(view.find(1).has_value());
    asked_and_open_again(view.create(1).has_value());
    asked_and_open_again(view.desks().has_value());
    asked_and_open_again(view.frozen().has_value());
    asked_and_open_again(view.attend().has_value());
    asked_and_open_again(view.renew_writer_id().has_value());
    asked_and_open_again(view.retire(1).has_value());
  }
  EXPECT_TRUE(view.closed());
  for (int code : seen) EXPECT_EQ(code, SEGV_PKUERR);
  EXPECT_EQ(Probe::load(room.pages.data()), SEGV_PKUERR);
}

}  // namespace
}  // namespace bailey::pool
