#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "bailey/kinds/small_table.h"

namespace bailey::kinds {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// The table of the worked example in docs/formats.md.
std::string worked_example() {
  SmallTable table;
  EXPECT_TRUE(table.writer->put("colour", "red"));
  EXPECT_TRUE(table.writer->put("size", "large"));
  EXPECT_TRUE(table.writer->update("colour", "dark green"));
  return table.kind.inspect(*table.reader, table.geometry, {.contents = true}).value();
}

std::string read(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// The golden dump: where it differs a layout has changed. Then raise the version in abi/, say it in
// docs/formats.md, and put what this test prints into the page.
TEST(Inspect, TheDumpIsTheOneInFormatsMd) {
  std::string dump = worked_example();
  std::string page = read(BAILEY_SOURCE_DIR "/docs/formats.md");
  ASSERT_FALSE(page.empty());
  EXPECT_NE(page.find("```\n" + dump + "```\n"), std::string::npos) << "docs/formats.md lacks this dump:\n"
                                                                    << dump;
}

// The same of an encrypted table, with its key and without.
TEST(Inspect, TheDumpOfASealedRecordIsTheOneInFormatsMd) {
  SmallTable table(table::Mode::exclusive, true);
  EXPECT_TRUE(table.writer->put("colour", "dark green"));
  std::string dump = table.kind.inspect(*table.reader, table.geometry, {.contents = true}).value();
  dump = dump.substr(dump.find("\n bucket") + 1);
  std::string page = read(BAILEY_SOURCE_DIR "/docs/formats.md");
  EXPECT_NE(page.find("```\n" + dump + "```\n"), std::string::npos) << "docs/formats.md lacks this dump:\n"
                                                                    << dump;
  table.reader->set_sealer(nullptr);
  dump = table.kind.inspect(*table.reader, table.geometry, {.contents = true}).value();
  EXPECT_THAT(dump, Not(HasSubstr("green")));
  EXPECT_THAT(dump, HasSubstr("sealed under generation 1"));
}

// And of a signed one: what lies behind the sealed key.
TEST(Inspect, TheDumpOfASignedRecordIsTheOneInFormatsMd) {
  SmallTable table(table::Mode::exclusive, true, true);
  table::Write batch[] = {{.op = table::Op::put, .key = "colour", .value = "dark green"},
                          {.op = table::Op::put, .key = "size", .value = "large"}};
  EXPECT_TRUE(table.writer->apply(batch));
  std::string dump = table.kind.inspect(*table.reader, table.geometry, {.contents = true}).value();
  const std::size_t first = dump.find("  010000  ");
  dump = dump.substr(first, dump.find("  0100c0  ", first) - first);
  std::string page = read(BAILEY_SOURCE_DIR "/docs/formats.md");
  EXPECT_NE(page.find("```\n" + dump + "```\n"), std::string::npos) << "docs/formats.md lacks this dump:\n"
                                                                    << dump;
  table.record_of("colour")[BAILEY_RECORD_HEADER_BYTES + BAILEY_SEALED_HEADER_BYTES + 16 + 8] = std::byte{9};
  dump = table.kind.inspect(*table.reader, table.geometry, {.contents = true}).value();
  EXPECT_THAT(dump, HasSubstr("is none"));
}

TEST(Inspect, ContentsAreLeftOutUnlessAskedFor) {
  SmallTable table;
  ASSERT_TRUE(table.writer->put("secret key", "secret value"));
  std::string dump = table.kind.inspect(*table.reader, table.geometry, {}).value();
  EXPECT_THAT(dump, Not(HasSubstr("secret")));
  EXPECT_THAT(dump, HasSubstr("key 10 bytes, value 12 bytes"));
}

TEST(Inspect, ContentsCantForgeLines) {
  SmallTable table;
  ASSERT_TRUE(table.writer->put("k", "a\n\x1b[31mb\"\\"));
  std::string dump = table.kind.inspect(*table.reader, table.geometry, {.contents = true}).value();
  EXPECT_THAT(dump, HasSubstr(R"("a\x0a\x1b[31mb\x22\x5c")"));
}

TEST(Inspect, IsBoundedAndSaysSo) {
  SmallTable table;
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(table.writer->put("key" + std::to_string(i), "v"));
  std::string dump = table.kind.inspect(*table.reader, table.geometry, {.lines_max = 5}).value();
  EXPECT_EQ(std::ranges::count(dump, '\n'), 6);
  EXPECT_THAT(dump, HasSubstr("cut at 5"));
}

// Hostile bytes anywhere must not take the printer out of bounds; the sanitizers watch.
TEST(Inspect, SurvivesAnyWord) {
  SmallTable table;
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(table.writer->put("key" + std::to_string(i), "v"));
  std::uint64_t state = 1;
  auto random = [&] { return state = state * 6364136223846793005u + 1442695040888963407u; };
  auto* index = reinterpret_cast<std::uint64_t*>(table.plain->index().data());
  const pool::Extent& extent = *table.reader->find(1).value();
  auto* segment = reinterpret_cast<std::uint64_t*>(extent.base);
  for (int i = 0; i < 2000; ++i) {
    index[random() % (table.geometry.index_bytes() / 8)] = random() << random() % 64;
    segment[random() % (extent.bytes() / 8)] = random() << random() % 64;
    if (i % 50 != 0) continue;
    ASSERT_TRUE(table.kind.inspect(*table.reader, table.geometry, {.contents = true}));
    ASSERT_TRUE(table.kind.check(*table.reader, table.geometry));
  }
  EXPECT_FALSE(table.check().sound());
}

}  // namespace
}  // namespace bailey::kinds
