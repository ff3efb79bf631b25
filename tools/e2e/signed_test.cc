// The rung `signed` through a real broker: who wrote a record is known to whoever reads it, whoever else can
// write the files, and as long as the region lives.
#include <gmock/gmock.h>

#include "bailey/broker/test_support.h"
#include "bailey/table/sealed.h"
#include "tools/e2e/house.h"

namespace bailey::e2e {
namespace {

using ::testing::HasSubstr;

class SignedRegion : public House {
 protected:
  void SetUp() override {
    House::SetUp();
    protect_ = "\"process\", \"encrypted\", \"signed\"";
  }
  // alice, who writes in a session that then ends.
  void put(const std::string& key, const std::string& value) const {
    auto alice = session("alice", 10'000).value();
    auto table = alice.open_table("orders", Access::read_write).value();
    auto put = table.put(key, value);
    ASSERT_TRUE(put) << put.error().to_string();
  }
  // What bob reads, in a session that has read nothing before; or the error's text.
  std::string read(const std::string& key) const {
    auto bob = session("bob", 10'000).value();
    auto table = bob.open_table("orders", Access::read_only).value();
    std::string value;
    auto found = table.get(key, value);
    return found ? value : found.error().to_string();
  }
  Status apply(const std::string& text) const {
    auto admin = BAILEY_TRY(session("", 10'000));
    BAILEY_TRY(admin.apply_policy(text, "policy.toml", folder_, false));
    return {};
  }
  broker::Client client(const std::string& who) const {
    auto secret = crypto::read_secret_key(key_file(who)).value();
    return broker::Client::connect(socket(), &secret).value();
  }
};
class SignedIn : public SignedRegion, public ::testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Modes, SignedIn, ::testing::Values("exclusive", "shared"));

TEST_P(SignedIn, WritersAreKnownAfterTheyAreGone) {
  serve(policy(GetParam()));
  put("one", "1");
  put("two", "2");
  EXPECT_EQ(read("one"), "1");
  auto bob = session("bob").value();
  auto table = bob.open_table("orders", Access::read_only).value();
  std::string value;
  ASSERT_TRUE(table.get("one", value));
  put("three", "3");  // by a writer that came after bob has asked
  auto found = table.get("three", value);
  EXPECT_TRUE(found) << found.error().to_string();
  // alice loses her grant; what she has written is still hers.
  broker::Process other([&] {
    std::string text = policy(GetParam());
    const std::string alices = "[[grant]]\nprincipal = \"alice\"\nregion = \"orders\"\nrights = \"rw\"\n";
    text.erase(text.find(alices), alices.size());
    return apply(text) ? 0 : 1;
  });
  // bob attends when he next does something.
  while (!table.get("one", value) || session("alice").value().open_table("orders", Access::read_write)) {}
  EXPECT_EQ(other.wait(), 0);
  EXPECT_EQ(read("one"), "1");
  EXPECT_EQ(read("three"), "3");
}

TEST_P(SignedIn, ABrokersDeathForgetsNoWriter) {
  serve(policy(GetParam()));
  put("gone", "1");
  auto alice = session("alice", 10'000).value();
  auto table = alice.open_table("orders", Access::read_write).value();
  ASSERT_TRUE(table.put("before", "2"));
  ::kill(broker_, SIGKILL);
  auto put = table.put("after", "3");
  ASSERT_TRUE(put) << put.error().to_string();
  EXPECT_EQ(read("gone"), "1");
  EXPECT_EQ(read("before"), "2");
  EXPECT_EQ(read("after"), "3");
}

TEST_P(SignedIn, ABatchIsReadByAnother) {
  serve(policy(GetParam()));
  auto alice = session("alice", 10'000).value();
  auto table = alice.open_table("orders", Access::read_write).value();
  std::vector<std::string> names;
  for (int i = 0; i < 40; ++i) names.push_back(fmt::format("key{}", i));
  std::vector<table::Write> writes;
  for (const std::string& name : names) writes.push_back({.op = table::Op::put, .key = name, .value = name});
  ASSERT_TRUE(table.apply(writes));
  for (int i : {0, 15, 16, 39}) EXPECT_EQ(read(names[i]), names[i]);
  auto bob = session("bob").value();
  auto reading = bob.open_table("orders", Access::read_only).value();
  table::Cursor cursor;
  std::vector<table::Item> items;
  ASSERT_TRUE(reading.scan(cursor, 1000, items));
  EXPECT_EQ(items.size(), 40u);
}

TEST_F(SignedRegion, TheLargestRecordFits) {
  serve(policy("exclusive", true, "64MiB"));
  const std::string key(table::key_bytes_max, 'k'), value(table::value_bytes_max, 'v');
  put(key, value);
  EXPECT_TRUE(read(key) == value);
}

TEST_F(SignedRegion, AWriterSaysItsKeyOnceAndNobodyElseDoes) {
  serve(policy("shared") +
        "[region.plain]\nkind = \"table\"\nmode = \"shared\"\nsize = \"4MiB\"\n"
        "[[grant]]\nprincipal = \"alice\"\nregion = \"plain\"\nrights = \"rw\"\n");
  auto alice = client("alice"), bob = client("bob");
  const auto hers = alice.open("orders", true).value(), plain = alice.open("plain", true).value();
  const auto his = bob.open("orders", false).value();
  const protocol::PublicKey one{1}, two{2};
  const auto keys = [&](std::uint32_t from) {
    return bob.ask<protocol::WriterKeys>(protocol::GetWriterKeys{his.grant, from}).value().rows;
  };
  EXPECT_TRUE(keys(1).empty());
  EXPECT_EQ(bob.ask<protocol::Done>(protocol::SignAs{his.grant, one}).error().code, Code::denied);
  EXPECT_FALSE(bob.ask<protocol::Done>(protocol::SignAs{hers.grant, one})) << "in her name";
  EXPECT_EQ(alice.ask<protocol::Done>(protocol::SignAs{plain.grant, one}).error().code, Code::unsupported);
  EXPECT_TRUE(keys(1).empty());
  ASSERT_TRUE(alice.ask<protocol::Done>(protocol::SignAs{hers.grant, one}));
  EXPECT_TRUE(alice.ask<protocol::Done>(protocol::SignAs{hers.grant, one}))
      << "the answer may have been lost";
  EXPECT_EQ(alice.ask<protocol::Done>(protocol::SignAs{hers.grant, two}).error().code, Code::denied);
  ASSERT_EQ(keys(1).size(), 1u);
  EXPECT_EQ(keys(1)[0], (protocol::WriterKey{hers.writer, one}));
  // The same writer under its next number.
  const auto next = alice.ask<protocol::Writer>(protocol::FreshWriter{hers.grant}).value().writer;
  EXPECT_EQ(keys(hers.writer + 1), (std::vector<protocol::WriterKey>{{next, one}}));
  EXPECT_TRUE(alice.ask<protocol::WriterKeys>(protocol::GetWriterKeys{plain.grant, 1}).value().rows.empty())
      << "not those of another region";
}

// A medium that its readers can write: files whose uid they have. bob has the region's key, as every reader,
// and seals a record of his own in the place of alice's.
class SignedFiles : public SignedRegion {
 protected:
  void SetUp() override {
    SignedRegion::SetUp();
    ASSERT_EQ(::mkdir((folder_ + "/pool").c_str(), 0700), 0);
    ASSERT_TRUE(crypto::write_new_pair(folder_ + "/kept"));
  }
  void serve_files() {
    std::string text = policy("exclusive");
    const std::string medium = "memory:256MiB";
    text.replace(text.find(medium), medium.size(), "file:" + folder_ + "/pool");
    std::ofstream(folder_ + "/policy.toml") << text;
    broker::ServeOptions options;
    options.policy_file = folder_ + "/policy.toml";
    options.socket_path = socket();
    options.key_file = folder_ + "/kept";
    broker::Served served(std::move(options), {}, 100);
    keeper_ = std::move(served.keeper);
    broker_ = served.broker;
  }
  void stop() {
    keeper_->kill(SIGTERM);
    EXPECT_EQ(keeper_->wait(), 0);
    keeper_.reset();
  }
  // In place of the record of `key`, under its version, and with the signature that is there.
  void forge(const std::string& key, const std::string& value) const {
    auto bob = client("bob");
    const auto opened = bob.open("orders", false).value();
    auto sealer = pool::Sealer::create({opened.key->cipher, opened.region, "orders", opened.key->generation,
                                        opened.key->bytes()})
                      .value();
    const crypto::KeyHash hash = sealer->hash(key);
    unsigned forged = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ + "/pool")) {
      if (!entry.path().filename().string().starts_with("segment-")) continue;
      Fd file(::open(entry.path().c_str(), O_RDWR | O_CLOEXEC));
      ASSERT_TRUE(file);
      Mapping mapped = Mapping::of_file(file.get(), entry.file_size(), Access::read_write).value();
      for (std::size_t at = BAILEY_PAGE_BYTES; at + 512 < mapped.size(); at += 16) {
        std::byte* record = mapped.data() + at;
        if (!table::has_hash(record, hash)) continue;
        const auto* words = reinterpret_cast<const table::Word*>(record);
        ASSERT_EQ(table::value_length(words[1]), value.size()) << "so that the signature stays where it is";
        table::fill_sealed_record(*sealer, record, key, hash, value, table::version_of(words[0]));
        ++forged;
      }
    }
    ASSERT_EQ(forged, 1u);
  }
};

TEST_F(SignedFiles, AReaderThatWritesTheFilesForgesNothing) {
  serve_files();
  put("balance-of-alice", "1000");
  put("balance-of-bob", "0001");
  forge("balance-of-bob", "9999");
  EXPECT_THAT(read("balance-of-bob"), HasSubstr("not signed by its writer"));
  EXPECT_EQ(read("balance-of-alice"), "1000");
  put("balance-of-bob", "0002");
  EXPECT_EQ(read("balance-of-bob"), "0002");
}

// The canary: where it is encrypted alone, that is what all then read.
TEST_F(SignedFiles, WhereRecordsAreNotSignedItDoes) {
  protect_ = "\"process\", \"encrypted\"";
  serve_files();
  put("balance-of-bob", "0001");
  forge("balance-of-bob", "9999");
  EXPECT_EQ(read("balance-of-bob"), "9999");
}

TEST_F(SignedFiles, WritersAreKnownWhenThePoolIsServedAgain) {
  serve_files();
  put("one", "1");
  stop();
  serve_files();
  EXPECT_EQ(read("one"), "1");
  put("two", "2");
  EXPECT_EQ(read("two"), "2");
}

}  // namespace
}  // namespace bailey::e2e
