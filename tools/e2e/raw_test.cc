// Raw regions and their windows on a real broker.
#include <sys/mman.h>

#include <cstring>

#include "bailey/capability/key.h"
#include "bailey/session/bailey.h"
#include "tools/e2e/house.h"

namespace bailey::e2e {
namespace {

using capability::Range;
using capability::Rights;

class RawRegion : public House, public ::testing::WithParamInterface<const char*> {
 protected:
  // alice may write "frames", bob read it.
  std::string raw_policy(const std::string& mode, bool with_bob = true) const {
    std::string text = policy(mode);
    text += fmt::format("[region.frames]\nkind = \"raw\"\nmode = \"{}\"\nsize = \"4MiB\"\n", mode);
    text += broker::grant_toml("alice", "frames", "rw");
    if (with_bob) text += broker::grant_toml("bob", "frames", "r");
    return text;
  }
};
INSTANTIATE_TEST_SUITE_P(Modes, RawRegion, ::testing::Values("exclusive", "shared"));

std::string read(Window& window, std::uint64_t offset, std::size_t bytes) {
  std::string out(bytes, '?');
  auto done = window.read(offset, std::as_writable_bytes(std::span(out)));
  return done ? out : done.error().to_string();
}
Code write(Window& window, std::uint64_t offset, std::string_view text) {
  auto done = window.write(offset, as_bytes(text));
  return done ? Code{} : done.error().code;
}

TEST_P(RawRegion, WhatOneWritesTheOtherReads) {
  serve(raw_policy(GetParam()));
  Session alice = session("alice").value(), bob = session("bob").value();
  Raw writes = alice.open_raw("frames", Access::read_write).value();
  EXPECT_EQ(writes.bytes(), 4u << 20);
  Window window = writes.acquire(100, 1000, Access::read_write).value();
  ASSERT_EQ(write(window, 3, "hello"), Code{});
  Raw reads = bob.open_raw("frames", Access::read_only).value();
  Window seen = reads.acquire(0, reads.bytes(), Access::read_only).value();
  EXPECT_EQ(read(seen, 103, 5), "hello");
  EXPECT_EQ(read(seen, 102, 7), std::string("\0hello\0", 7)) << "no byte beside them is touched";
  EXPECT_TRUE(seen.compare(103, as_bytes("hello")).value());
  EXPECT_FALSE(seen.compare(103, as_bytes("hellO")).value());
  ASSERT_EQ(write(window, 3, "HELLO"), Code{});
  EXPECT_EQ(read(seen, 103, 5), "HELLO");
  EXPECT_EQ(bob.open_raw("frames", Access::read_write).error().code, Code::denied);
  EXPECT_EQ(bob.open_table("frames", Access::read_only).error().code, Code::unsupported);
  EXPECT_EQ(bob.open_raw("orders", Access::read_only).error().code, Code::unsupported);
}

TEST_P(RawRegion, AWindowHasItsBoundsAndRights) {
  serve(raw_policy(GetParam()));
  Session alice = session("alice").value();
  Raw raw = alice.open_raw("frames", Access::read_write).value();
  Window window = raw.acquire(4096, 64, Access::read_write).value();
  char bytes[128] = {};
  for (auto [offset, count] : {std::pair<std::uint64_t, std::size_t>{0, 65},
                               {1, 64},
                               {64, 1},
                               {65, 0},
                               {~0ull, 1},
                               {~0ull - 63, 64},
                               {~0ull, 128}}) {
    EXPECT_EQ(window.read(offset, std::as_writable_bytes(std::span(bytes).first(count))).error().code,
              Code::invalid_argument)
        << offset << " " << count;
    EXPECT_EQ(write(window, offset, std::string_view(bytes, count)), Code::invalid_argument);
    EXPECT_EQ(window.compare(offset, std::as_bytes(std::span(bytes).first(count))).error().code,
              Code::invalid_argument);
  }
  EXPECT_EQ(write(window, 64, ""), Code{});
  EXPECT_EQ(write(window, 63, "x"), Code{});
  Window reads = raw.acquire(4096, 64, Access::read_only).value();
  EXPECT_EQ(write(reads, 0, "x"), Code::denied);
  EXPECT_EQ(read(reads, 63, 1), "x");
  for (auto [offset, count] : {std::pair<std::uint64_t, std::uint64_t>{raw.bytes(), 1},
                               {0, raw.bytes() + 1},
                               {raw.bytes() - 1, 2},
                               {~0ull, 2},
                               {2, ~0ull},
                               {0, 0}})
    EXPECT_EQ(raw.acquire(offset, count, Access::read_only).error().code, Code::invalid_argument) << offset;
}

// Code of this process that was handed a narrowed token gets what it says and not a byte more.
TEST_P(RawRegion, ANarrowedTokenIsHeldTo) {
  serve(raw_policy(GetParam()));
  Session alice = session("alice").value(), bob = session("bob").value();
  Raw raw = alice.open_raw("frames", Access::read_write).value();
  Token part = raw.token().narrow(Range{4096, 4096}).value();
  Window window = raw.acquire(part).value();
  EXPECT_EQ(window.bytes(), 4096u);
  EXPECT_TRUE(window.writable());
  EXPECT_FALSE(raw.acquire(part.narrow(Rights{Access::read_only}).value()).value().writable());
  Range inside[] = {{4096, 16}, {8191, 1}};
  auto windows = raw.acquire(part, inside, Access::read_write);
  ASSERT_TRUE(windows);
  EXPECT_EQ(windows->size(), 2u);
  for (Range beyond : {Range{4095, 2}, Range{8191, 2}, Range{8192, 1}, Range{0, 1}}) {
    Range both[] = {{4096, 16}, beyond};
    EXPECT_EQ(raw.acquire(part, both, Access::read_only).error().code, Code::denied) << beyond.offset;
  }
  EXPECT_EQ(raw.acquire(part.narrow(Range{0, 16}).value()).error().code, Code::denied);
  // Of another session, though for the same region; changed; and with what no window holds to.
  Raw bobs = bob.open_raw("frames", Access::read_only).value();
  EXPECT_EQ(raw.acquire(bobs.token()).error().code, Code::denied);
  EXPECT_EQ(bobs.acquire(part).error().code, Code::denied);
  std::string bytes(as_text(part.bytes()));
  bytes[82] ^= 1;
  EXPECT_EQ(raw.acquire(Token::decode(as_bytes(bytes)).value()).error().code, Code::denied);
  EXPECT_EQ(raw.acquire(part.narrow(capability::Expiry{1}).value()).error().code, Code::unsupported);
  EXPECT_EQ(raw.acquire(part.narrow(capability::Holder{"bob"}).value()).error().code, Code::unsupported);
}

TEST_P(RawRegion, ARevokedWindowAndItsCopiesAreOver) {
  serve(raw_policy(GetParam()));
  Session alice = session("alice").value();
  Raw raw = alice.open_raw("frames", Access::read_write).value();
  for (auto verify : {Raw::Verify::once, Raw::Verify::each}) {
    Window window = raw.acquire(0, 64, Access::read_write, verify).value(), copy = window,
           other = raw.acquire(0, 64, Access::read_write, verify).value();
    EXPECT_EQ(write(copy, 0, "x"), Code{});
    window.revoke();
    EXPECT_EQ(write(window, 0, "y"), Code::revoked);
    EXPECT_EQ(write(copy, 0, "y"), Code::revoked);
    EXPECT_EQ(read(other, 0, 1), "x");
  }
}

TEST_P(RawRegion, ARevokedGrantOrTokenEndsItsWindowsAndOthersLoseNothing) {
  serve(raw_policy(GetParam()));
  Session admin = session("", 10'000).value(), alice = session("alice", 10'000).value(),
          bob = session("bob").value(), mallory = session("mallory").value();
  Token token = admin.mint_token("frames", {Access::read_only, "mallory", 0}).value();
  Raw writes = alice.open_raw("frames", Access::read_write).value();
  Window window = writes.acquire(0, 64, Access::read_write).value();
  ASSERT_EQ(write(window, 0, "before"), Code{});
  EXPECT_EQ(mallory.open_raw("frames", Access::read_only).error().code, Code::denied);
  Raw by_token = mallory.open_raw("frames", Access::read_only, &token).value();
  Raw by_grant = bob.open_raw("frames", Access::read_only).value();
  Window mallorys = by_token.acquire(0, 64, Access::read_only).value(),
         bobs = by_grant.acquire(0, 64, Access::read_only).value();
  EXPECT_EQ(read(mallorys, 0, 6), "before");
  EXPECT_EQ(by_token.acquire(0, 64, Access::read_write).error().code, Code::denied);

  // alice attends at her next access: the bytes that a hostile mallory keeps are the old ones.
  ASSERT_TRUE(admin.revoke_token(token.id()));
  char byte;
  EXPECT_EQ(mallorys.read(0, std::as_writable_bytes(std::span(&byte, 1))).error().code, Code::revoked);
  ASSERT_EQ(write(window, 0, "after!"), Code{});
  EXPECT_EQ(read(bobs, 0, 6), "after!");
  ASSERT_EQ(write(window, 6, "?"), Code{});
  EXPECT_EQ(read(bobs, 0, 7), "after!?");

  ASSERT_TRUE(admin.apply_policy(raw_policy(GetParam(), false), "policy.toml", folder_, false));
  EXPECT_EQ(bobs.read(0, std::as_writable_bytes(std::span(&byte, 1))).error().code, Code::revoked);
  ASSERT_EQ(write(window, 0, "still"), Code{});
  EXPECT_EQ(read(window, 0, 7), "still!?") << "what was there came along";
}

// Speaks the protocol itself, keeps what it is given mapped and answers nothing.
TEST_P(RawRegion, NothingThatIsWrittenAfterARevocationIsInWhatAHostileReaderHolds) {
  serve(raw_policy(GetParam()));
  Session admin = session("", 10'000).value(), alice = session("alice", 10'000).value();
  Token token = admin.mint_token("frames", {}).value();
  Raw raw = alice.open_raw("frames", Access::read_write).value();
  Window window = raw.acquire(0, 4096, Access::read_write).value();
  ASSERT_EQ(write(window, 0, "before"), Code{});
  auto client = broker::Client::connect(socket()).value();
  auto opened = client.ask<protocol::Opened>(
      protocol::OpenRegion{"frames", false, std::string(as_text(token.bytes()))});
  ASSERT_TRUE(opened) << opened.error().to_string();
  Mapping spy = Mapping::of_file(client.fds.at(0).get(), opened->index_bytes, Access::read_only).value();
  auto seen = [&] { return std::string(reinterpret_cast<const char*>(spy.data()), 6); };
  ASSERT_EQ(seen(), "before");
  ASSERT_EQ(write(window, 0, "still!"), Code{});
  ASSERT_EQ(seen(), "still!") << "or the test shows nothing";

  // alice is idle, and nobody waits for her longer than a second; she comes back with her next access.
  ASSERT_TRUE(admin.revoke_token(token.id()));
  ASSERT_EQ(write(window, 0, "secret"), Code{});
  EXPECT_EQ(seen(), "still!");
  EXPECT_EQ(read(window, 0, 6), "secret");
}

TEST_P(RawRegion, OutlivesTheBrokerWithItsWindows) {
  serve(raw_policy(GetParam()));
  Session alice = session("alice", 10'000).value();
  Raw raw = alice.open_raw("frames", Access::read_write).value();
  Window window = raw.acquire(0, 64, Access::read_write).value();
  ASSERT_EQ(write(window, 0, "before"), Code{});
  ::kill(broker_, SIGKILL);
  ASSERT_EQ(write(window, 0, "during"), Code{}) << "no access asks a broker";
  Session bob = session("bob", 10'000).value();
  Raw reads = bob.open_raw("frames", Access::read_only).value();
  Window seen = reads.acquire(0, 64, Access::read_only).value();
  EXPECT_EQ(read(seen, 0, 6), "during");
  ASSERT_EQ(write(window, 0, "after!"), Code{});
  EXPECT_EQ(read(seen, 0, 6), "after!");
}

TEST_P(RawRegion, ATokenForAPartIsRefusedWhereNothingHoldsToIt) {
  serve(raw_policy(GetParam()));
  Session admin = session("", 10'000).value(), bob = session("bob").value();
  Token token = admin.mint_token("frames", {}).value();
  EXPECT_TRUE(bob.open_raw("frames", Access::read_only, &token));
  Token part = token.narrow(Range{0, 4096}).value();
  auto refused = bob.open_raw("frames", Access::read_only, &part);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::unsupported);
  EXPECT_NE(refused.error().to_string().find("protect the region with \"pkey\""), std::string::npos)
      << refused.error().to_string();
  Token prefix = token.narrow(capability::Prefix{"key"}).value();
  EXPECT_EQ(bob.open_raw("frames", Access::read_only, &prefix).error().code, Code::denied);
}

TEST_P(RawRegion, AnotherWriterComesAfterTheFirst) {
  serve(raw_policy(GetParam()));
  {
    Session alice = session("alice").value();
    Raw raw = alice.open_raw("frames", Access::read_write).value();
    Window window = raw.acquire(0, 64, Access::read_write).value();
    ASSERT_EQ(write(window, 0, "first"), Code{});
    Session second = session("alice").value();
    EXPECT_EQ(second.open_raw("frames", Access::read_write).has_value(),
              std::string_view("shared") == GetParam());
  }
  Session alice = session("alice").value();
  auto raw = alice.open_raw("frames", Access::read_write);
  ASSERT_TRUE(raw) << raw.error().to_string();
  Window window = raw->acquire(0, 64, Access::read_write).value();
  EXPECT_EQ(read(window, 0, 5), "first");
}

TEST_P(RawRegion, AForkedChildGetsAnError) {
  serve(raw_policy(GetParam()));
  Session alice = session("alice").value();
  Raw raw = alice.open_raw("frames", Access::read_write).value();
  Window window = raw.acquire(0, 64, Access::read_write).value();
  Process child([&] { return write(window, 0, "child") == Code::forked ? 0 : 1; });
  EXPECT_EQ(child.wait(), 0);
}

TEST_P(RawRegion, SpeaksC) {
  serve(raw_policy(GetParam()));
  std::string path = socket(), key = key_file("alice");
  bailey_options options{};
  options.socket_path = path.c_str();
  options.key_file = key.c_str();
  options.allow_dump = 1;
  bailey_session* alice = nullptr;
  ASSERT_EQ(bailey_connect(&options, &alice), 0) << bailey_error()->text;
  bailey_raw* raw = nullptr;
  ASSERT_EQ(bailey_open_raw(alice, "frames", BAILEY_WRITE, &raw), 0) << bailey_error()->text;
  EXPECT_EQ(bailey_raw_bytes(raw), 4u << 20);
  bailey_window* window = nullptr;
  EXPECT_EQ(bailey_acquire(raw, 4u << 20, 1, BAILEY_READ, &window), BAILEY_INVALID_ARGUMENT);
  ASSERT_EQ(bailey_acquire(raw, 8, 8, BAILEY_WRITE, &window), 0) << bailey_error()->text;
  char out[8] = {};
  int same = -1;
  EXPECT_EQ(bailey_window_write(window, 0, "12345678", 8), 0);
  EXPECT_EQ(bailey_window_read(window, 4, out, 4), 0);
  EXPECT_EQ(std::memcmp(out, "5678", 4), 0);
  EXPECT_EQ(bailey_window_read(window, 5, out, 4), BAILEY_INVALID_ARGUMENT);
  EXPECT_EQ(bailey_window_compare(window, 0, "12345678", 8, &same), 0);
  EXPECT_EQ(same, 1);
  bailey_window_revoke(window);
  EXPECT_EQ(bailey_window_read(window, 0, out, 1), BAILEY_REVOKED);
  bailey_raw_close(raw);
  bailey_window_close(window);
  bailey_close(alice);
}

// Mallory has a token and no grant.
TEST_P(RawRegion, SpeaksCOfTokens) {
  serve(raw_policy(GetParam()));
  const std::string token = session("", 10'000).value().mint_token("frames", {}).value().text();
  std::string path = socket(), key = key_file("mallory");
  bailey_options options{};
  options.socket_path = path.c_str();
  options.key_file = key.c_str();
  options.allow_dump = 1;
  bailey_session* mallory = nullptr;
  ASSERT_EQ(bailey_connect(&options, &mallory), 0) << bailey_error()->text;
  bailey_raw* raw = nullptr;
  bailey_table* table = nullptr;
  EXPECT_EQ(bailey_open_raw(mallory, "frames", BAILEY_READ, &raw), BAILEY_DENIED);
  EXPECT_EQ(bailey_open_raw_by(mallory, "frames", BAILEY_READ, nullptr, &raw), BAILEY_INVALID_ARGUMENT);
  EXPECT_EQ(bailey_open_raw_by(mallory, "frames", BAILEY_READ, "no token", &raw), BAILEY_INVALID_ARGUMENT);
  EXPECT_EQ(bailey_open_raw_by(mallory, "frames", BAILEY_WRITE, token.c_str(), &raw), BAILEY_DENIED);
  EXPECT_EQ(raw, nullptr);
  EXPECT_EQ(bailey_open_raw_by(mallory, "frames", BAILEY_READ, token.c_str(), &raw), 0)
      << bailey_error()->text;
  EXPECT_EQ(bailey_raw_bytes(raw), 4u << 20);
  EXPECT_NE(bailey_open_table_by(mallory, "frames", BAILEY_READ, token.c_str(), &table), 0)
      << "it is no table";
  bailey_raw_close(raw);
  bailey_close(mallory);
}

}  // namespace
}  // namespace bailey::e2e
