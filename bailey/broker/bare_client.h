// A client that speaks the protocol by hand: for tests, and for attackers, who have no use for our library's
// manners.
#pragma once

#include <fmt/format.h>

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "bailey/abi/control.h"
#include "bailey/base/clock.h"
#include "bailey/base/fd.h"
#include "bailey/capability/token.h"
#include "bailey/protocol/codec.h"
#include "bailey/protocol/handshake.h"

namespace bailey::broker {

inline std::uint64_t in_10_s() { return monotonic_ns() + 10'000'000'000; }

// One client: a connection that has shown who it is.
class Client {
 public:
  // An error of either side.
  static Result<Client> connect(const std::string& path, const crypto::SecretKey* key = nullptr) {
    return connect_with(path, {.key = key, .broker_key = {}, .resume = {}});
  }
  Result<Client> resume(const std::string& path) const {
    protocol::SessionHandshake::Options options;
    options.resume = protocol::SessionHandshake::Resume{welcome.session, welcome.resume_secret};
    return connect_with(path, options);
  }
  static Result<Client> connect_with(const std::string& path,
                                     const protocol::SessionHandshake::Options& options) {
    Client client;
    client.connection = BAILEY_TRY(protocol::connect(path));
    auto handshake = BAILEY_TRY(protocol::SessionHandshake::start(client.connection, path, options));
    auto challenge = BAILEY_TRY(client.ask<protocol::Challenge>(handshake.hello()));
    auto prove = BAILEY_TRY(handshake.answer(challenge));
    client.welcome = BAILEY_TRY(client.ask<protocol::Welcome>(prove));
    client.page_file = std::move(client.fds.at(0));
    client.page =
        BAILEY_TRY(Mapping::of_file(client.page_file.get(), client.welcome.control_bytes, Access::read_only));
    return client;
  }

  Status send(protocol::Body body) {
    auto bytes = BAILEY_TRY(protocol::encode(protocol::Request{++number, std::move(body)}));
    return connection.send(as_bytes(bytes), in_10_s());
  }
  template <class T>
  Result<T> receive(std::uint64_t deadline_ns = in_10_s()) {
    auto received = BAILEY_TRY(connection.receive(deadline_ns));
    auto reply = BAILEY_TRY(protocol::decode_reply(as_bytes(received.payload)));
    fds = std::move(received.fds);
    if (fds.size() != protocol::fds_of(reply.answer))
      return fail(
          Code::corrupt, By::library,
          fmt::format("{} descriptors came with an answer {}", fds.size(), protocol::name(reply.answer)));
    if (auto* error = std::get_if<Error>(&reply.answer)) return std::unexpected(std::move(*error));
    if (reply.number != number)
      return fail(Code::corrupt, By::library, fmt::format("an answer to request {} came", reply.number));
    if (auto* answer = std::get_if<T>(&reply.answer)) return std::move(*answer);
    return fail(Code::corrupt, By::library, fmt::format("an answer {} came", protocol::name(reply.answer)));
  }
  template <class T>
  Result<T> ask(protocol::Body body) {
    BAILEY_TRY(send(std::move(body)));
    return receive<T>();
  }

  // Opens, and where an index is to be confirmed, maps, copies and confirms it as a session does.
  Result<protocol::Opened> open(const std::string& region, bool writable) {
    auto opened = BAILEY_TRY(ask<protocol::Opened>(protocol::OpenRegion{region, writable}));
    index_file = std::move(fds.at(0));
    index = BAILEY_TRY(Mapping::of_file(index_file.get(), opened.index_bytes,
                                        writable ? Access::read_write : Access::read_only));
    heard[opened.grant] = opened.grant_value;
    if (!writable) return opened;
    if (opened.copy_index_from) {
      Mapping old = BAILEY_TRY(Mapping::of_file(fds.at(1).get(), opened.index_bytes, Access::read_only));
      std::memcpy(index.data(), old.data(), old.size());
    }
    auto ready = BAILEY_TRY(ask<protocol::IndexReady>(protocol::IndexMapped{opened.grant}));
    heard[opened.grant] = opened.grant_value = ready.grant_value;
    return opened;
  }
  // With a token, and no more than to have it open: what came is left in `fds`.
  Result<protocol::Opened> open_with(const std::string& token, bool writable = false,
                                     const std::string& region = "orders") {
    return ask<protocol::Opened>(protocol::OpenRegion{region, writable, token});
  }
  Result<capability::Token> mint(const protocol::MintToken& request) {
    auto minted = BAILEY_TRY(ask<protocol::TokenMinted>(request));
    return capability::Token::decode(as_bytes(minted.token));
  }
  // Asks what is new; says what came with the answer before.
  Result<protocol::Attention> attend(std::uint32_t grant) {
    BAILEY_TRY(send(protocol::Attend{grant, heard[grant]}));
    return attended(grant);
  }
  Result<protocol::Attention> attended(std::uint32_t grant) {
    auto attention = BAILEY_TRY(receive<protocol::Attention>());
    heard[grant] = attention.grant_value;
    return attention;
  }
  // A new segment, mapped and confirmed. The descriptor it came with is in `segment_file`.
  Result<protocol::SegmentRow> create(std::uint32_t grant, std::uint64_t record_bytes = 100) {
    auto created = BAILEY_TRY(ask<protocol::SegmentCreated>(protocol::CreateSegment{grant, record_bytes}));
    segment_file = std::move(fds.at(0));
    segment = BAILEY_TRY(Mapping::of_file(segment_file.get(), created.row.bytes, Access::read_write));
    BAILEY_TRY(ask<protocol::Done>(protocol::SegmentMapped{grant, created.row.segment}));
    return created.row;
  }
  Result<nlohmann::json> status() {
    auto text = BAILEY_TRY(ask<protocol::Text>(protocol::GetStatus{}));
    return nlohmann::json::parse(text.text);
  }

  const bailey_control* control() const { return reinterpret_cast<const bailey_control*>(page.data()); }
  std::uint64_t word(std::uint32_t grant) const {
    return __atomic_load_n(&control()->grants[grant].value, __ATOMIC_ACQUIRE);
  }
  std::uint64_t membership(std::uint32_t region) const {
    return __atomic_load_n(&control()->regions[region].membership, __ATOMIC_ACQUIRE);
  }

  protocol::Connection connection;
  protocol::Welcome welcome;
  Fd page_file;
  Mapping page;
  std::vector<Fd> fds;                           // of the last answer
  std::map<std::uint32_t, std::uint64_t> heard;  // grant values, by grant
  std::uint64_t number = 0;
  Fd index_file, segment_file;
  Mapping index, segment;
};

}  // namespace bailey::broker
