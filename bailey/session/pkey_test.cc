// Sessions on regions where the rung `pkey` is in force. pku_guest_test runs them on a processor that has
// keys.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <list>
#include <stdexcept>
#include <vector>

#include "bailey/guard/test_support.h"
#include "bailey/session/fake_broker.h"
#include "bailey/session/session.h"

namespace bailey::session {
namespace {

using guard::Probe;
using ::testing::HasSubstr;
using World = FakeBroker::World;

// A broker whose region has the rung in force, and is told from others' regions by its number.
FakeBroker::Script guarded(std::uint8_t number) {
  return [number](World& world, const protocol::Request& request) {
    auto* open = std::get_if<protocol::OpenRegion>(&request.body);
    if (open == nullptr) return false;
    auto answer = world.opened(open->writable, number);
    answer.protect = {"process", "pkey"};
    std::vector<int> files = {world.index.fd.get()};
    if (open->writable) {
      world.next_index = World::file(world.geometry.index_bytes(), {});
      files.insert(files.begin(), world.next_index.fd.get());
    }
    world.reply(request.number, answer, files);
    return true;
  };
}

struct Client {
  explicit Client(std::uint8_t number = 1) : broker(guarded(number)) {
    Options options;
    options.socket_path = broker.path();
    options.allow_dump = true;
    session.emplace(Session::connect(options).value());
  }
  table::Table open(Access access = Access::read_write) {
    return session->open_table("orders", access).value();
  }

