#include "bailey/capability/token.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "bailey/capability/key.h"

namespace bailey::capability {
namespace {

Head sample_head() {
  Head head;
  std::uint8_t byte = 0;
  for (Id* id : {&head.pool, &head.region, &head.id})
    for (std::uint8_t& at : *id) at = byte++;
  head.access = Access::read_write;
  head.bearer = true;
  return head;
}
Token sample() { return Key(as_bytes(std::string(32, 'k'))).mint(sample_head()); }
Token sample_with_all() {
  return sample()
      .narrow(Range{4096, 8192})
      .value()
      .narrow(Prefix{"user/"})
      .value()
      .narrow(Rights{Access::read_only})
      .value()
      .narrow(Expiry{2'000'000'000})
      .value()
      .narrow(Holder{"alice"})
      .value();
}
std::string bytes_of(const Token& token) { return std::string(as_text(token.bytes())); }

std::string hex(std::string_view bytes) {
  std::string text;
  for (char byte : bytes) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", static_cast<unsigned char>(byte));
    text += two;
  }
  return text;
}

TEST(Token, ComesBackAsItWasWritten) {
  Token token = sample_with_all();
  Token again = Token::decode(token.bytes()).value();
  EXPECT_EQ(again.head(), sample_head());
  ASSERT_EQ(again.caveats(), 5u);
  EXPECT_EQ(again.caveat(0), Caveat(Range{4096, 8192}));
  EXPECT_EQ(again.caveat(1), Caveat(Prefix{"user/"}));
  EXPECT_EQ(again.caveat(2), Caveat(Rights{Access::read_only}));
  EXPECT_EQ(again.caveat(3), Caveat(Expiry{2'000'000'000}));
  EXPECT_EQ(again.caveat(4), Caveat(Holder{"alice"}));
  EXPECT_EQ(bytes_of(again), bytes_of(token));
  EXPECT_EQ(to_string(again.caveat(0)), "bytes 4096..12287");
  EXPECT_EQ(to_string(again.caveat(3)), "until 2033-05-18T03:33:20Z");
}

// The example of docs/formats.md.
TEST(Token, HasTheDocumentedBytes) {
  std::string bytes = bytes_of(sample().narrow(Range{4096, 8192}).value());
  EXPECT_EQ(hex(bytes.substr(0, 80)),
            "424c4559544f4b310101020100000000"
            "00000000000000000000000000000000"
            "000102030405060708090a0b0c0d0e0f"
            "101112131415161718191a1b1c1d1e1f"
            "202122232425262728292a2b2c2d2e2f");
  EXPECT_EQ(hex(bytes.substr(80, 18)), "011000100000000000000020000000000000");
  EXPECT_EQ(hex(bytes.substr(98)), "ac11d220e8fecbc174f2675a980ccc4a37ae2de88a5184c8ab3fdad6ecea66d2");
}

TEST(Token, NoLengthButTheWholeIsTaken) {
  std::string bytes = bytes_of(sample_with_all());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    auto cut = Token::decode(as_bytes(bytes.substr(0, size)));
    // Cut right behind a caveat something of the form of a token may remain; its tag is made of what stood
    // there.
    EXPECT_FALSE(cut && Key(as_bytes(std::string(32, 'k'))).verify(*cut)) << size;
    EXPECT_FALSE(cut && size < 112) << size;
  }
  EXPECT_FALSE(Token::decode(as_bytes(bytes + '\0')));
  EXPECT_FALSE(Token::decode(as_bytes(std::string(513, 'x'))));
}

TEST(Token, HasOneForm) {
  std::string bytes = bytes_of(sample_with_all());
  auto with = [&](std::size_t at, std::uint8_t byte) {
    std::string other = bytes;
    other[at] = static_cast<char>(byte);
    return Token::decode(as_bytes(other));
  };
  ASSERT_TRUE(with(10, 2));
  EXPECT_FALSE(with(0, 'b'));                              // magic
  EXPECT_EQ(with(8, 2).error().code, Code::incompatible);  // version
  for (int audience : {0, 2 + 1, 255}) EXPECT_FALSE(with(9, static_cast<std::uint8_t>(audience)));
  for (int rights : {0, 3, 255}) EXPECT_FALSE(with(10, static_cast<std::uint8_t>(rights)));
  for (int flags : {2, 3, 128}) EXPECT_FALSE(with(11, static_cast<std::uint8_t>(flags)));
  for (std::size_t at = 12; at < 32; ++at) EXPECT_FALSE(with(at, 1)) << at;  // the broker's names no session
  for (int kind : {0, 6, 255}) EXPECT_FALSE(with(80, static_cast<std::uint8_t>(kind)));
  for (int size : {0, 15, 17, 255}) EXPECT_FALSE(with(81, static_cast<std::uint8_t>(size)));

  // A session's, with a grant word that there is not.
  Head head = sample_head();
  head.audience = Audience::session;
  head.grant = 8191;
  EXPECT_TRUE(Token::decode(Key(as_bytes("k")).mint(head).bytes()));
  head.grant = 8192;
  EXPECT_FALSE(Token::decode(Key(as_bytes("k")).mint(head).bytes()));
}

// Caveats that say nothing, or something else than they seem to, have no form.
TEST(Token, CaveatsWithoutMeaningAreRefused) {
  Token token = sample();
  EXPECT_FALSE(token.narrow(Range{5, 0}));
  EXPECT_FALSE(token.narrow(Range{~0ull, 2}));
  EXPECT_FALSE(token.narrow(Range{1, ~0ull}).value().narrow(Range{2, ~0ull}));
  EXPECT_TRUE(token.narrow(Range{0, ~0ull}));
  EXPECT_TRUE(token.narrow(Range{~0ull, 1}));
  EXPECT_FALSE(token.narrow(Prefix{""}));
  EXPECT_FALSE(token.narrow(Prefix{std::string(256, 'p')}));
  EXPECT_FALSE(token.narrow(Expiry{0}));
  for (std::string name : {"", "Alice", "user:alice", "a b", "../a"})
    EXPECT_FALSE(token.narrow(Holder{name})) << name;
  EXPECT_FALSE(token.narrow(Holder{std::string(64, 'a')}));
  EXPECT_TRUE(token.narrow(Holder{std::string(63, 'a')}));

  // And as bytes: each of these stands where the caveats do.
  std::string bytes = bytes_of(token), head = bytes.substr(0, 80), tag = bytes.substr(80);
  auto range = [](std::uint64_t offset, std::uint64_t length) {
    std::string body(16, 0);
    std::memcpy(body.data(), &offset, 8);
    std::memcpy(body.data() + 8, &length, 8);
    return std::string("\x01\x10") + body;
  };
  EXPECT_TRUE(Token::decode(as_bytes(head + range(0, 1) + tag)));
  for (const std::string& caveat :
       {range(0, 0), range(~0ull, 2), std::string("\x02\x00", 2), std::string("\x03\x01\x00", 3),
        std::string("\x03\x01\x03"), std::string("\x03\x00", 2),
        std::string("\x04\x08") + std::string(8, '\0'), std::string("\x05\x00", 2), std::string("\x05\x01 "),
        std::string("\x05\x40") + std::string(64, 'a')})
    EXPECT_FALSE(Token::decode(as_bytes(head + caveat + tag))) << hex(caveat);
}

TEST(Token, IsBounded) {
  Token token = sample();
  for (int i = 0; i < 8; ++i) token = token.narrow(Rights{Access::read_only}).value();
  EXPECT_EQ(token.narrow(Rights{Access::read_only}).error().code, Code::too_large);
  std::string bytes = bytes_of(token);
  EXPECT_FALSE(Token::decode(as_bytes(bytes.substr(0, 80) + "\x03\x01\x01" + bytes.substr(80))));
  token = sample().narrow(Prefix{std::string(255, 'p')}).value();
  EXPECT_EQ(token.narrow(Prefix{std::string(142, 'p')}).error().code, Code::too_large);
  token = token.narrow(Prefix{std::string(141, 'p')}).value();
  EXPECT_EQ(token.bytes().size(), 512u);
  EXPECT_TRUE(Token::decode(token.bytes()));
}

TEST(Token, HasOneText) {
  Token token = sample_with_all();
  std::string text = token.text();
  EXPECT_EQ(bytes_of(Token::from_text(text).value()), bytes_of(token));
  for (const std::string& other : {text + "\n", " " + text, text + "=", text.substr(0, text.size() - 1),
                                   text.substr(0, 40) + "\n" + text.substr(40), std::string()})
    EXPECT_FALSE(Token::from_text(other)) << other;
  for (std::size_t at = 0; at < text.size(); ++at)
    for (char c : {'-', '_', '\0', '.'}) {
      std::string other = text;
      other[at] = c;
      EXPECT_FALSE(Token::from_text(other));
    }
  // Bits behind the last byte: the same bytes in another text.
  Token two = sample().narrow(Rights{Access::read_only}).value();  // 115 bytes, so that the text ends in "=="
  std::string padded = two.text();
  ASSERT_TRUE(padded.ends_with("=="));
  padded[padded.size() - 3] = static_cast<char>(padded[padded.size() - 3] + 1);
  EXPECT_FALSE(Token::from_text(padded));
}

TEST(Token, IdsHaveOneText) {
  Id id = sample_head().id;
  std::string text = to_string(id);
  EXPECT_EQ(text, "202122232425262728292a2b2c2d2e2f");
  EXPECT_EQ(parse_id(text).value(), id);
  for (std::string other : {"", "20", "202122232425262728292A2B2C2D2E2F", "202122232425262728292a2b2c2d2e2g"})
    EXPECT_FALSE(parse_id(other)) << other;
}

}  // namespace
}  // namespace bailey::capability
