// Attacks on the records of a signed table by one who can write all of its memory and holds its key, which
// every reader does; but is no writer, or another one.
#include "bailey/table/signed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>

#include "bailey/table/vault.h"

namespace bailey::table {
namespace {

using ::testing::HasSubstr;

const pool::TestKeys signing{.signs = true};
constexpr const char* not_its_writers = "not signed by its writer";

Word version_at(const std::byte* record) { return version_of(*reinterpret_cast<const Word*>(record)); }

struct SignedVault : Vault {
  explicit SignedVault(pool::TestKeys with = signing, Mode mode = Mode::shared) : Vault(with, mode) {}
  pool::Proof proof_of(std::string_view key) {
    pool::Proof found;
    EXPECT_TRUE(load_proof(proof(key), 1000, found));
    return found;
  }
  // What who holds the region's key can do: a whole record, well sealed, with whatever signature there is.
  void seal_over(std::string_view at, std::string_view key, std::string_view value, std::uint64_t version,
                 const pool::Proof& with) {
    auto sealer = keys.sealer();
    std::byte* record = this->record(at);
    fill_sealed_record(*sealer, record, key, sealer->hash(key), value, version, &with);
  }
  // Signed by somebody's pair.
  pool::Proof sign_as(std::uint32_t writer, std::uint64_t version, std::string_view key,
                      std::string_view value) {
    auto sealer = keys.sealer(writer);
    pool::Signatures& signatures = *sealer->signatures();
    EXPECT_TRUE(signatures.prepare());
    const crypto::Hash leaf = signatures.leaf(version, key, value);
    pool::Proof proof;
    signatures.sign(writer, {&leaf, 1}, {&proof, 1});
    return proof;
  }
};

// By all that reads: each refuses, and gives nothing of what is there.
void expect_refused(SignedVault& vault, std::string_view key, const char* where = "") {
  Table reader = vault.open(false);
  std::string value = "before";
  auto found = reader.get(key, value);
  ASSERT_FALSE(found) << where << value;
  EXPECT_EQ(found.error().code, Code::corrupt) << where;
  EXPECT_THAT(found.error().message, HasSubstr(not_its_writers)) << where;
  EXPECT_EQ(value, "");
  std::byte out[200]{};
  EXPECT_EQ(reader.get(key, MutableBytes(out)).error().code, Code::corrupt) << where;
  Get one{.key = key, .out = out, .found = {}};
  ASSERT_TRUE(reader.get_many(std::span(&one, 1)));
  EXPECT_FALSE(one.ok) << where;
  EXPECT_EQ(one.code, Code::corrupt) << where;
  EXPECT_EQ(std::ranges::count(out, std::byte{0}), 200) << where;
  // Also where the caller's memory is too small for it.
  EXPECT_EQ(reader.get(key, MutableBytes()).error().code, Code::corrupt) << where;
  Cursor cursor;
  std::vector<Item> items;
  bool told = false;
  for (int i = 0; i < 100 && !cursor.done; ++i)
    if (auto scanned = reader.scan(cursor, 1000, items); !scanned) {
      told = true;
      EXPECT_THAT(scanned.error().message, HasSubstr(not_its_writers)) << where;
    }
  EXPECT_TRUE(told && cursor.done) << where;
  for (const Item& item : items) EXPECT_NE(item.key, key) << where;
  Table writer = vault.open(true);
  EXPECT_EQ(writer.put_if_version(key, "x", version_at(vault.record(key))).error().code, Code::corrupt)
      << where;
}

TEST(Signed, AHolderOfTheKeyForgesNothing) {
  SignedVault vault;
  Table writer = vault.open(true);
  const std::uint64_t version = writer.put("key", "what alice wrote").value();
  const std::uint32_t alice = vault.last_writer;
  const std::string own = vault.stolen("key");
  const pool::Proof proof = vault.proof_of("key");
  std::string value;
  ASSERT_EQ(code_of_get(vault, "key", value), Code{});
  // The right key, the right signature, another value.
  vault.seal_over("key", "key", "what alice wrotE", version, proof);
  expect_refused(vault, "key", "another value");
  // As a newer one.
  vault.seal_over("key", "key", "what alice wrote", version + 1, proof);
  expect_refused(vault, "key", "another version");
  // Signed, by a pair that is not alice's.
  const auto others = vault.sign_as(alice + 100, version, "key", "forged");
  vault.seal_over("key", "key", "forged", version, others);
  expect_refused(vault, "key", "a signature by another pair");
  // The canary: what alice signs is taken, whoever seals it and puts it there.
  vault.seal_over("key", "key", "another of hers", version,
                  vault.sign_as(alice, version, "key", "another of hers"));
  EXPECT_EQ(code_of_get(vault, "key", value), Code{});
  EXPECT_EQ(value, "another of hers");
  std::memcpy(vault.record("key"), own.data(), own.size());
  EXPECT_EQ(code_of_get(vault, "key", value), Code{});
  EXPECT_EQ(value, "what alice wrote");
  // What does not verify can be replaced.
  vault.seal_over("key", "key", "forged", version, others);
  ASSERT_TRUE(writer.put("key", "healed"));
  EXPECT_EQ(code_of_get(vault, "key", value), Code{});
}

// A reader remembers what it has verified: batches, and not their writers.
TEST(Signed, WhoHasReadMuchOfAWriterIsNotFooledInItsName) {
  SignedVault vault({.signs = true});
  Table writer = vault.open(true), reader = vault.open(false);
  std::string value;
  for (int i = 0; i < 3000; ++i) {
    ASSERT_TRUE(writer.put("key", "value"));
    ASSERT_TRUE(reader.get("key", value));
  }
  for (int i = 0; i < 20; ++i) {
    const std::uint64_t version = writer.put("key", "value").value();
    vault.seal_over("key", "key", "forge", version, vault.proof_of("key"));
    EXPECT_EQ(reader.get("key", value).error().code, Code::corrupt);
  }
}

TEST(Signed, ASignatureIsNotSplicedOntoAnotherRecord) {
  SignedVault vault;
  Table writer = vault.open(true);
  std::vector<Write> batch(4);
  const std::string names[] = {"key0", "key1", "key2", "key3"};
  for (int i = 0; i < 4; ++i) batch[i] = {.op = Op::put, .key = names[i], .value = "value"};
  ASSERT_TRUE(writer.apply(batch));
  ASSERT_TRUE(writer.put("alone", "value"));
  const std::uint64_t version = batch[1].version;
  // Another's of the same batch, one that stands alone, and its own at another place.
  vault.seal_over("key1", "key1", "value", version, vault.proof_of("key2"));
  expect_refused(vault, "key1", "of the same batch");
  vault.seal_over("key1", "key1", "value", version, vault.proof_of("alone"));
  expect_refused(vault, "key1", "of another");
  // A record under another key: as its own, with what its writer signed.
  ASSERT_EQ(batch[2].key, "key2");
  vault.seal_over("key1", "key1", "value", batch[2].version, vault.proof_of("key2"));
  expect_refused(vault, "key1", "of another key");
  // Nodes of the tree as a shorter path, by which a root is a leaf.
  pool::Proof cut = vault.proof_of("key2");
  ASSERT_EQ(cut.path.length, 2);
  for (std::uint8_t length : {0, 1}) {
    cut.path.length = length;
    cut.path.index &= static_cast<std::uint8_t>((1 << length) - 1);
    vault.seal_over("key1", "key1", "value", version, cut);
    expect_refused(vault, "key1", "a cut path");
  }
}

// bob may write the region too: he signs as himself, and as nobody else.
TEST(Signed, AWriterIsNotTakenForAnother) {
  SignedVault vault;
  Table alice = vault.open(true);
  const std::uint32_t alices = vault.last_writer;
  Table bob = vault.open(true);
  const std::uint32_t bobs = vault.last_writer;
  ASSERT_NE(alices, bobs);
  const std::uint64_t version = alice.put("key", "alice's").value();
  vault.seal_over("key", "key", "bob's", version, vault.sign_as(bobs, version, "key", "bob's"));
  expect_refused(vault, "key", "under alice's number");
  // Her record under his number, so that it would be his word.
  const std::uint64_t his = std::uint64_t{bobs} << 32 | 7;
  vault.seal_over("key", "key", "alice's", his, vault.sign_as(alices, his, "key", "alice's"));
  expect_refused(vault, "key", "under bob's number");
  vault.seal_over("key", "key", "bob's", his, vault.sign_as(bobs, his, "key", "bob's"));
  std::string value;
  EXPECT_EQ(code_of_get(vault, "key", value), Code{});
}

TEST(Signed, OfAWriterWithoutAKeyNothingIsTaken) {
  pool::TestKeys keys = signing;
  keys.writers_known = 1000;
  SignedVault vault(keys);
  Table writer = vault.open(true);
  ASSERT_TRUE(writer.put("key", "value"));
  const std::uint64_t nobodys = std::uint64_t{5000} << 32 | 1;
  vault.seal_over("key", "key", "value", nobodys, vault.sign_as(5000, nobodys, "key", "value"));
  expect_refused(vault, "key");
  // It is asked once, as long as no writer comes or goes.
  Table reader = vault.open(false);
  std::string value;
  const unsigned before = pool::TestKeys::Pairs::asked;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(reader.get("key", value).error().code, Code::corrupt);
  EXPECT_EQ(pool::TestKeys::Pairs::asked, before + 1);
}

// Every word that there can be in front of a signature; the block of the record ends where its page does.
TEST(Signed, APathIsHeldToItsBlockAndItsBatch) {
  SignedVault vault;
  Table writer = vault.open(true);
  for (std::size_t bytes : {std::size_t{5}, std::size_t{70'000}}) {
    ASSERT_TRUE(writer.put("key", std::string(bytes, 'v')));
    auto* word = reinterpret_cast<Word*>(vault.proof("key"));
    ASSERT_EQ(*word, 0u);
    for (Word wrong : {Word{1}, Word{4}, Word{5}, Word{255}, Word{0x100}, Word{0x201}, Word{0x1004},
                       Word{0x1004}, Word{1} << 63, ~Word{0}, Word{1} << 16}) {
      *word = wrong;
      expect_refused(vault, "key", std::to_string(wrong).c_str());
    }
    *word = 0;
    std::string value;
    EXPECT_EQ(code_of_get(vault, "key", value), Code{});
  }
  // By its limits, which a reader that believes the word would pass.
  alignas(8) std::byte room[BAILEY_PROOF_BYTES + 4 * BAILEY_PROOF_HASH_BYTES]{};
  pool::Proof proof;
  auto& word = reinterpret_cast<Word&>(room);
  for (unsigned hashes = 0; hashes <= 4; ++hashes) {
    word = hashes;
    EXPECT_TRUE(load_proof(room, proof_bytes(hashes), proof));
    if (hashes > 0) {
      EXPECT_FALSE(load_proof(room, proof_bytes(hashes) - 1, proof));
    }
    word = Word{1} << hashes << 8 | hashes;
    EXPECT_FALSE(load_proof(room, sizeof room, proof)) << "a place that the batch does not have";
  }
  word = 5;
  EXPECT_FALSE(load_proof(room, 1000, proof));
}

class SignedBatch : public testing::TestWithParam<unsigned> {};
INSTANTIATE_TEST_SUITE_P(Of, SignedBatch, testing::Values(1, 2, 3, 15, 16, 17, 40));

TEST_P(SignedBatch, HasOneSignatureForSixteen) {
  SignedVault vault;
  Table writer = vault.open(true);
  std::vector<std::string> names;
  for (unsigned i = 0; i < GetParam(); ++i) names.push_back("key" + std::to_string(i));
  std::vector<Write> batch;
  for (const std::string& name : names) batch.push_back({.op = Op::put, .key = name, .value = name});
  ASSERT_TRUE(writer.apply(batch));
  std::set<crypto::Signature> signatures;
  std::string value;
  Table reader = vault.open(false);
  for (unsigned i = 0; i < GetParam(); ++i) {
    ASSERT_TRUE(batch[i].ok);
    auto found = reader.get(names[i], value);
    ASSERT_TRUE(found) << found.error().to_string();
    EXPECT_EQ(value, names[i]);
    EXPECT_EQ(found->version, batch[i].version);
    EXPECT_EQ(code_of_get(vault, names[i], value), Code{}) << "by who has read none of the others";
    const pool::Proof proof = vault.proof_of(names[i]);
    signatures.insert(proof.signature);
    const unsigned group = std::min(16u, GetParam() - i / 16 * 16);
    EXPECT_GE(1u << proof.path.length, group);
    EXPECT_EQ(proof.path.index, i % 16);
  }
  EXPECT_EQ(signatures.size(), (GetParam() + 15) / 16);
}

// Writes that are refused, and those that leave no record, in the middle of others.
TEST(Signed, ABatchWithRefusalsIsReadInWhatItWrote) {
  for (Mode mode : {Mode::exclusive, Mode::shared}) {
    SignedVault vault(signing, mode);
    Table writer = vault.open(true), reader = vault.open(false);
    ASSERT_TRUE(writer.put("there", "1"));
    const std::string long_key(table::key_bytes_max + 1, 'k');
    Write batch[] = {{.op = Op::put, .key = "a", .value = "1"},
                     {.op = Op::insert, .key = "there", .value = "2"},
                     {.op = Op::put, .key = "a", .value = "2"},
                     {.op = Op::erase, .key = "there", .value = {}},
                     {.op = Op::put, .key = long_key, .value = "2"},
                     {.op = Op::put_if_version, .key = "a", .value = "3", .expected_version = 77},
                     {.op = Op::insert, .key = "there", .value = "3"},
                     {.op = Op::put, .key = "a", .value = "4"}};
    ASSERT_TRUE(writer.apply(batch));
    const bool ok[] = {true, false, true, true, false, false, true, true};
    for (std::size_t i = 0; i < std::size(batch); ++i) EXPECT_EQ(batch[i].ok, ok[i]) << i;
    EXPECT_EQ(batch[1].code, Code::exists);
    EXPECT_EQ(batch[5].code, Code::version_mismatch);
    EXPECT_LT(batch[0].version, batch[2].version);
    EXPECT_LT(batch[2].version, batch[7].version);
    std::string value;
    ASSERT_TRUE(reader.get("a", value));
    EXPECT_EQ(value, "4");
    ASSERT_TRUE(reader.get("there", value));
    EXPECT_EQ(value, "3");
  }
}

// Does something when a record is written, once.
struct AtFirst : pool::StepHook {
  explicit AtFirst(std::function<void()> what) : does(std::move(what)) {}
  void at(pool::Step step) override {
    if (step == pool::Step::record_written) std::exchange(does, [] {})();
  }
  std::function<void()> does;
};

// The first of the batch has to be prepared anew and gets a newer version: so have the ones behind it, or
// they would be taken for what it replaced.
TEST(Signed, VersionsGoUpInABatchThatWasInterrupted) {
  SignedVault vault;
  Table other = vault.open(true);
  auto view = vault.pool->view(true).value();
  view->set_sealer(signing.sealer(view->writer()));
  AtFirst interrupts([&] {
    ASSERT_TRUE(other.put("key", "another's"));
    vault.pool->leave();
  });
  Table writer = Table::open(std::move(view), vault.geometry).value(), reader = vault.open(false);
  ASSERT_TRUE(writer.put("key", "first"));
  writer.view().set_hook(&interrupts);
  std::vector<Write> batch(16);
  for (Write& write : batch) write = {.op = Op::put, .key = "key", .value = "value"};
  ASSERT_TRUE(writer.apply(batch));
  for (std::size_t i = 1; i < batch.size(); ++i) EXPECT_GT(batch[i].version, batch[i - 1].version) << i;
  EXPECT_GT(batch[0].version & 0xffff'ffff, 16u) << "not the one that it was to have";
  std::string value;
  auto found = writer.get("key", value);
  EXPECT_TRUE(found) << found.error().to_string();
  found = reader.get("key", value);
  EXPECT_TRUE(found) << found.error().to_string();
}

// Out of the segments of one that is gone, and again, under whatever key new records are sealed.
TEST(Signed, WhatIsMovedKeepsItsSignature) {
  SignedVault vault;
  std::map<std::string, std::pair<std::uint64_t, crypto::Signature>> written;
  std::uint32_t dead = 0;
  {
    Table first = vault.open(true);
    dead = vault.last_writer;
    std::vector<std::string> names;
    for (int i = 0; i < 20; ++i) names.push_back("key" + std::to_string(i));
    std::vector<Write> batch;
    const std::string value(3000, 'v');
    for (const std::string& name : names) batch.push_back({.op = Op::put, .key = name, .value = value});
    for (int round = 0; round < 50; ++round) ASSERT_TRUE(first.apply(batch));
    for (const Write& write : batch)
      written[std::string(write.key)] = {write.version, vault.proof_of(write.key).signature};
  }
  vault.pool->writer_died(dead);
  pool::TestKeys second = vault.keys;
  second.generation = 2;
  for (const pool::TestKeys& keys : {vault.keys, second}) {
    Table writer = vault.open(true, keys);
    const std::uint32_t mover = vault.last_writer;
    ASSERT_TRUE(writer.put("mine" + std::to_string(keys.generation), "x"));
    ASSERT_TRUE(writer.maintain());
    EXPECT_GE(writer.counters().records_moved, 20u);
    Table reader = vault.open(false, keys);
    for (auto& [key, of] : written) {
      std::string value;
      auto found = reader.get(key, value);
      ASSERT_TRUE(found) << key << found.error().to_string();
      EXPECT_EQ(found->version, of.first);
      EXPECT_EQ(vault.proof_of(key).signature, of.second);
    }
    // Its writer goes, and the next one moves what it moved.
    writer = vault.open(true, keys);
    vault.pool->writer_died(mover);
  }
}

// What was not its writer's is moved without a path, and stays what it is: refused.
TEST(Signed, WhatIsForgedIsMovedAndStaysRefused) {
  SignedVault vault;
  std::uint32_t dead = 0;
  {
    Table first = vault.open(true);
    dead = vault.last_writer;
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(first.put("key" + std::to_string(i), std::string(3000, 'v')));
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(first.put("key0", std::string(3000, 'w')));
  }
  *reinterpret_cast<Word*>(vault.proof("key1")) = 0xffff'ffff;
  vault.seal_over("key2", "key2", "forged", version_at(vault.record("key2")), vault.proof_of("key3"));
  vault.pool->writer_died(dead);
  pool::TestKeys second = vault.keys;
  second.generation = 2;
  vault.keys = second;
  Table writer = vault.open(true);
  ASSERT_TRUE(writer.put("mine", "x"));
  ASSERT_TRUE(writer.maintain());
  EXPECT_GE(writer.counters().records_moved, 20u);
  std::string value;
  EXPECT_EQ(code_of_get(vault, "key1", value), Code::corrupt);
  EXPECT_EQ(code_of_get(vault, "key2", value), Code::corrupt);
  EXPECT_EQ(code_of_get(vault, "key3", value), Code{});
}

// What was never its writer's does not count as met: the true record, of an older version, is read after it.
TEST(Signed, AForgedVersionDoesNotHideTheTrueOne) {
  SignedVault vault;
  Table writer = vault.open(true), reader = vault.open(false);
  const std::uint64_t version = writer.put("key", "true").value();
  const std::string own = vault.stolen("key");
  vault.seal_over("key", "key", "fals", version + 1000, vault.proof_of("key"));
  std::string value;
  EXPECT_EQ(reader.get("key", value).error().code, Code::corrupt);
  std::memcpy(vault.record("key"), own.data(), own.size());
  auto found = reader.get("key", value);
  EXPECT_TRUE(found) << found.error().to_string();
}

// Not stopped: an older record of the same writer, put back before who never met the newer one.
TEST(Signed, AnOlderRecordIsTakenForThePastByWhoMetANewerOne) {
  SignedVault vault;
  Table writer = vault.open(true), met = vault.open(false);
  ASSERT_TRUE(writer.put("key", "the old balance"));
  const std::string old = vault.stolen("key");
  ASSERT_TRUE(writer.put("key", "the new balance"));
  std::string value;
  ASSERT_TRUE(met.get("key", value));
  std::memcpy(vault.record("key"), old.data(), old.size());
  EXPECT_THAT(met.get("key", value).error().message, HasSubstr("put back"));
  EXPECT_EQ(code_of_get(vault, "key", value), Code{});
  EXPECT_EQ(value, "the old balance");
}

// Guesses at a record need the region's key: hashes of two regions, or under two keys, differ.
TEST(Signed, AHashTellsNothingToWhoLacksTheKey) {
  pool::TestKeys other = signing;
  other.secret = 'x';
  const auto leaf = [](const pool::TestKeys& keys, std::uint64_t version = 1) {
    return keys.sealer()->signatures()->leaf(version, "key", "value");
  };
  pool::TestKeys second = signing;
  second.generation = 2;
  EXPECT_NE(leaf(signing), leaf(other));
  EXPECT_NE(leaf(signing), leaf(signing, 2));
  EXPECT_EQ(leaf(signing), leaf(second)) << "of all generations the same";
  auto sealer = signing.sealer();
  EXPECT_NE(sealer->signatures()->leaf(1, "keyv", "alue"), leaf(signing));
}

// A writer that is learned of later is known then.
TEST(Signed, AWriterThatComesLaterIsKnown) {
  struct Growing : pool::WriterKeys {
    explicit Growing(unsigned& count) : known(count) {}
    Result<std::vector<Row>> from(std::uint32_t writer) override {
      if (writer > known) return std::vector<Row>{};
      return std::vector<Row>{{writer, pool::TestKeys::Pairs::of(writer).public_key()}};
    }
    Result<crypto::SecretKey> pair() override { return pool::TestKeys::Pairs::of(1); }
    unsigned& known;
  };
  unsigned known = 1;
  const Bytes key = signing.key(1);
  auto signatures = pool::Signatures::create({}, key, std::make_unique<Growing>(known)).value();
  EXPECT_FALSE(signatures->learn(2, 10).value());
  known = 2;
  EXPECT_FALSE(signatures->learn(2, 10).value()) << "nobody came";
  EXPECT_TRUE(signatures->learn(2, 11).value());
  EXPECT_TRUE(signatures->learn(2, 12).value());
}

}  // namespace
}  // namespace bailey::table
