// Attacks on the records of an encrypted table by one who can write all of its memory and lacks its key.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "bailey/table/vault.h"

namespace bailey::table {
namespace {

using ::testing::HasSubstr;

// Each of signed records too.
class Sealed : public testing::TestWithParam<bool> {
 protected:
  static pool::TestKeys with(pool::TestKeys keys = {}) {
    keys.signs = GetParam();
    return keys;
  }
};
class Generations : public Sealed {};
const auto name_of = [](const auto& about) { return std::string(about.param ? "signed" : "encrypted"); };
INSTANTIATE_TEST_SUITE_P(Table, Sealed, testing::Bool(), name_of);
INSTANTIATE_TEST_SUITE_P(Table, Generations, testing::Bool(), name_of);

TEST_P(Sealed, NothingOfKeyAndValueIsInTheMemory) {
  Vault vault(with());
  Table writer = vault.open(true);
  ASSERT_TRUE(writer.put("account-of-carol", "a-value-that-is-secret"));
  const std::string_view all = as_text(vault.memory.span());
  EXPECT_EQ(all.find("carol"), std::string_view::npos);
  EXPECT_EQ(all.find("secret"), std::string_view::npos);
  const Bytes key = vault.keys.key(1);
  EXPECT_EQ(all.find(as_text(key)), std::string_view::npos);
  std::string value;
  EXPECT_EQ(code_of_get(vault, "account-of-carol", value), Code{});
  EXPECT_EQ(value, "a-value-that-is-secret");
}

// Every byte of a record, all its bits in turn: what is read is what was written, or nothing, and never
// "not found" unless the key or the slot is what was hit.
TEST_P(Sealed, ARecordOfWhichABitWasFlippedIsNotRead) {
  Vault vault(with());
  Table writer = vault.open(true);
  const std::string wanted(37, 'v');
  ASSERT_TRUE(writer.put("a key of 20 bytes...", wanted));
  std::byte* record = vault.record("a key of 20 bytes...");
  std::set<Code> met;
  for (std::size_t at = 0; at < vault.bytes(record); ++at) {
    const auto bit = static_cast<std::byte>(1u << (at * 5 + at / 8) % 8);
    record[at] ^= bit;
    std::string value;
    const Code code = code_of_get(vault, "a key of 20 bytes...", value);
    met.insert(code);
    // Padding and the sealed key are no part of what a get opens; a scan opens the key.
    const std::size_t sealed_key = BAILEY_RECORD_HEADER_BYTES + BAILEY_SEALED_HEADER_BYTES + 37;
    const bool tag_of_key = at >= 48 && at < 64;
    const bool proof = at >= Vault::sealed_bytes(record);
    if ((at >= sealed_key && !proof) || tag_of_key) {
      EXPECT_EQ(code, Code{}) << at;
      EXPECT_EQ(value, wanted);
      Table reader = vault.open(false);
      Cursor cursor;
      std::vector<Item> items;
      auto scanned = reader.scan(cursor, 1000, items);
      const bool padding = at >= sealed_key && at < sealed_key + 3;
      EXPECT_EQ(scanned.has_value(), padding || at >= sealed_key + 3 + 20) << at;
    } else {
      EXPECT_TRUE(code == Code::corrupt || code == Code::not_found || code == Code::contended) << at;
    }
    // From the tag of the value on it is certain what was meant.
    if ((at >= 32 && at < 48) || (at >= 64 && at < sealed_key) || proof) {
      EXPECT_EQ(code, Code::corrupt) << at;
    }
    record[at] ^= bit;
  }
  EXPECT_TRUE(met.contains(Code::corrupt));
}

TEST_P(Sealed, WhatDoesNotOpenNamesTheRegionAndCanBeReplaced) {
  Vault vault(with());
  Table writer = vault.open(true);
  ASSERT_TRUE(writer.put("k", "value"));
  vault.record("k")[BAILEY_RECORD_HEADER_BYTES + BAILEY_SEALED_HEADER_BYTES] ^= std::byte{1};
  Table reader = vault.open(false);
  std::string value;
  auto found = reader.get("k", value);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().by, By::peer);
  EXPECT_THAT(found.error().message, HasSubstr("region vault"));
  EXPECT_EQ(value, "");
  std::byte out[64];
  Get one{.key = "k", .out = out, .found = {}};
  ASSERT_TRUE(reader.get_many(std::span(&one, 1)));
  EXPECT_EQ(one.code, Code::corrupt);
  EXPECT_EQ(
      writer.put_if_version("k", "x", version_of(*reinterpret_cast<Word*>(vault.record("k")))).error().code,
      Code::corrupt);
  ASSERT_TRUE(writer.put("k", "healed"));
  ASSERT_TRUE(reader.get("k", value));
  EXPECT_EQ(value, "healed");
}

TEST_P(Sealed, AScanGoesOnBehindWhatDoesNotOpen) {
  Vault vault(with());
  Table writer = vault.open(true);
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(writer.put("key" + std::to_string(i), "value"));
  vault.record("key7")[BAILEY_RECORD_HEADER_BYTES + BAILEY_SEALED_HEADER_BYTES] ^= std::byte{1};
  Table reader = vault.open(false);
  Cursor cursor;
  std::vector<Item> items;
  unsigned corrupt = 0;
  while (!cursor.done)
    if (auto scanned = reader.scan(cursor, 10, items); !scanned) {
      EXPECT_EQ(scanned.error().code, Code::corrupt);
      ASSERT_LT(++corrupt, 3u);
    }
  EXPECT_EQ(corrupt, 1u);
  EXPECT_EQ(items.size(), 49u);
}

// The slot of one key leads to the record of another, or the record itself is copied there.
TEST_P(Sealed, RecordsAreNotSwappedBetweenKeys) {
  Vault vault(with());
  Table writer = vault.open(true);
  ASSERT_TRUE(writer.put("alice", "alice's value"));
  ASSERT_TRUE(writer.put("mallo", "mallo's value"));
  const std::string alice = vault.stolen("alice"), mallo = vault.stolen("mallo");
  ASSERT_EQ(alice.size(), mallo.size());
  std::string value;
  std::byte* at = vault.record("alice");
  std::memcpy(at, mallo.data(), mallo.size());
  EXPECT_EQ(code_of_get(vault, "alice", value), Code::not_found);
  // With alice's hash in front of it.
  std::memcpy(at + 16, alice.data() + 16, 16);
  EXPECT_EQ(code_of_get(vault, "alice", value), Code::corrupt);
  // The halves of two records: head and tags of one, sealed bytes of the other.
  std::memcpy(at, alice.data(), 64);
  EXPECT_EQ(code_of_get(vault, "alice", value), Code::corrupt);
  // Another version, or other lengths, around alice's own bytes.
  std::memcpy(at, alice.data(), alice.size());
  reinterpret_cast<Word*>(at)[0] += 2;
  EXPECT_EQ(code_of_get(vault, "alice", value), Code::corrupt);
  std::memcpy(at, alice.data(), alice.size());
  reinterpret_cast<Word*>(at)[1] -= Word{1} << 32;
  EXPECT_EQ(code_of_get(vault, "alice", value), Code::corrupt) << "cut";
  std::memcpy(at, alice.data(), alice.size());
  EXPECT_EQ(code_of_get(vault, "alice", value), Code{});
}

// Of another region, that has the same secret, key and version.
TEST_P(Sealed, RecordsAreNotBroughtFromAnotherRegion) {
  Vault one(with({.region = 7})), other(with({.region = 8}));
  Table writer = one.open(true), other_writer = other.open(true);
  ASSERT_TRUE(writer.put("key", "from one"));
  ASSERT_TRUE(other_writer.put("key", "from two"));
  const std::string foreign = other.stolen("key"), own = one.stolen("key");
  ASSERT_EQ(foreign.substr(0, 8), own.substr(0, 8)) << "the same version";
  std::byte* at = one.record("key");
  std::memcpy(at + 32, foreign.data() + 32, foreign.size() - 32);
  std::string value;
  EXPECT_EQ(code_of_get(one, "key", value), Code::corrupt);
}

TEST_P(Sealed, WhoLacksTheKeyForgesNothing) {
  Vault vault(with());
  Table writer = vault.open(true);
  ASSERT_TRUE(writer.put("key", "value"));
  std::byte* at = vault.record("key");
  // Sealed by somebody who has a key, but not this one.
  pool::TestKeys wrong = vault.keys;
  wrong.secret = 'x';
  fill_sealed_record(*wrong.sealer(), at, "key", vault.keys.sealer()->hash("key"), "forged", 1ull << 32 | 9);
  std::string value;
  EXPECT_EQ(code_of_get(vault, "key", value), Code::corrupt);
  // Not sealed at all: a record as a plain table has it.
  reinterpret_cast<Word*>(at)[0] |= 1;
  fill_record(at, "key", "forged", 1ull << 32 | 9);
  EXPECT_EQ(code_of_get(vault, "key", value), Code::not_found);
  EXPECT_EQ(value, "");
}

// A record that its writer replaced is put back: whoever met the newer one says so.
TEST_P(Sealed, AnOlderRecordIsTakenForThePastByWhoMetANewerOne) {
  Vault vault(with());
  Table writer = vault.open(true), met = vault.open(false), fresh = vault.open(false);
  ASSERT_TRUE(writer.put("key", "the old balance"));
  const std::string old = vault.stolen("key");
  ASSERT_TRUE(writer.put("key", "the new balance"));
  std::string value;
  ASSERT_TRUE(met.get("key", value));
  EXPECT_EQ(value, "the new balance");
  std::memcpy(vault.record("key"), old.data(), old.size());
  EXPECT_EQ(met.get("key", value).error().code, Code::corrupt);
  EXPECT_THAT(met.get("key", value).error().message, HasSubstr("put back"));
  EXPECT_EQ(writer.get("key", value).error().code, Code::corrupt) << "its own writer knows, too";
  // Not stopped: who never met it.
  EXPECT_TRUE(fresh.get("key", value));
  EXPECT_EQ(value, "the old balance");
}

TEST_P(Sealed, WhatAWriterErasedDoesNotComeBackToIt) {
  Vault vault(with());
  Table writer = vault.open(true);
  ASSERT_TRUE(writer.put("key", "value"));
  const std::string old = vault.stolen("key");
  Word* slot = vault.slot("key");
  const Word led = *slot;
  std::byte* at = vault.record("key");
  ASSERT_TRUE(writer.erase("key"));
  std::memcpy(at, old.data(), old.size());
  *slot = led;
  std::string value;
  EXPECT_EQ(writer.get("key", value).error().code, Code::corrupt);
}

// ---- generations

TEST_P(Generations, OldRecordsOpenUnderANewerKeyAndNewOnesNotUnderAnOldOne) {
  Vault vault(with());
  {
    Table first = vault.open(true);
    ASSERT_TRUE(first.put("old", "of generation 1"));
  }
  pool::TestKeys third = vault.keys;
  third.generation = 3;
  Table writer = vault.open(true, third);
  ASSERT_TRUE(writer.put("new", "of generation 3"));
  EXPECT_EQ(generation_of(reinterpret_cast<Word*>(vault.record("new"))[1]), 3);
  Table reader = vault.open(false, third);
  std::string value;
  ASSERT_TRUE(reader.get("old", value));
  EXPECT_EQ(value, "of generation 1");
  ASSERT_TRUE(reader.get("new", value));
  // One that was not given the new key, and is told that there is none: a forged generation.
  Table past = vault.open(false);
  EXPECT_EQ(past.get("new", value).error().code, Code::corrupt);
  EXPECT_TRUE(past.get("old", value));
}

// Compaction moves records as they are. Under a newer key a hostile writer's two records of one version would
// be two texts of one nonce.
TEST_P(Generations, WhatIsMovedKeepsItsKeyAndIsNotSealedAnew) {
  Vault vault(with());
  std::map<std::string, std::uint64_t> versions;
  std::uint32_t dead = 0;
  {
    Table first = vault.open(true);
    dead = vault.last_writer;
    for (int i = 0; i < 20; ++i)
      versions["key" + std::to_string(i)] =
          first.put("key" + std::to_string(i), std::string(3000, 'v')).value();
    for (int i = 0; i < 500; ++i) ASSERT_TRUE(first.put("key0", std::string(3000, 'w')));
    versions["key0"] = first.put("key0", std::string(3000, 'v')).value();
  }
  std::map<std::string, std::string> bytes;
  for (auto& [key, version] : versions) bytes[key] = vault.stolen(key);
  vault.pool->writer_died(dead);
  pool::TestKeys second = vault.keys;
  second.generation = 2;
  Table writer = vault.open(true, second);
  ASSERT_TRUE(writer.put("mine", "x"));
  ASSERT_TRUE(writer.maintain());
  EXPECT_GT(writer.counters().records_moved, 0u);
  Table reader = vault.open(false, second);
  for (auto& [key, version] : versions) {
    std::string value;
    auto found = reader.get(key, value);
    ASSERT_TRUE(found) << key << found.error().to_string();
    EXPECT_EQ(value, std::string(3000, 'v'));
    EXPECT_EQ(found->version, version);
    EXPECT_EQ(vault.stolen(key), bytes[key]) << key;
  }
}

TEST_P(Generations, AKeyOfAnotherChainIsNotTaken) {
  pool::TestKeys keys = with(), other = with();
  other.secret = 'o';
  auto sealer = keys.sealer();
  auto renewed = sealer->renew(2, other.key(2));
  ASSERT_FALSE(renewed);
  EXPECT_EQ(renewed.error().code, Code::corrupt);
  EXPECT_EQ(sealer->generation(), 1);
  ASSERT_TRUE(sealer->renew(2, keys.key(2)));
  EXPECT_EQ(sealer->generation(), 2);
}

}  // namespace
}  // namespace bailey::table
