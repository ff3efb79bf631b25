#include "bailey/protocol/codec.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <set>

#include "bailey/abi/control.h"
#include "bailey/protocol/samples.h"

namespace bailey::protocol {
namespace {

// A second, independent writer of the wire's form, so that damage can be made that the codec would never
// write: (field number, content) pairs.
struct Wire {
  std::string bytes;

  Wire& varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(value | 0x80));
    bytes.push_back(static_cast<char>(value));
    return *this;
  }
  Wire& number(unsigned field, std::uint64_t value) { return varint(field << 3).varint(value); }
  Wire& text(unsigned field, std::string_view content) {
    varint(field << 3 | 2).varint(content.size());
    bytes += content;
    return *this;
  }
  Wire& sub(unsigned field, const Wire& content) { return text(field, content.bytes); }
};

bool same(const Answer& a, const Answer& b) {
  if (a.index() != b.index()) return false;
  return std::visit(
      [&](const auto& left) {
        const auto& right = std::get<std::decay_t<decltype(left)>>(b);
        if constexpr (std::is_same_v<std::decay_t<decltype(left)>, Error>)
          return left.code == right.code && left.by == right.by && left.os == right.os &&
                 left.message == right.message && left.remedy == right.remedy;
        else
          return left == right;
      },
      a);
}

TEST(Codec, EveryRequestComesBack) {
  std::set<std::size_t> kinds;
  for (const Request& request : sample_requests()) {
    auto bytes = encode(request);
    ASSERT_TRUE(bytes) << name(request.body) << ": " << bytes.error().to_string();
    auto back = decode_request(as_bytes(*bytes));
    ASSERT_TRUE(back) << name(request.body) << ": " << back.error().to_string();
    EXPECT_EQ(back->number, request.number);
    EXPECT_TRUE(back->body == request.body) << name(request.body);
    kinds.insert(request.body.index());
  }
  EXPECT_EQ(kinds.size(), std::variant_size_v<Body>) << "a kind of request has no sample";
}

TEST(Codec, EveryReplyComesBack) {
  std::set<std::size_t> kinds;
  for (const Reply& reply : sample_replies()) {
    auto bytes = encode(reply);
    ASSERT_TRUE(bytes) << name(reply.answer) << ": " << bytes.error().to_string();
    auto back = decode_reply(as_bytes(*bytes));
    ASSERT_TRUE(back) << name(reply.answer) << ": " << back.error().to_string();
    EXPECT_EQ(back->number, reply.number);
    EXPECT_TRUE(same(back->answer, reply.answer)) << name(reply.answer);
    kinds.insert(reply.answer.index());
  }
  EXPECT_EQ(kinds.size(), std::variant_size_v<Answer>) << "a kind of reply has no sample";
}

TEST(Codec, ZeroFieldsComeBackToo) {
  Prove none;
  auto bytes = encode(Request{1, none});
  ASSERT_TRUE(bytes);
  EXPECT_EQ(std::get<Prove>(decode_request(as_bytes(*bytes))->body), none);
  Hello hello = std::get<Hello>(sample_requests()[0].body);
  hello.has_key = hello.resume = false;
  hello.key = {};
  hello.session = 0;
  bytes = encode(Request{0, hello});
  ASSERT_TRUE(bytes);
  EXPECT_EQ(std::get<Hello>(decode_request(as_bytes(*bytes))->body), hello);
}

TEST(Codec, MessagesAtTheirLimitsFit) {
  std::vector<std::uint16_t> many(gone_max, 65535);
  EXPECT_TRUE(encode(Request{~0ull, Dropped{8191, many}}));
  EXPECT_TRUE(
      encode(Reply{~0ull, Members{~0ull, std::vector<DeskRow>(desks_max, {0x7fffffff, 65535}), many}}));
  EXPECT_TRUE(encode(Reply{~0ull, Text{std::string(text_bytes_max, 'x')}}));
  EXPECT_TRUE(encode(Request{~0ull, OpenRegion{std::string(name_bytes_max, 'r'), true}}));
  EXPECT_TRUE(
      encode(Reply{~0ull, Segments{std::vector<SegmentRow>(segments_in_message_max, {65535, 1ull << 50})}}));
}

