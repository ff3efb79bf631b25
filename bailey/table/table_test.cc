#include "bailey/table/table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "bailey/base/fd.h"
#include "bailey/pool/plain.h"
#include "bailey/pool/test_sealer.h"

namespace bailey::table {
namespace {

struct Sort {
  Mode mode;
  bool sealed = false;
  bool is_signed = false;
};

struct Fixture {
  explicit Fixture(Sort sort, std::uint64_t records = 1000, unsigned segments = 8)
      : geometry(Geometry::plan(sort.mode, records, 42)), sealed(sort.sealed), is_signed(sort.is_signed) {
    pool::PlainOptions options;
    options.index_bytes = geometry.index_bytes();
    auto mapping = Mapping::anonymous(pool::PlainPool::bytes_for(options, segments));
    memory = std::move(*mapping);
    pool.emplace(std::move(*pool::PlainPool::format(memory.span(), options)));
    Table::format(pool->index(), geometry);
  }
  std::unique_ptr<pool::View> view(bool writable) {
    auto view = std::move(*pool->view(writable));
    if (sealed) view->set_sealer(pool::TestKeys{.signs = is_signed}.sealer(view->writer()));
    return view;
  }
  Table open(bool writable) { return std::move(*Table::open(view(writable), geometry)); }

  Geometry geometry;
  bool sealed, is_signed;
  Mapping memory;
  std::optional<pool::PlainPool> pool;
};

class BothModes : public testing::TestWithParam<Sort> {};
INSTANTIATE_TEST_SUITE_P(Table, BothModes,
                         testing::Values(Sort{Mode::exclusive}, Sort{Mode::shared},
                                         Sort{Mode::exclusive, true}, Sort{Mode::shared, true},
                                         Sort{Mode::exclusive, true, true}, Sort{Mode::shared, true, true}),
                         [](const auto& about) {
                           return std::string(about.param.is_signed ? "signed_"
                                              : about.param.sealed  ? "encrypted_"
                                                                    : "") +
                                  (about.param.mode == Mode::shared ? "shared" : "exclusive");
                         });

TEST_P(BothModes, WhatIsPutIsGotByAnother) {
  Fixture fixture(GetParam());
  Table writer = fixture.open(true), reader = fixture.open(false);
  auto version = writer.put("a", "1");
  ASSERT_TRUE(version) << version.error().to_string();
  std::string value;
  auto found = reader.get("a", value);
  ASSERT_TRUE(found) << found.error().to_string();
  EXPECT_EQ(value, "1");
  EXPECT_EQ(found->version, *version);
  EXPECT_EQ(reader.get("b", value).error().code, Code::not_found);
}

TEST_P(BothModes, EachOperationKeepsItsPromise) {
  Fixture fixture(GetParam());
  Table table = fixture.open(true);
  std::string value;
  EXPECT_EQ(table.update("k", "x").error().code, Code::not_found);
  EXPECT_EQ(table.erase("k").error().code, Code::not_found);
  auto first = table.insert("k", "one");
  ASSERT_TRUE(first);
  EXPECT_EQ(table.insert("k", "two").error().code, Code::exists);
  EXPECT_EQ(table.put_if_version("k", "two", *first + 1).error().code, Code::version_mismatch);
  EXPECT_EQ(table.put_if_version("k", "two", 0).error().code, Code::version_mismatch);
  auto second = table.put_if_version("k", "two", *first);
  ASSERT_TRUE(second);
  EXPECT_GT(*second, *first);
  ASSERT_TRUE(table.get("k", value));
  EXPECT_EQ(value, "two");
  ASSERT_TRUE(table.update("k", "three"));
  ASSERT_TRUE(table.erase("k"));
  EXPECT_EQ(table.get("k", value).error().code, Code::not_found);
  EXPECT_EQ(table.put_if_version("k", "x", *second).error().code, Code::not_found);
  ASSERT_TRUE(table.put_if_version("k", "x", 0));
}

TEST_P(BothModes, KeysAndValuesOfEverySizeAndContent) {
  Fixture fixture(GetParam(), 1000, 64);
  Table table = fixture.open(true);
  std::string value;
  for (std::size_t key_bytes : {0, 1, 7, 8, 9, 23, 255, 4095, 4096})
    for (std::size_t value_bytes : {0, 1, 7, 8, 9, 100, 255, 4096, 40'000, 70'000, 1'000'000}) {
      std::string key(key_bytes, '\0'), data(value_bytes, static_cast<char>(value_bytes % 251));
      for (std::size_t i = 0; i < key_bytes; ++i) key[i] = static_cast<char>(i * 7 + key_bytes);
      auto put = table.put(key, data);
      ASSERT_TRUE(put) << put.error().to_string();
      ASSERT_TRUE(table.get(key, value)) << key_bytes << " " << value_bytes;
      EXPECT_EQ(value, data);
    }
  EXPECT_EQ(table.put(std::string(5 * 1024, 'k'), "").error().code, Code::too_large);
  EXPECT_EQ(table.get(std::string(5 * 1024, 'k'), value).error().code, Code::too_large);
}

TEST(Table, AValueOf16MiB) {
  Fixture fixture({Mode::shared}, 100, 64);
  Table table = fixture.open(true);
  std::string data(value_bytes_max, 'x'), value;
  data[12345678] = 'y';
  for (int round = 0; round < 4; ++round) {
    auto put = table.put("big", data);
    ASSERT_TRUE(put) << put.error().to_string();
  }
  ASSERT_TRUE(table.get("big", value));
  EXPECT_EQ(value, data);
  data += 'z';
  EXPECT_EQ(table.put("big", data).error().code, Code::too_large);
}

TEST_P(BothModes, AValueThatDoesNotFitTellsItsSize) {
  Fixture fixture(GetParam());
  Table table = fixture.open(true);
  ASSERT_TRUE(table.put("k", "hello"));
  std::byte small[4];
  std::size_t needed = 0;
  EXPECT_EQ(table.get("k", MutableBytes(small), &needed).error().code, Code::too_large);
  EXPECT_EQ(needed, 5u);
}

TEST_P(BothModes, ManyGetsAndABatch) {
  Fixture fixture(GetParam());
  Table table = fixture.open(true);
  std::vector<std::string> keys, values;
  for (int i = 0; i < 100; ++i) {
    keys.push_back("key" + std::to_string(i));
    values.push_back("value" + std::to_string(i * i));
  }
  std::vector<Write> writes;
  for (int i = 0; i < 100; ++i) writes.push_back({Op::insert, keys[i], values[i], 0, {}, false, 0});
  writes.push_back({Op::insert, keys[0], values[0], 0, {}, false, 0});
  ASSERT_TRUE(table.apply(writes));
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(writes[i].ok);
  EXPECT_FALSE(writes[100].ok);
  EXPECT_EQ(writes[100].code, Code::exists);
  std::vector<Get> gets(101);
  std::vector<std::array<std::byte, 64>> out(101);
  for (int i = 0; i < 100; ++i) {
    gets[i].key = keys[i];
    gets[i].out = out[i];
  }
  gets[100].key = "absent";
  ASSERT_TRUE(table.get_many(gets));
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(gets[i].ok);
    EXPECT_EQ(as_text(Bytes(out[i]).first(gets[i].found.bytes)), values[i]);
    EXPECT_EQ(gets[i].found.version, writes[i].version);
  }
  EXPECT_EQ(gets[100].code, Code::not_found);
}

TEST_P(BothModes, AScanMeetsEveryRecordOnce) {
  Fixture fixture(GetParam(), 200);
  Table table = fixture.open(true);
  std::map<std::string, std::string> expected;
  for (int i = 0; i < 500; ++i) {  // more than planned: chains are long
    expected["k" + std::to_string(i)] = std::to_string(i);
    auto put = table.put("k" + std::to_string(i), std::to_string(i));
    ASSERT_TRUE(put) << put.error().to_string();
  }
  Cursor cursor;
  std::map<std::string, std::string> met;
  while (!cursor.done) {
    std::vector<Item> items;
    ASSERT_TRUE(table.scan(cursor, 10, items));
    for (Item& item : items) EXPECT_TRUE(met.emplace(item.key, item.value).second);
  }
  EXPECT_EQ(met, expected);
}

TEST_P(BothModes, ManyRandomOperationsAgreeWithAMap) {
  Fixture fixture(GetParam(), 2000, 12);
  Table table = fixture.open(true);
  std::map<std::string, std::string> model;
  std::mt19937_64 random(7);
  std::string value;
  for (int i = 0; i < 200'000; ++i) {
    std::string key = "key" + std::to_string(random() % 2000);
    std::string data(random() % 100 == 0 ? random() % 60'000 : random() % 900, static_cast<char>(random()));
    switch (random() % 6) {
      case 0: {
        auto put = table.put(key, data);
        ASSERT_TRUE(put) << i << " " << put.error().to_string();
        model[key] = data;
        break;
      }
      case 1: {
        auto inserted = table.insert(key, data);
        ASSERT_EQ(inserted.has_value(), model.emplace(key, data).second);
        break;
      }
      case 2: {
        auto updated = table.update(key, data);
        ASSERT_EQ(updated.has_value(), model.contains(key));
        if (updated) model[key] = data;
        break;
      }
      case 3:
        ASSERT_EQ(table.erase(key).has_value(), model.erase(key) == 1);
        break;
      default: {
        auto found = table.get(key, value);
        ASSERT_EQ(found.has_value(), model.contains(key));
        if (found) {
          ASSERT_EQ(value, model[key]);
        }
      }
    }
  }
  EXPECT_EQ(table.counters().forged_entries, 0u);
}

// 100 times the region's size (encrypted 15, signed once, which takes as long), at 60 % fill with sizes that
// change.
TEST_P(BothModes, OverwritingAHundredTimesTheRegionNeverRunsOut) {
  Fixture fixture(GetParam(), 20'000, 16);
  Table table = fixture.open(true);
  std::mt19937_64 random(11);
  const std::uint64_t region = 16u << 20;
  std::vector<std::uint32_t> sizes(12'000, 0);
  std::uint64_t written = 0, live = 0;
  std::string data(70'000, 'd');
  const std::uint64_t times = GetParam().is_signed ? 1 : GetParam().sealed ? 15 : 100;
  while (written < times * region) {
    std::uint64_t key = random() % sizes.size();
    auto phase = written * 10 / (times * region) % 3;
    std::uint32_t bytes = phase == 0           ? 200 + random() % 400
                          : phase == 1         ? random() % 1200
                          : random() % 50 == 0 ? 60'000
                                               : 300;
    if (live - sizes[key] + bytes > region * 6 / 10) bytes = 16;
    auto put = table.put("key" + std::to_string(key), std::string_view(data).substr(0, bytes));
    ASSERT_TRUE(put) << written << " " << live << " " << put.error().to_string();
    live = live - sizes[key] + bytes;
    sizes[key] = bytes;
    written += bytes + 32;
  }
}

TEST_P(BothModes, AReaderCanNotWrite) {
  Fixture fixture(GetParam());
  Table reader = fixture.open(false);
  auto put = reader.put("a", "b");
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().code, Code::denied);
}

TEST_P(BothModes, AFullIndexSaysSo) {
  Fixture fixture(GetParam(), 1, 32);
  Table table = fixture.open(true);
  Code code{};
  for (int i = 0; i < 5000 && code == Code{}; ++i) {
    auto put = table.put("key" + std::to_string(i), "v");
    if (!put) code = put.error().code;
  }
  EXPECT_EQ(code, Code::index_full);
}

TEST_P(BothModes, ClientsThatPutAndDieNeverFillIt) {
  Fixture fixture(GetParam(), 2000, 16);
  for (int i = 0; i < 1000; ++i) {
    auto view = fixture.view(true);
    std::uint32_t writer = view->writer();
    {
      Table table = std::move(*Table::open(std::move(view), fixture.geometry));
      auto put = table.put("key" + std::to_string(i), "value");
      ASSERT_TRUE(put) << i << " " << put.error().to_string();
    }
    fixture.pool->writer_died(writer);
  }
  Table table = fixture.open(false);
  std::string value;
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(table.get("key" + std::to_string(i), value)) << i;
}

TEST_P(BothModes, ARevokedTableSaysSo) {
  Fixture fixture(GetParam());
  Table writer = fixture.open(true), reader = fixture.open(false);
  ASSERT_TRUE(writer.put("a", "1"));
  fixture.pool->revoke();
  std::string value;
  EXPECT_EQ(reader.get("a", value).error().code, Code::revoked);
  EXPECT_EQ(writer.put("a", "2").error().code, Code::revoked);
}

// The owner's garbage is made by others here: it must find it by hints and sweeps.
TEST(Table, RecordsThatPeersReplaceAreReused) {
  Fixture fixture({Mode::shared}, 1000, 4);
  Table a = fixture.open(true), b = fixture.open(true);
  std::string data(1000, 'x');
  for (int i = 0; i < 200'000; ++i) {
    Table& table = i / 97 % 2 == 0 ? a : b;
    auto put = table.put("key" + std::to_string(i * 31 % 300), data);
    ASSERT_TRUE(put) << i << " " << put.error().to_string();
  }
}

}  // namespace
}  // namespace bailey::table
