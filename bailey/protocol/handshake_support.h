// The two ends of a handshake and a squatter between them, for the tests.
#pragma once

#include <fmt/format.h>
#include <poll.h>

#include <string>

#include "bailey/protocol/codec.h"
#include "bailey/protocol/handshake.h"
#include "bailey/protocol/test_support.h"

namespace bailey::protocol {

inline crypto::SecretKey key_of(std::uint8_t seed) {
  std::array<std::uint8_t, crypto::seed_bytes> bytes;
  bytes.fill(seed);
  return *crypto::SecretKey::from_seed(bytes);
}
inline crypto::SecretKey broker_key() { return key_of(1); }
inline crypto::SecretKey session_key() { return key_of(2); }
inline constexpr Nonce resume_secret{7};

// A child that says when it is ready. `work` gets a function for saying so.
inline pid_t ready_child(const std::function<int(const std::function<void()>&)>& work) {
  int ready[2];
  EXPECT_EQ(pipe2(ready, O_CLOEXEC), 0);
  pid_t child = in_child([&] {
    return work([&] {
      char byte = 'y';
      if (write(ready[1], &byte, 1) != 1) _exit(99);
    });
  });
  ::close(ready[1]);
  char byte = 0;
  EXPECT_EQ(read(ready[0], &byte, 1), 1) << "a child ended before it was ready";
  ::close(ready[0]);
  return child;
}

inline Result<Connection> accept_one(Listener& listener) {
  pollfd poll{listener.fd(), POLLIN, 0};
  if (::poll(&poll, 1, 10'000) != 1) return fail(Code::timed_out, By::library, "nobody connected");
  auto accepted = BAILEY_TRY(listener.try_accept());
  if (!accepted) return fail(Code::timed_out, By::library, "whoever connected is gone");
  return std::move(*accepted);
}

inline Result<Request> receive_request(Connection& connection) {
  return decode_request(as_bytes(BAILEY_TRY(connection.receive(soon(), 0)).payload));
}
inline Result<Reply> receive_reply(Connection& connection) {
  return decode_reply(as_bytes(BAILEY_TRY(connection.receive(soon())).payload));
}

// What a broker does up to Welcome. Sends the refusal to the session too.
inline Result<Bound> admit(Connection& connection, const Place& listener) {
  auto outcome = [&]() -> Result<Bound> {
    Request hello = BAILEY_TRY(receive_request(connection));
    if (!std::holds_alternative<Hello>(hello.body)) return fail(Code::corrupt, By::peer, "no Hello");
    crypto::SecretKey key = broker_key();
    auto handshake =
        BAILEY_TRY(BrokerHandshake::start(connection, listener, std::get<Hello>(hello.body), key));
    std::string challenge = BAILEY_TRY(encode(Reply{hello.number, handshake.challenge()}));
    BAILEY_TRY(connection.send(as_bytes(challenge), soon()));
    Request prove = BAILEY_TRY(receive_request(connection));
    if (!std::holds_alternative<Prove>(prove.body)) return fail(Code::corrupt, By::peer, "no Prove");
    BAILEY_TRY(handshake.check(std::get<Prove>(prove.body)));
    if (handshake.hello().resume)
      BAILEY_TRY(handshake.check_resume(std::get<Prove>(prove.body), resume_secret));
    std::string done = BAILEY_TRY(encode(Reply{prove.number, Text{handshake.bound().to_string()}}));
    BAILEY_TRY(connection.send(as_bytes(done), soon()));
    return handshake.bound();
  }();
  if (!outcome) {
    if (auto refusal = encode(Reply{0, outcome.error()}))
      static_cast<void>(connection.send(as_bytes(*refusal), soon()));
  }
  return outcome;
}

// What a session does up to Welcome: what was bound, as the broker tells it, or who refused and why.
// `trusting`: does not check the broker's proof.
inline Result<std::string> enter(const std::string& path, const SessionHandshake::Options& options,
                                 bool trusting = false) {
  Connection connection = BAILEY_TRY(connect(path));
  auto handshake = BAILEY_TRY(SessionHandshake::start(connection, path, options));
  std::string hello = BAILEY_TRY(encode(Request{1, handshake.hello()}));
  BAILEY_TRY(connection.send(as_bytes(hello), soon()));
  Reply challenge = BAILEY_TRY(receive_reply(connection));
  if (auto* refusal = std::get_if<Error>(&challenge.answer)) return std::unexpected(*refusal);
  Prove prove;
  if (trusting) {
    prove.has_key = true;
    prove.signature = options.key->sign(
        as_bytes(transcript(Role::session, handshake.hello(), std::get<Challenge>(challenge.answer))));
  } else {
    prove = BAILEY_TRY(handshake.answer(std::get<Challenge>(challenge.answer)));
  }
  std::string proof = BAILEY_TRY(encode(Request{2, prove}));
  BAILEY_TRY(connection.send(as_bytes(proof), soon()));
  Reply last = BAILEY_TRY(receive_reply(connection));
  if (auto* refusal = std::get_if<Error>(&last.answer)) return std::unexpected(*refusal);
  return std::get<Text>(last.answer).text;
}

// A squatter: listens at `front`, connects to the true broker at `back` for whoever comes, and passes
// everything on. A rewriting one puts itself into Hello, so that the broker finds nothing wrong with it.
enum class Squatter { passes_on, rewrites_hello };

inline int squat(const std::string& front, const std::string& back, Squatter kind,
                 const std::function<void()>& ready) {
  auto listener = Listener::bind(front);
  if (!listener) return 1;
  ready();
  auto victim = accept_one(*listener);
  auto broker = connect(back);
  if (!victim || !broker) return 2;
  for (;;) {
    pollfd polls[] = {{victim->fd(), POLLIN, 0}, {broker->fd(), POLLIN, 0}};
    if (::poll(polls, 2, 10'000) <= 0) return 3;
    for (int from : {0, 1}) {
      if (polls[from].revents == 0) continue;
      Connection& source = from == 0 ? *victim : *broker;
      Connection& sink = from == 0 ? *broker : *victim;
      auto received = source.receive(soon());
      if (!received) return 0;  // one end has hung up
      std::string payload = received->payload;
      if (from == 0 && kind == Squatter::rewrites_hello) {
        auto request = decode_request(as_bytes(payload));
        auto own = own_place();
        auto seen = observe(*broker);
        if (!request || !own || !seen) return 4;
        if (auto* hello = std::get_if<Hello>(&request->body)) {
          hello->client = *own;
          hello->broker = *seen;
        }
        auto changed = encode(*request);
        if (!changed) return 5;
        payload = *changed;
      }
      if (!sink.send(as_bytes(payload), soon())) return 0;
    }
  }
}

}  // namespace bailey::protocol
