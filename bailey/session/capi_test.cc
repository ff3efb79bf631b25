#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "bailey/session/bailey.h"
#include "bailey/session/fake_broker.h"

namespace {

using ::testing::HasSubstr;

class CApi : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = broker_.path();
    bailey_options options{};
    options.socket_path = path_.c_str();
    options.allow_dump = 1;
    ASSERT_EQ(bailey_connect(&options, &session_), 0) << bailey_error()->text;
    ASSERT_EQ(bailey_open_table(session_, "orders", BAILEY_WRITE, &table_), 0) << bailey_error()->text;
  }
  void TearDown() override {
    bailey_table_close(table_);
    bailey_close(session_);
  }
  bailey::session::FakeBroker broker_;
  std::string path_;
  bailey_session* session_ = nullptr;
  bailey_table* table_ = nullptr;
};

TEST_F(CApi, PutGetUpdateErase) {
  std::uint64_t first = 0, second = 0, seen = 0;
  ASSERT_EQ(bailey_insert(table_, "key", 3, "value", 5, &first), 0) << bailey_error()->text;
  EXPECT_EQ(bailey_insert(table_, "key", 3, "value", 5, nullptr), BAILEY_EXISTS);
  EXPECT_EQ(bailey_error()->code, BAILEY_EXISTS);
  EXPECT_STREQ(bailey_error()->message, "exists");
  EXPECT_EQ(bailey_put_if_version(table_, "key", 3, "x", 1, first + 1, &second), BAILEY_VERSION_MISMATCH);
  ASSERT_EQ(bailey_put_if_version(table_, "key", 3, "other", 5, first, &second), 0);
  EXPECT_NE(first, second);
  char out[8];
  std::size_t bytes = 0;
  ASSERT_EQ(bailey_get(table_, "key", 3, out, sizeof out, &bytes, &seen), 0);
  EXPECT_EQ(std::string(out, bytes), "other");
  EXPECT_EQ(seen, second);
  EXPECT_EQ(bailey_get(table_, "key", 3, out, 2, &bytes, nullptr), BAILEY_TOO_LARGE);
  EXPECT_EQ(bytes, 5u);
  ASSERT_EQ(bailey_erase(table_, "key", 3), 0);
  EXPECT_EQ(bailey_erase(table_, "key", 3), BAILEY_NOT_FOUND);
  EXPECT_EQ(bailey_update(table_, "key", 3, "v", 1, nullptr), BAILEY_NOT_FOUND);
  ASSERT_EQ(bailey_put(table_, "", 0, nullptr, 0, nullptr), 0)
      << "an empty key and an empty value are allowed";
  ASSERT_EQ(bailey_get(table_, nullptr, 0, nullptr, 0, &bytes, nullptr), 0);
  EXPECT_EQ(bytes, 0u);
}

TEST_F(CApi, ManyAtOnce) {
  bailey_write_item writes[3]{};
  writes[0] = {BAILEY_OP_PUT, "a", 1, "1", 1, 0, 0, -1};
  writes[1] = {BAILEY_OP_UPDATE, "b", 1, "2", 1, 0, 0, -1};
  writes[2] = {BAILEY_OP_INSERT, "c", 1, "33", 2, 0, 0, -1};
  ASSERT_EQ(bailey_apply(table_, writes, 3), 0);
  EXPECT_EQ(writes[0].code, 0);
  EXPECT_NE(writes[0].version, 0u);
  EXPECT_EQ(writes[1].code, BAILEY_NOT_FOUND);
  EXPECT_EQ(writes[2].code, 0);
  char a[4], b[4], c[1];
  bailey_get_item gets[3]{};
  gets[0] = {"a", 1, a, sizeof a, 0, 0, -1};
  gets[1] = {"b", 1, b, sizeof b, 0, 0, -1};
  gets[2] = {"c", 1, c, sizeof c, 0, 0, -1};
  ASSERT_EQ(bailey_get_many(table_, gets, 3), 0);
  EXPECT_EQ(gets[0].code, 0);
  EXPECT_EQ(gets[0].version, writes[0].version);
  EXPECT_EQ(a[0], '1');
  EXPECT_EQ(gets[1].code, BAILEY_NOT_FOUND);
  EXPECT_EQ(gets[2].code, BAILEY_TOO_LARGE);
  EXPECT_EQ(gets[2].value_bytes, 2u);
}

