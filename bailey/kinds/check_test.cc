#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "bailey/kinds/small_table.h"

namespace bailey::kinds {
namespace {

using ::testing::HasSubstr;

TEST(Kinds, AreTablesAndPlainBytes) {
  ASSERT_EQ(all().size(), 2u);
  EXPECT_EQ(all()[0].name, "table");
  EXPECT_EQ(all()[1].name, "raw");
  EXPECT_EQ(find("channel"), nullptr);
}

TEST(Check, AGoodTableIsSound) {
  SmallTable table;
  for (int i = 0; i < 20; ++i)
    ASSERT_TRUE(table.writer->put("key" + std::to_string(i), std::string(100, 'v')));
  ASSERT_TRUE(table.writer->erase("key7"));
  Report report = table.check();
  EXPECT_TRUE(report.sound()) << report.to_string();
  EXPECT_EQ(report.records, 19u);
  EXPECT_EQ(report.value_bytes, 1900u);
  EXPECT_EQ(report.key_bytes, 9u * 4 + 10 * 5);
  EXPECT_EQ(report.segments, 1u);
  ASSERT_EQ(report.findings.size(), 1u) << report.to_string();
  EXPECT_THAT(report.findings[0].problem, HasSubstr("no checksum"));
}

TEST(Check, AnEmptyTableIsSound) {
  SmallTable table;
  Report report = table.check();
  EXPECT_TRUE(report.sound());
  EXPECT_EQ(report.records, 0u);
  EXPECT_EQ(report.slots, 4u * 7);
}

struct Damage {
  const char* name;
  const char* problem;
  std::function<void(SmallTable&)> make;
};

class CheckDamage : public ::testing::TestWithParam<Damage> {};

// Each breaks one thing in a sound table of three keys, and exactly that must be told.
TEST_P(CheckDamage, IsFoundAndNamed) {
  SmallTable table;
  for (const char* key : {"one", "two", "three"}) ASSERT_TRUE(table.writer->put(key, "value"));
  ASSERT_TRUE(table.check().sound());
  GetParam().make(table);
  Report report = table.check();
  EXPECT_FALSE(report.sound());
  ASSERT_FALSE(report.findings.empty());
  EXPECT_EQ(report.findings[0].grade, Finding::Grade::damage);
  EXPECT_THAT(report.findings[0].problem, HasSubstr(GetParam().problem)) << report.to_string();
  EXPECT_GE(report.findings[0].count, 1u);
  EXPECT_FALSE(report.findings[0].example.empty());
  EXPECT_THAT(report.to_string(), HasSubstr("DAMAGED"));
}

INSTANTIATE_TEST_SUITE_P(
    All, CheckDamage,
    ::testing::Values(
        Damage{"NoSuchSegment", "a segment that the region does not have",
               [](SmallTable& small) {
                 *small.slot_of("one") |= std::uint64_t{0x7700} << BAILEY_SLOT_SEGMENT_SHIFT;
               }},
        Damage{"InTheMiddleOfABlock", "no block starts",
               [](SmallTable& small) { *small.slot_of("one") += 1; }},
        Damage{"BeyondTheSegment", "no block starts",
               [](SmallTable& small) { *small.slot_of("one") |= 0xffff'0000; }},
        Damage{"IntoTheHeader", "no block starts",
               [](SmallTable& small) { *small.slot_of("one") &= ~0xffff'ffffull; }},
        Damage{"FreePage", "a page that holds no records",
               [](SmallTable& small) { *small.slot_of("one") += 2 * BAILEY_PAGE_BYTES / BAILEY_BLOCK_UNIT; }},
        Damage{"FreeBlock", "free or half written",
               [](SmallTable& small) { *reinterpret_cast<std::uint64_t*>(small.record_of("one")) |= 1; }},
        Damage{"LongRecord", "longer than its block",
               [](SmallTable& small) {
                 reinterpret_cast<std::uint64_t*>(small.record_of("one"))[1] |= 0xfffull << 32;
               }},
        Damage{"OtherKey", "never looked for",
               [](SmallTable& small) { small.record_of("one")[16] = std::byte{'x'}; }},
        Damage{"NoWriter", "a version that no writer has",
               [](SmallTable& small) { *reinterpret_cast<std::uint64_t*>(small.record_of("one")) = 2; }},
        Damage{"OneKeyTwice", "one key has two records",
               [](SmallTable& small) { *small.empty_slot_beside("one") = *small.slot_of("one"); }},
        Damage{"LinkOut", "leads out of the index", [](SmallTable& small) { small.bucket(0)->link = 99; }},
        Damage{"Circle", "a chain is a circle",
               [](SmallTable& small) {
                 small.bucket(0)->link = 1;
                 *small.claim(0) = 1;
                 small.bucket(small.geometry.buckets)->link = 1;
               }},
        Damage{"SharedOverflow", "two chains share",
               [](SmallTable& small) {
                 small.bucket(0)->link = 1;
                 small.bucket(1)->link = 1;
                 *small.claim(0) = 1;
               }},
        Damage{"NotClaimed", "not claimed for it", [](SmallTable& small) { small.bucket(2)->link = 3; }},
        Damage{"ClaimForNobody", "claimed for a bucket that does not exist",
               [](SmallTable& small) { *small.claim(1) = 77; }},
        Damage{"Magic", "no magic number", [](SmallTable& small) { small.plain->index()[0] = std::byte{0}; }},
        Damage{"OtherVersion", "another version",
               [](SmallTable& small) { small.plain->index()[8] = std::byte{9}; }},
        Damage{"OtherShape", "another shape",
               [](SmallTable& small) { small.plain->index()[24] = std::byte{9}; }},
        Damage{"PageClass", "a class that does not exist",
               [](SmallTable& small) {
                 auto slot = *small.slot_of("one");
                 table::page_words(*small.reader->find(table::segment_of(slot)).value())[2] =
                     table::make_page_word(1, 200, 0);
               }}),
    [](const auto& at) { return at.param.name; });

TEST(Check, AnEncryptedTableIsOpenedRecordByRecord) {
  SmallTable table(table::Mode::exclusive, true);
  for (const char* key : {"one", "two", "three"}) ASSERT_TRUE(table.writer->put(key, "value"));
  Report sound = table.check();
  EXPECT_TRUE(sound.sound()) << sound.to_string();
  EXPECT_EQ(sound.records, 3u);
  EXPECT_EQ(sound.key_bytes, 11u);
  EXPECT_TRUE(sound.findings.empty()) << sound.to_string();
  table.record_of("two")[BAILEY_RECORD_HEADER_BYTES + BAILEY_SEALED_HEADER_BYTES] ^= std::byte{1};
  Report damaged = table.check();
  ASSERT_FALSE(damaged.sound());
  EXPECT_THAT(damaged.findings[0].problem, HasSubstr("does not open"));
  EXPECT_EQ(damaged.findings[0].count, 1u);
  reinterpret_cast<std::uint64_t*>(table.record_of("one"))[1] &= ~std::uint64_t{0xffff};
  EXPECT_THAT(table.check().to_string(), HasSubstr("is not sealed"));
}

TEST(Check, OfASignedTableEachWriterIsVerified) {
  SmallTable table(table::Mode::exclusive, true, true);
  for (const char* key : {"one", "two", "three"}) ASSERT_TRUE(table.writer->put(key, "value"));
  Report sound = table.check();
  EXPECT_TRUE(sound.sound()) << sound.to_string();
  EXPECT_EQ(sound.records, 3u);
  std::byte* record = table.record_of("two");
  record[table::sealed_record_bytes(3, 5) + 8] ^= std::byte{1};  // of the signature
  // Who has verified it before is not asked to do so again: another looks.
  table.reader->set_sealer(
      pool::TestKeys{.cipher = crypto::Cipher::xchacha20_poly1305, .signs = true}.sealer());
  Report damaged = table.check();
  ASSERT_FALSE(damaged.sound());
  EXPECT_THAT(damaged.findings[0].problem, HasSubstr("not signed by its writer"));
  EXPECT_EQ(damaged.findings[0].count, 1u);
}

// What a death leaves is told, and is not damage.
TEST(Check, LeftoversOfADeathAreNotes) {
  SmallTable table;
  ASSERT_TRUE(table.writer->put("one", "value"));
  *table.empty_slot_beside("one") = *table.slot_of("one") | BAILEY_SLOT_TENTATIVE;
  *table.claim(2) = 1;
  Report report = table.check();
  EXPECT_TRUE(report.sound()) << report.to_string();
  EXPECT_EQ(report.findings.size(), 3u);
  EXPECT_EQ(report.records, 1u);
}

TEST(Check, ARevokedGrantEndsIt) {
  SmallTable table;
  table.plain->revoke();
  auto report = table.kind.check(*table.reader, table.geometry);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, Code::revoked);
}

TEST(Check, AnIndexTooSmallForItsShapeIsRefused) {
  SmallTable table;
  table::Geometry larger = table.geometry;
  larger.buckets = 1000;
  auto report = table.kind.check(*table.reader, larger);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, Code::invalid_argument);
}

}  // namespace
}  // namespace bailey::kinds
