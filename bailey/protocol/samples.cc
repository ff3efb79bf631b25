#include "bailey/protocol/samples.h"

#include <algorithm>

namespace bailey::protocol {
namespace {

template <std::size_t size>
std::array<std::uint8_t, size> filled(std::uint8_t from) {
  std::array<std::uint8_t, size> out;
  std::ranges::generate(out, [&] { return from++; });
  return out;
}

Hello sample_hello() {
  Hello hello;
  hello.layout = 1;
  hello.process = {.boot = filled<16>(1), .start_ticks = 123456, .random = filled<16>(2)};
  hello.client = {4026531836, 4026531837, 77, 1000, 1001, 5555};
  hello.broker = {.place = {4026531836, 0, 0, Place::unknown_id, 0, 5554}, .uid = 65534, .gid = 5};
  hello.nonce = filled<32>(3);
  hello.has_key = true;
  hello.key = filled<32>(4);
  hello.resume = true;
  hello.session = 0xffffffffffffffff;
  return hello;
}

RegionKey sample_key() {
  RegionKey key;
  key.cipher = crypto::Cipher::xchacha20_poly1305;
  key.generation = crypto::generations_max;
  key.key = filled<32>(13);
  return key;
}

Opened sample_opened() {
  Opened opened;
  opened.region = filled<16>(5);
  opened.number = 511;
  opened.kind = "table";
  opened.mode = 2;
  opened.hash_seed = 0xfedcba9876543210;
  opened.buckets = 1 << 16;
  opened.overflow_buckets = 1 << 13;
  opened.index_bytes = 5 << 20;
  opened.index_writable = true;
  opened.copy_index_from = true;
  opened.coherent = false;
  opened.writer = 0x7fffffff;
  opened.grant = 8191;
  opened.grant_value = 3ull << 32 | 7;
  opened.segment_bytes = 8 << 20;
  opened.size = 1ull << 40;
  opened.protect = {"process", "encrypted"};
  opened.token = std::string("token\0of a session", 18);
  opened.token_key = filled<32>(13);
  opened.key = sample_key();
  return opened;
}

}  // namespace

std::vector<Request> sample_requests() {
  std::vector<Body> bodies = {
      sample_hello(),
      Prove{.has_key = true, .signature = filled<64>(6), .resume_proof = filled<32>(7)},
      OpenRegion{.region = "orders.eu-1_A", .writable = true, .token = std::string(512, '\xff')},
      IndexMapped{1},
      CloseRegion{2},
      MapSegments{.grant = 3, .segments = {1, 300, 65535}},
      CreateSegment{.grant = 4, .record_bytes = 16 << 20},
      SegmentMapped{.grant = 5, .segment = 65535},
      RetireSegment{.grant = 6, .segment = 1},
      GetMembers{7},
      Attend{.grant = 8, .heard = 1ull << 34},
      Dropped{.grant = 9, .segments = {2, 3}},
      FreshWriter{10},
      GetStatus{},
      ApplyPolicy{.policy = "[pool]\r\nname = \"p\"\n",
                  .file = "policy.toml",
                  .folder = "/etc/b\xc3\xa4",
                  .drop = true},
      MintToken{.region = "orders", .writable = true, .holder = "bob", .expires = ~0ull},
      RevokeToken{.id = filled<16>(14)},
      VerifyToken{.token = std::string(1, '\0')},
      RotateKey{.region = "vault"},
      SignAs{.grant = 11, .key = filled<32>(15)},
      GetWriterKeys{.grant = 12, .writer = 0x7fffffff}};
  std::vector<Request> out;
  for (Body& body : bodies) out.push_back({.number = out.size() + 1, .body = std::move(body)});
  return out;
}

std::vector<Reply> sample_replies() {
  std::vector<Answer> answers;
  answers.push_back(Error{Code::quota, By::broker, 12, "no more: 5 of 5\n", "close one"});
  answers.push_back(
      Challenge{.nonce = filled<32>(8), .broker_key = filled<32>(9), .signature = filled<64>(10)});
  answers.push_back(Welcome{.session = 9,
                            .resume_secret = filled<32>(11),
                            .pool = filled<16>(12),
                            .pool_name = "main",
                            .control_bytes = 561152,
                            .admin = true,
                            .principals = {"user:alice", "group:staff"}});
  answers.push_back(sample_opened());
  answers.push_back(IndexReady{.grant_value = 1ull << 33});
  answers.push_back(Segments{.rows = {{1, 4096}, {65535, 1ull << 50}}});
  answers.push_back(SegmentCreated{{17, 8 << 20}});
  answers.push_back(Members{.membership = 99, .desks = {{1, 2}, {0x7fffffff, 65535}}, .frozen = {4, 5}});
  answers.push_back(Attention{.grant_value = 4,
                              .new_index = true,
                              .index_bytes = 4096,
                              .gone = {6, 7},
                              .leave = true,
                              .late = true,
                              .key = sample_key()});
  answers.push_back(Writer{1});
  answers.push_back(Text{"{\"pool\":\t\"main\"}\n"});
  answers.push_back(Done{});
  answers.push_back(TokenMinted{std::string(512, 't')});
  answers.push_back(WriterKeys{{{1, filled<32>(16)}, {0x7fffffff, filled<32>(17)}}});
  std::vector<Reply> out;
  for (Answer& answer : answers) out.push_back({.number = ~out.size(), .answer = std::move(answer)});
  return out;
}

}  // namespace bailey::protocol
