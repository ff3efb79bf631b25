// What the wire's forms of requests and replies share. `put` fills a form in; `take` is the checked way back.
// For request_form.cc, reply_form.cc and codec.cc alone.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>

#include "bailey/protocol/fields.h"
#include "wire.pb.h"

namespace bailey::protocol {

void put_body(wire::Request& to, const Body& body);
Result<Body> take_body(const wire::Request& from);
void put_answer(wire::Reply& to, const Answer& answer);
Result<Answer> take_answer(const wire::Reply& from);

template <class Message>
Status no_unknown_fields(const Message& message, std::string_view field) {
  if (!message.unknown_fields().empty())
    return malformed(field, "has fields that this version does not know");
  return {};
}

template <class Array>
std::string bytes_of(const Array& array) {
  return {reinterpret_cast<const char*>(array.data()), array.size()};
}

// What is in it is for the room of tokens to check.
template <class Message>
  requires requires(Message message) { message.token; }
void put(wire::TokenBytes& to, const Message& from) {
  to.set_token(from.token);
}
template <class Message>
Result<Message> take_token(const wire::TokenBytes& from) {
  BAILEY_TRY(no_unknown_fields(from, "token"));
  return Message{.token = BAILEY_TRY(token("token", from.token(), 1))};
}

template <class Message>
  requires std::is_empty_v<Message>
void put(wire::Empty&, const Message&) {}
template <class Message>
Result<Message> take_empty(const wire::Empty& from) {
  BAILEY_TRY(no_unknown_fields(from, "an empty message"));
  return Message{};
}

}  // namespace bailey::protocol