  FakeBroker broker;
  std::optional<Session> session;
};

// All that a view has mapped.
std::vector<std::byte*> pages_of(pool::View& view) {
  std::vector<std::byte*> pages = {view.index()};
  for (unsigned id = 1; id < 65536; ++id)
    if (std::byte* base = view.extent(static_cast<pool::SegmentId>(id)).base; base != nullptr) {
      pages.push_back(base);
      pages.push_back(base + FakeBroker::segment_bytes - 1);
    }
  return pages;
}
void expect_closed(table::Table& table, const char* after) {
  for (std::byte* at : pages_of(table.view())) {
    EXPECT_EQ(Probe::load(at), SEGV_PKUERR) << "after " << after;
    EXPECT_EQ(Probe::store(at), SEGV_PKUERR) << "after " << after;
  }
}

TEST(PkeySession, OpensTheRegionWhereItCanGuardItAndRefusesElsewhere) {
  Client client;
  auto table = client.session->open_table("orders", Access::read_only);
  if (auto there = guard::available(); there) {
    EXPECT_TRUE(table) << table.error().to_string();
    return;
  } else {
    ASSERT_FALSE(table) << "a region that nobody guards was opened";
    EXPECT_EQ(table.error().code, Code::unsupported);
    EXPECT_THAT(table.error().message, HasSubstr("region orders has its protection \"pkey\" in force"));
    EXPECT_THAT(table.error().message, HasSubstr(there.error().message));
  }
}

TEST(PkeySession, EveryOperationWorksAndLeavesAllPagesClosed) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  Client client;
  auto table = client.open();
  expect_closed(table, "opening");
  auto first = table.put("key", "value");
  ASSERT_TRUE(first) << first.error().to_string();
  EXPECT_GT(pages_of(table.view()).size(), 2u) << "a segment is mapped";
  expect_closed(table, "put");
  ASSERT_TRUE(table.insert("other", "1"));
  expect_closed(table, "insert");
  EXPECT_EQ(table.insert("other", "2").error().code, Code::exists);
  ASSERT_TRUE(table.update("other", "3"));
  expect_closed(table, "update");
  ASSERT_TRUE(table.put_if_version("key", "next", *first));
  expect_closed(table, "put_if_version");
  std::string value;
  ASSERT_TRUE(table.get("key", value));
  EXPECT_EQ(value, "next");
  expect_closed(table, "get");
  std::byte out[16];
  std::size_t needed = 0;
  EXPECT_EQ(table.get("key", MutableBytes(out, 1), &needed).error().code, Code::too_large);
  EXPECT_EQ(needed, 4u);
  expect_closed(table, "get into a small buffer");
  std::vector<table::Write> writes(40);
  std::vector<std::string> keys;
  for (std::size_t i = 0; i < writes.size(); ++i) keys.push_back("batch" + std::to_string(i));
  for (std::size_t i = 0; i < writes.size(); ++i) writes[i].key = writes[i].value = keys[i];
  ASSERT_TRUE(table.apply(writes));
  for (const table::Write& write : writes) EXPECT_TRUE(write.ok);
  expect_closed(table, "apply");
  std::vector<table::Get> gets(40);
  std::vector<std::byte> room(40 * 16);
  for (std::size_t i = 0; i < gets.size(); ++i) {
    gets[i].key = keys[i];
    gets[i].out = MutableBytes(room).subspan(i * 16, 16);
  }
  ASSERT_TRUE(table.get_many(gets));
  for (std::size_t i = 0; i < gets.size(); ++i)
    EXPECT_EQ(as_text(Bytes(gets[i].out).first(gets[i].found.bytes)), keys[i]);
  expect_closed(table, "get_many");
  table::Cursor cursor;
  std::vector<table::Item> items;
  while (!cursor.done) ASSERT_TRUE(table.scan(cursor, 10, items));
  EXPECT_EQ(items.size(), 42u);
  expect_closed(table, "scan");
  ASSERT_TRUE(table.put("large", std::string(1 << 20, 'l')));
  expect_closed(table, "a put with a segment of its own");
  ASSERT_TRUE(table.erase("other"));
  expect_closed(table, "erase");
  ASSERT_TRUE(table.maintain());
  expect_closed(table, "maintain");
}

// An operation is nobody's hand in guarded pages: not in its own region's, nor in another's.
TEST(PkeySession, ArgumentsThatLieInGuardedPagesAreRefused) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  Client client, neighbour(2);
  auto table = client.open(), other = neighbour.open();
  ASSERT_TRUE(table.put("key", "value"));
  ASSERT_TRUE(other.put("key", "secret"));
  for (std::byte* page : {table.view().index(), other.view().index()}) {
    auto* const chars = reinterpret_cast<char*>(page);
    const std::string_view text(chars, 8);
    const MutableBytes out(page, 64);
    const auto refused = [&](const auto& result) {
      ASSERT_FALSE(result);
      EXPECT_EQ(result.error().code, Code::denied);
      EXPECT_THAT(result.error().message, HasSubstr("guarded pages"));
      expect_closed(table, "a refusal");
    };
    refused(table.get("key", out));
    refused(table.get(text, *std::make_unique<std::string>()));
    refused(table.get("key", MutableBytes(page - 1, 2)));
    refused(table.get("key", MutableBytes(), reinterpret_cast<std::size_t*>(page)));
    refused(table.get("key", *reinterpret_cast<std::string*>(page)));
    refused(table.put("key", text));
    refused(table.put(text, "value"));
    refused(table.insert(text, "value"));
    refused(table.insert("new", text));
    refused(table.update("key", text));
    refused(table.put_if_version("key", text, 1));
    refused(table.erase(text));
    table::Get gets[2];
    gets[0].key = gets[1].key = "key";
    gets[1].out = out;
    refused(table.get_many(gets));
    gets[1] = {.key = text, .out = {}, .found = {}};
    refused(table.get_many(gets));
    refused(table.get_many(std::span(reinterpret_cast<table::Get*>(page), 2)));
    table::Write writes[2];
    writes[0].key = writes[1].key = writes[0].value = "batch";
    writes[1].value = text;
    refused(table.apply(writes));
    std::string value;
    EXPECT_EQ(table.get("batch", value).error().code, Code::not_found) << "a part of a refused batch";
    refused(table.apply(std::span(reinterpret_cast<table::Write*>(page), 2)));
    table::Cursor cursor;
    std::vector<table::Item> items;
    refused(table.scan(*reinterpret_cast<table::Cursor*>(page), 10, items));
    refused(table.scan(cursor, 10, *reinterpret_cast<std::vector<table::Item>*>(page)));
  }
}