TEST(Codec, WhatTheOtherEndMustRefuseIsNotSent) {
  const std::pair<const char*, Request> requests[] = {
      {"no name", {1, OpenRegion{"", false}}},
      {"a name too long", {1, OpenRegion{std::string(name_bytes_max + 1, 'r'), false}}},
      {"a path as a name", {1, OpenRegion{"a/b", false}}},
      {"segment 0", {1, MapSegments{1, {0}}}},
      {"too many segments", {1, MapSegments{1, std::vector<std::uint16_t>(segments_in_message_max + 1, 1)}}},
      {"a grant beyond the control page", {1, Attend{BAILEY_GRANT_WORDS}}},
      {"a policy too long", {1, ApplyPolicy{std::string(text_bytes_max + 1, '#'), "f", "/", false}}}};
  for (const auto& [why, request] : requests) {
    auto bytes = encode(request);
    ASSERT_FALSE(bytes) << why;
    EXPECT_EQ(bytes.error().code, Code::invalid_argument) << why;
    EXPECT_EQ(bytes.error().by, By::library) << why;
  }
  Welcome crowded = std::get<Welcome>(sample_replies()[2].answer);
  crowded.principals.assign(principals_max, std::string(text_name_bytes_max, 'p'));
  EXPECT_EQ(encode(Reply{1, crowded}).error().code, Code::too_large) << "more than one datagram";
}