TEST_F(CApi, ScanSeesAll) {
  for (char key = 'a'; key <= 'z'; ++key) ASSERT_EQ(bailey_put(table_, &key, 1, &key, 1, nullptr), 0);
  bailey_cursor cursor{0, 0};
  std::string seen;
  while (!cursor.done) {
    const bailey_item* items = nullptr;
    std::size_t count = 0;
    ASSERT_EQ(bailey_scan(table_, &cursor, 5, &items, &count), 0);
    for (std::size_t i = 0; i < count; ++i) {
      ASSERT_EQ(items[i].key_bytes, 1u);
      EXPECT_EQ(std::memcmp(items[i].key, items[i].value, 1), 0);
      seen += static_cast<const char*>(items[i].key)[0];
    }
  }
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, "abcdefghijklmnopqrstuvwxyz");
}

TEST_F(CApi, BadArgumentsAreRefusedAndNotFollowed) {
  EXPECT_EQ(bailey_connect(nullptr, nullptr), BAILEY_INVALID_ARGUMENT);
  EXPECT_EQ(bailey_open_table(session_, nullptr, BAILEY_READ, &table_), BAILEY_INVALID_ARGUMENT);
  bailey_table* other = nullptr;
  EXPECT_EQ(bailey_open_table(session_, "orders", 7, &other), BAILEY_INVALID_ARGUMENT);
  EXPECT_EQ(other, nullptr);
  EXPECT_EQ(bailey_put(table_, nullptr, 3, "v", 1, nullptr), BAILEY_INVALID_ARGUMENT);
  EXPECT_EQ(bailey_put(table_, "k", 1, nullptr, 1, nullptr), BAILEY_INVALID_ARGUMENT);
  EXPECT_EQ(bailey_put(nullptr, "k", 1, "v", 1, nullptr), BAILEY_INVALID_ARGUMENT);
  EXPECT_EQ(bailey_get(table_, "k", 1, nullptr, 1, nullptr, nullptr), BAILEY_INVALID_ARGUMENT);
  bailey_write_item write{9, "k", 1, "v", 1, 0, 0, 0};
  EXPECT_EQ(bailey_apply(table_, &write, 1), BAILEY_INVALID_ARGUMENT);
  bailey_cursor cursor{0, 0};
  EXPECT_EQ(bailey_scan(table_, &cursor, 0, nullptr, nullptr), BAILEY_INVALID_ARGUMENT);
  bailey_close(nullptr);
  bailey_table_close(nullptr);
  std::string key(5000, 'k');
  EXPECT_EQ(bailey_put(table_, key.data(), key.size(), "v", 1, nullptr), BAILEY_TOO_LARGE);
  EXPECT_THAT(bailey_error()->text, HasSubstr("5000"));
  EXPECT_EQ(bailey_error()->by, BAILEY_BY_LIBRARY);
}

TEST_F(CApi, AHostileCursorEndsTheScan) {
  bailey_cursor cursor{~std::uint64_t{0}, 0};
  const bailey_item* items = nullptr;
  std::size_t count = 1;
  ASSERT_EQ(bailey_scan(table_, &cursor, 5, &items, &count), 0);
  EXPECT_EQ(count, 0u);
  EXPECT_NE(cursor.done, 0);
}

TEST(CApiAlone, VersionsAndNames) {
  EXPECT_STREQ(bailey_version(), "0.1.0");
  EXPECT_EQ(bailey_layout_version(), BAILEY_LAYOUT);
  EXPECT_EQ(bailey_protocol_version(), 1u);
  EXPECT_STREQ(bailey_code_name(0), "ok");
  EXPECT_STREQ(bailey_code_name(BAILEY_NOT_FOUND), "not found");
  EXPECT_STREQ(bailey_code_name(-1), "unknown error");
  EXPECT_STREQ(bailey_code_name(255), "unknown error");
}

TEST(CApiAlone, ErrorsAreTold) {
  bailey_options options{};
  options.socket_path = "/tmp/bailey-nobody-is-here/broker.sock";
  options.allow_dump = 1;
  bailey_session* session = nullptr;
  ASSERT_EQ(bailey_connect(&options, &session), BAILEY_UNAVAILABLE);
  EXPECT_EQ(session, nullptr);
  EXPECT_THAT(bailey_error()->message, HasSubstr(options.socket_path));
  EXPECT_THAT(bailey_error()->text, HasSubstr("broker away"));
}

}  // namespace