TEST(PkeySession, ReadersPagesAreClosedToo) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  Client client;
  auto table = client.open(Access::read_only);
  std::string value;
  EXPECT_EQ(table.get("key", value).error().code, Code::not_found);
  expect_closed(table, "get");
}

// Core files are written by the kernel, which knows no keys.
TEST(PkeySession, PagesAreLeftOutOfCoreFiles) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  Client client;
  auto table = client.open();
  ASSERT_TRUE(table.put("key", "value"));
  for (std::byte* at : pages_of(table.view())) EXPECT_THAT(guard::mapping_flags(at), HasSubstr(" dd "));
}

struct Hook : pool::StepHook {
  void at(pool::Step step) override {
    if (step == when) act();
  }
  pool::Step when = pool::Step::record_copied;
  std::function<void()> act;
};

std::byte* of_handler = nullptr;
volatile int seen_by_handler = -1;
TEST(PkeySession, ASignalInTheMiddleOfAnOperationFindsAllClosedAndTheOperationGoesOn) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  Client client;
  auto table = client.open();
  ASSERT_TRUE(table.put("key", "value"));
  of_handler = table.view().index();
  struct sigaction ours{}, before{};
  ours.sa_handler = [](int) { seen_by_handler = Probe::load(of_handler); };
  ::sigaction(SIGUSR1, &ours, &before);
  Hook hook;
  hook.act = [] { ::raise(SIGUSR1); };
  table.view().set_hook(&hook);
  std::string value;
  EXPECT_TRUE(table.get("key", value));
  EXPECT_EQ(value, "value");
  EXPECT_EQ(seen_by_handler, SEGV_PKUERR);
  table.view().set_hook(nullptr);
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST(PkeySession, AnExceptionOutOfAnOperationClosesAll) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  Client client;
  auto table = client.open();
  ASSERT_TRUE(table.put("key", "value"));
  Hook hook;
  hook.act = [] { throw std::bad_alloc(); };
  table.view().set_hook(&hook);
  std::string value;
  EXPECT_THROW((void)table.get("key", value), std::bad_alloc);
  table.view().set_hook(nullptr);
  expect_closed(table, "an exception");
  EXPECT_TRUE(table.get("key", value));
}

TEST(PkeySession, AForkedChildHasNoPagesAndHearsSo) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  Client client;
  auto table = client.open();
  ASSERT_TRUE(table.put("key", "value"));
  int status = guard::in_child([&] {
    std::string value;
    if (table.get("key", value).error().code != Code::forked) ::_exit(1);
    if (table.put("key", "x").error().code != Code::forked) ::_exit(2);
    for (std::byte* at : pages_of(table.view()))
      if (Probe::load(at) != SEGV_ACCERR) ::_exit(3);
    // A region of its own is guarded like any other.
    Client own(7);
    auto hers = own.open();
    if (!hers.put("a", "b") || !hers.get("a", value) || value != "b") ::_exit(4);
    if (Probe::load(hers.view().index()) != SEGV_PKUERR) ::_exit(5);
  });
  EXPECT_EQ(status, 0);
  std::string value;
  EXPECT_TRUE(table.get("key", value));
}

TEST(PkeySession, MoreRegionsThanHardwareKeysAreInUseSideBySide) {
  BAILEY_NEEDS_PROTECTION_KEYS();
  std::list<Client> clients;
  std::list<table::Table> tables;
  for (int i = 0; i < 20; ++i) tables.push_back(clients.emplace_back(static_cast<std::uint8_t>(i)).open());
  for (int round = 0; round < 3; ++round) {
    int i = 0;
    for (table::Table& table : tables) {
      std::string key = std::to_string(i++), value;
      ASSERT_TRUE(table.put(key, key + "'s"));
      ASSERT_TRUE(table.get(key, value));
      EXPECT_EQ(value, key + "'s");
      EXPECT_EQ(table.get(std::to_string(i), value).error().code, Code::not_found);
    }
  }
  for (table::Table& table : tables) expect_closed(table, "all");
}

}  // namespace
}  // namespace bailey::session