TEST(Codec, ARefusalAlwaysGetsThrough) {
  Error error{Code::denied, By::broker, -7, std::string(100'000, 'm') + "end", "bell \a and zero"};
  error.remedy += '\0';
  auto bytes = encode(Reply{1, error});
  ASSERT_TRUE(bytes);
  Error back = std::get<Error>(decode_reply(as_bytes(*bytes))->answer);
  EXPECT_EQ(back.message, std::string(error_text_bytes_max, 'm'));
  EXPECT_EQ(back.remedy, "bell ? and zero?");
  EXPECT_EQ(back.os, 0);
}

// ---- damage, by name. Each is a whole message; the field that is wrong must be named in the error.

struct Damage {
  const char* name;
  Wire wire;
  const char* said;  // part of the error's message
};

Wire request(unsigned field, const Wire& body) { return Wire().number(1, 7).sub(field, body); }
std::string zeros(std::size_t count) { return std::string(count, '\0'); }
Wire process(std::size_t boot, std::size_t random) {
  return Wire().text(1, zeros(boot)).text(3, zeros(random));
}
Wire hello(std::size_t nonce) {
  return Wire().number(1, protocol_version).sub(3, process(16, 16)).text(6, zeros(nonce));
}
Wire grant_and_segments(std::size_t count) {
  Wire wire;
  for (std::size_t n = 0; n < count; ++n) wire.number(2, 1);
  return wire;
}

TEST(Damage, OfRequestsIsRefusedByName) {
  // The undamaged forms are taken: the table below is refused for what it says and nothing else.
  ASSERT_TRUE(decode_request(as_bytes(request(2, hello(32)).bytes)));
  ASSERT_TRUE(decode_request(as_bytes(request(4, Wire().text(1, "orders")).bytes)));
  ASSERT_TRUE(decode_request(as_bytes(request(7, grant_and_segments(segments_in_message_max)).bytes)));
  const Damage damages[] = {
      {"nothing", {}, "Request has 0 bytes"},
      {"longer than a message", Wire().text(1, zeros(message_bytes_max)), "Request has"},
      {"not a message", {"\xff\xff\xff"}, "can't be parsed"},
      {"cut short", {request(4, Wire().text(1, "orders")).bytes.substr(0, 8)}, "can't be parsed"},
      {"a number and no body", Wire().number(1, 7), "no body"},
      {"a body of the future", Wire().number(1, 7).sub(900, {}), "does not know"},
      {"an unknown field beside the body", request(15, {}).number(99, 1), "does not know"},
      {"an unknown field in a body", request(15, Wire().number(9, 1)), "does not know"},
      {"an unknown field in a process", request(2, hello(32).sub(3, Wire().number(9, 1))), "Hello.process"},
      {"an unknown field in a place", request(2, hello(32).sub(4, Wire().number(9, 1))), "Hello.client"},
      {"an unknown field in what was seen", request(2, hello(32).sub(5, Wire().number(9, 1))),
       "Hello.broker"},
      {"the wrong wire type", request(4, Wire().number(1, 5)), "does not know"},
      {"a nonce one short", request(2, hello(31)), "Hello.nonce"},
      {"a nonce one long", request(2, hello(33)), "Hello.nonce"},
      {"no nonce", request(2, hello(0)), "Hello.nonce"},
      {"a boot id one short", request(2, hello(32).sub(3, process(15, 16))), "Hello.process.boot"},
      {"random bits one long", request(2, hello(32).sub(3, process(16, 17))), "Hello.process.random"},
      {"a key one short", request(2, hello(32).text(7, zeros(31))), "Hello.key"},
      {"a negative pid", request(2, hello(32).sub(4, Wire().number(3, 0x80000000))), "Hello.client"},
      {"a session without resumption", request(2, hello(32).number(9, 4)), "Hello.session"},
      {"a signature one short", request(3, Wire().text(1, zeros(63))), "Prove.signature"},
      {"a resume proof one long", request(3, Wire().text(2, zeros(33))), "Prove.resume_proof"},
      {"an empty region name", request(4, {}), "region"},
      {"a region name of 64", request(4, Wire().text(1, std::string(64, 'a'))), "region"},
      {"a region name with a slash", request(4, Wire().text(1, "../x")), "region"},
      {"a region name with a zero", request(4, Wire().text(1, std::string_view("a\0b", 3))), "region"},
      {"a hidden region name", request(4, Wire().text(1, ".a")), "region"},
      {"a region name like an option", request(4, Wire().text(1, "-a")), "region"},
      {"a region name in UTF-8", request(4, Wire().text(1, "\xc3\xa4")), "region"},
      {"a grant out of range", request(5, Wire().number(1, BAILEY_GRANT_WORDS)), "grant"},
      {"a grant of 32 bits", request(11, Wire().number(1, 0xffffffff)), "grant"},
      {"segment 0", request(7, Wire().number(2, 0)), "segment"},
      {"segment 65536", request(7, Wire().number(2, 65536)), "segment"},
      {"too many segments", request(7, grant_and_segments(segments_in_message_max + 1)), "segments"},
      {"too many dropped", request(13, grant_and_segments(gone_max + 1)), "segments"},
      {"segment 65537 mapped", request(9, Wire().number(2, 65537)), "segment"},
      {"retire without a segment", request(10, {}), "segment"},
      {"a record larger than any machine", request(8, Wire().number(2, ~0ull)), "CreateSegment.record_bytes"},
      {"a policy too long", request(16, Wire().text(1, std::string(text_bytes_max + 1, '#'))),
       "ApplyPolicy.policy"},
      {"a policy with a zero", request(16, Wire().text(1, zeros(1))), "ApplyPolicy.policy"},
      {"a folder too long", request(16, Wire().text(3, std::string(4097, 'x'))), "ApplyPolicy.folder"},
      {"a file name that rings", request(16, Wire().text(2, "a\ab")), "ApplyPolicy.file"},
      {"a file name with an escape", request(16, Wire().text(2, "\x1b[2J")), "ApplyPolicy.file"},
      {"a token too long", request(4, Wire().text(1, "r").text(20, zeros(513))), "OpenRegion.token"},
      {"a token for no region", request(40, Wire().number(2, 1)), "region"},
      {"a holder on two lines", request(40, Wire().text(1, "r").text(3, "a\nb")), "MintToken.holder"},
      {"a token's id one short", request(41, Wire().text(1, zeros(15))), "RevokeToken.id"},
      {"no token", request(42, {}), "token"},
      {"a token of 513 bytes", request(42, Wire().text(1, zeros(513))), "token"}};
  for (const Damage& damage : damages) {
    auto decoded = decode_request(as_bytes(damage.wire.bytes));
    ASSERT_FALSE(decoded) << damage.name;
    EXPECT_EQ(decoded.error().code, Code::corrupt) << damage.name;
    EXPECT_EQ(decoded.error().by, By::peer) << damage.name;
    EXPECT_NE(decoded.error().message.find(damage.said), std::string::npos)
        << damage.name << ": " << decoded.error().message;
  }
}

Wire opened() {
  return Wire().text(1, zeros(16)).text(3, "table").number(8, 4096).text(20, "token").text(21, zeros(32));
}
Wire welcome(std::string_view principal, std::size_t count = 1) {
  Wire wire = Wire().text(2, zeros(32)).text(3, zeros(16)).text(4, "pool").number(5, 4096);
  for (std::size_t n = 0; n < count; ++n) wire.text(7, principal);
  return wire;
}
Wire error(std::uint64_t code, std::uint64_t by) { return Wire().number(1, code).number(2, by); }
Wire rows(std::size_t count) {
  Wire wire;
  for (std::size_t n = 0; n < count; ++n) wire.sub(1, Wire().number(1, 1).number(2, 4096));
  return wire;
}

TEST(Damage, OfRepliesIsRefusedByName) {
  ASSERT_TRUE(decode_reply(as_bytes(request(5, opened()).bytes)));
  ASSERT_TRUE(decode_reply(as_bytes(request(4, welcome("user:a")).bytes)));
  ASSERT_TRUE(decode_reply(as_bytes(request(2, error(21, 4)).bytes)));
  ASSERT_TRUE(decode_reply(as_bytes(request(7, rows(segments_in_message_max)).bytes)));
  Wire desks;
  for (std::size_t n = 0; n < desks_max + 1; ++n) desks.sub(2, Wire().number(1, 1).number(2, 1));
  const Damage damages[] = {
      {"nothing", {}, "Reply has 0 bytes"},
      {"a number and no answer", Wire().number(1, 7), "no answer"},
      {"an answer of the future", Wire().sub(900, {}), "does not know"},
      {"error code 0", request(2, error(0, 1)), "Error.code"},
      {"error code 22", request(2, error(22, 1)), "Error.code"},
      {"error code 257, which is 1 in a byte", request(2, error(257, 1)), "Error.code"},
      {"refused by nobody", request(2, error(1, 0)), "Error.by"},
      {"refused by a fifth", request(2, error(1, 5)), "Error.by"},
      {"an errno beyond the kernel's", request(2, error(1, 1).number(3, 4096)), "Error.os"},
      {"an error's text too long", request(2, error(1, 1).text(4, std::string(4097, 'x'))), "Error.message"},
      {"an error's text with an escape", request(2, error(1, 1).text(5, "\x1b[0m")), "Error.remedy"},
      {"a broker key one short", request(3, Wire().text(1, zeros(32)).text(2, zeros(31)).text(3, zeros(64))),
       "Challenge.broker_key"},
      {"no resume secret", request(4, Wire().text(3, zeros(16)).text(4, "p").number(5, 1)),
       "Welcome.resume_secret"},
      {"no control page", request(4, welcome("a").number(5, 0)), "Welcome.control_bytes"},
      {"a control page of a gigabyte and one", request(4, welcome("a").number(5, (1 << 30) + 1)),
       "Welcome.control_bytes"},
      {"an empty principal", request(4, welcome("")), "Welcome.principals"},
      {"a principal of 256 bytes", request(4, welcome(std::string(256, 'p'))), "Welcome.principals"},
      {"a principal on two lines", request(4, welcome("user:a\nuser:b")), "Welcome.principals"},
      {"too many principals", request(4, welcome("p", principals_max + 1)), "Welcome.principals"},
      {"region number 512", request(5, opened().number(2, BAILEY_REGIONS_MAX)), "Opened.number"},
      {"no kind", request(5, opened().text(3, "")), "Opened.kind"},
      {"no token of the session", request(5, opened().text(20, "")), "Opened.token"},
      {"a token's key one short", request(5, opened().text(21, zeros(31))), "Opened.token_key"},
      {"no minted token", request(40, {}), "token"},
      {"mode 3", request(5, opened().number(4, 3)), "Opened.mode"},
      {"mode 258, which is 2 in a byte", request(5, opened().number(4, 258)), "Opened.mode"},
      {"an index of no bytes", request(5, opened().number(8, 0)), "Opened.index_bytes"},
      {"an index beyond memory", request(5, opened().number(8, 1ull << 63)), "Opened.index_bytes"},
      {"buckets beyond memory", request(5, opened().number(6, ~0ull)), "Opened.buckets"},
      {"a copy into a read-only index", request(5, opened().number(10, 1)), "Opened.copy_index_from"},
      {"a writer of 32 bits", request(5, opened().number(12, 0x80000000)), "Opened.writer"},
      {"a grant out of range", request(5, opened().number(13, BAILEY_GRANT_WORDS)), "grant"},
      {"a region id one short", request(5, opened().text(1, zeros(15))), "Opened.region"},
      {"too many segments", request(7, rows(segments_in_message_max + 1)), "Segments.rows"},
      {"a segment of no bytes", request(8, Wire().number(1, 1)), "SegmentRow.bytes"},
      {"segment 0 created", request(8, Wire().number(2, 4096)), "segment"},
      {"a desk of writer 0", request(9, Wire().sub(2, Wire().number(2, 1))), "Members.desks.writer"},
      {"a desk in segment 0", request(9, Wire().sub(2, Wire().number(1, 1))), "segment"},
      {"too many desks", request(9, desks), "Members.desks"},
      {"an unknown field in a desk", request(9, Wire().sub(2, Wire().number(1, 1).number(2, 1).number(9, 9))),
       "Members.desks"},
      {"too many frozen",
       request(9,
               [] {
                 Wire wire;
                 for (std::size_t n = 0; n < gone_max + 1; ++n) wire.number(3, 1);
                 return wire;
               }()),
       "Members.frozen"},
      {"a new index of no bytes", request(10, Wire().number(2, 1)), "Attention.index_bytes"},
      {"bytes of an index that is not new", request(10, Wire().number(3, 4096)), "Attention.index_bytes"},
      {"gone segment 0", request(10, Wire().number(4, 0)), "segment"},
      {"writer 0", request(11, {}), "Writer.writer"},
      {"a text too long", request(12, Wire().text(1, std::string(text_bytes_max + 1, 'x'))), "Text.text"},
      {"a text with a zero", request(12, Wire().text(1, zeros(1))), "Text.text"}};
  for (const Damage& damage : damages) {
    auto decoded = decode_reply(as_bytes(damage.wire.bytes));
    ASSERT_FALSE(decoded) << damage.name;
    EXPECT_EQ(decoded.error().code, Code::corrupt) << damage.name;
    EXPECT_EQ(decoded.error().by, By::peer) << damage.name;
    EXPECT_NE(decoded.error().message.find(damage.said), std::string::npos)
        << damage.name << ": " << decoded.error().message;
  }
}

TEST(Damage, AHelloOfAnotherVersionTellsItsVersionAndNothingElse) {
  Wire future = Wire().number(1, 9).number(2, 3).text(6, "short").text(30, "what only version 9 knows");
  auto decoded = decode_request(as_bytes(request(2, future).bytes));
  ASSERT_TRUE(decoded) << decoded.error().to_string();
  Hello expected;
  expected.protocol = 9;
  expected.layout = 3;
  EXPECT_EQ(std::get<Hello>(decoded->body), expected);
}

// Every byte of every sample cut off, changed in each bit, or doubled: an error or a message within limits,
// never a crash, and what was taken can be sent on as it is.
TEST(Damage, OfAnyByteIsAnErrorOrAWholeMessage) {
  auto check_request = [](const std::string& bytes) {
    if (auto decoded = decode_request(as_bytes(bytes));
        decoded && !std::holds_alternative<Hello>(decoded->body)) {
      auto again = encode(*decoded);
      ASSERT_TRUE(again) << again.error().to_string();
      EXPECT_TRUE(decode_request(as_bytes(*again))->body == decoded->body);
    }
  };
  auto check_reply = [](const std::string& bytes) {
    if (auto decoded = decode_reply(as_bytes(bytes))) {
      auto again = encode(*decoded);
      ASSERT_TRUE(again) << again.error().to_string();
      EXPECT_TRUE(same(decode_reply(as_bytes(*again))->answer, decoded->answer));
    }
  };
  auto damage_all = [](const std::string& whole, const std::function<void(const std::string&)>& check) {
    for (std::size_t at = 0; at < whole.size(); ++at) {
      check(whole.substr(0, at));
      check(whole.substr(0, at) + whole[at] + whole.substr(at));
      for (int bit = 0; bit < 8; ++bit) {
        std::string changed = whole;
        changed[at] = static_cast<char>(changed[at] ^ (1 << bit));
        check(changed);
      }
    }
  };
  for (const Request& sample : sample_requests()) damage_all(*encode(sample), check_request);
  for (const Reply& sample : sample_replies()) damage_all(*encode(sample), check_reply);
}

// After a change of the form or the samples: run protocol_corpus on that folder again.
TEST(Codec, TheFuzzersStartFromTheSamples) {
  auto content = [](const char* fuzzer, const char* file) {
    std::ifstream in(std::filesystem::path(BAILEY_CORPUS) / fuzzer / file, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  for (const Request& sample : sample_requests())
    EXPECT_EQ(content("protocol_request_fuzz", name(sample.body)), *encode(sample)) << name(sample.body);
  for (const Reply& sample : sample_replies())
    EXPECT_EQ(content("protocol_reply_fuzz", name(sample.answer)), *encode(sample)) << name(sample.answer);
}

TEST(Codec, TellsHowManyDescriptorsComeWithAnAnswer) {
  EXPECT_EQ(fds_of(Welcome{}), 1u);
  EXPECT_EQ(fds_of(Opened{}), 1u);
  Opened copy;
  copy.copy_index_from = true;
  EXPECT_EQ(fds_of(copy), 2u);
  EXPECT_EQ(fds_of(Segments{.rows = std::vector<SegmentRow>(200)}), 200u);
  EXPECT_EQ(fds_of(SegmentCreated{}), 1u);
  EXPECT_EQ(fds_of(Attention{}), 0u);
  Attention replaced;
  replaced.new_index = true;
  EXPECT_EQ(fds_of(replaced), 1u);
  EXPECT_EQ(fds_of(Done{}), 0u);
  EXPECT_LE(segments_in_message_max, fds_max);
}

TEST(Codec, NamesMessages) {
  EXPECT_STREQ(name(Body(Hello{})), "Hello");
  EXPECT_STREQ(name(Body(ApplyPolicy{})), "ApplyPolicy");
  EXPECT_STREQ(name(Answer(Error{})), "Error");
  EXPECT_STREQ(name(Answer(Done{})), "Done");
}

}  // namespace
}  // namespace bailey::protocol
