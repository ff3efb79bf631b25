#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "bailey/base/fd.h"
#include "bailey/kinds/kinds.h"
#include "bailey/pool/plain.h"

namespace bailey::kinds {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct SmallRaw {
  SmallRaw() {
    pool::PlainOptions options{8192, 4 * BAILEY_PAGE_BYTES, true};
    memory = Mapping::anonymous(pool::PlainPool::bytes_for(options, 1)).value();
    plain = pool::PlainPool::format(memory.span(), options).value();
    reader = plain->view(false).value();
  }
  std::string inspect(const InspectOptions& options) {
    return kind.inspect(*reader, geometry, options).value();
  }
  void write(std::size_t at, std::string_view text) {
    std::memcpy(plain->index().data() + at, text.data(), text.size());
  }

  const Kind& kind = *find("raw");
  table::Geometry geometry = kind.plan(table::Mode::shared, 0, 0);
  Mapping memory;
  std::optional<pool::PlainPool> plain;
  std::unique_ptr<pool::View> reader;
};

TEST(Raw, AnyBytesAreSound) {
  SmallRaw raw;
  raw.write(100, "anything");
  Report report = raw.kind.check(*raw.reader, raw.geometry).value();
  EXPECT_TRUE(report.sound());
  EXPECT_EQ(report.to_string(), "note    8192 bytes without a layout: any are sound\nsound\n");
}

TEST(Raw, IsDumpedWhereItsContentsAreAskedFor) {
  SmallRaw raw;
  raw.write(32, "secret \n\x1b[31m red");
  EXPECT_THAT(raw.inspect({}), Not(HasSubstr("secret")));
  EXPECT_EQ(raw.inspect({.contents = true}),
            "raw, shared: 8192 bytes without a layout\n"
            "00000000  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................\n"
            "*\n"
            "00000020  73 65 63 72 65 74 20 0a 1b 5b 33 31 6d 20 72 65  secret ..[31m re\n"
            "00000030  64 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  d...............\n"
            "00000040  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................\n"
            "*\n");
}

TEST(Raw, ADumpIsBoundedAndEndsWithTheGrant) {
  SmallRaw raw;
  for (std::size_t at = 0; at < 8192; at += 16) raw.write(at, std::to_string(at));
  EXPECT_THAT(raw.inspect({.contents = true, .lines_max = 5}), HasSubstr("the rest is left off"));
  EXPECT_THAT(raw.inspect({.contents = true, .lines_max = 5}), Not(HasSubstr("00000050")));
  raw.plain->revoke();
  auto refused = raw.kind.inspect(*raw.reader, raw.geometry, {.contents = true});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::revoked);
}

}  // namespace
}  // namespace bailey::kinds
