#include "bailey/protocol/codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "bailey/protocol/forms.h"

namespace bailey::protocol {
namespace {

// What the runtime copied of keys and secrets.
struct WipeKeys {
  wire::Reply& message;
  static void wipe(std::string* of) { crypto::wipe(std::as_writable_bytes(std::span(*of))); }
  ~WipeKeys() {
    if (message.has_welcome()) wipe(message.mutable_welcome()->mutable_resume_secret());
    if (message.has_opened()) {
      wipe(message.mutable_opened()->mutable_token_key());
      wipe(message.mutable_opened()->mutable_key()->mutable_key());
    }
    if (message.has_attention()) wipe(message.mutable_attention()->mutable_key()->mutable_key());
  }
};

template <class Message>
Status parse(Message& message, Bytes bytes, std::string_view field) {
  if (bytes.empty() || bytes.size() > message_bytes_max)
    return malformed(field, fmt::format("has {} bytes, outside of 1..{}", bytes.size(), message_bytes_max));
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return malformed(field, "can't be parsed");
  return no_unknown_fields(message, field);
}

// What we send has been through the checks of whoever receives it: one set of rules, and a mistake of our own
// is found on this side, with its field named.
template <class Message, class Decode>
Result<std::string> finish(const Message& message, Decode decode) {
  std::string bytes = message.SerializeAsString();
  if (bytes.size() > message_bytes_max)
    return fail(
        Code::too_large, By::library,
        fmt::format("a message of {} bytes; at most {} can be sent", bytes.size(), message_bytes_max));
  if (auto checked = decode(as_bytes(bytes)); !checked)
    return fail(Code::invalid_argument, By::library,
                fmt::format("not sent, the other end would refuse it: {}", checked.error().message));
  return bytes;
}

}  // namespace

bool is_region_name(std::string_view name) {
  if (name.empty() || name.size() > name_bytes_max || name[0] == '.' || name[0] == '-') return false;
  return std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
  });
}

Result<std::string> encode(const Request& request) {
  wire::Request message;
  message.set_number(request.number);
  put_body(message, request.body);
  return finish(message, decode_request);
}

Result<std::string> encode(const Reply& reply) {
  wire::Reply message;
  const WipeKeys wipe{message};
  message.set_number(reply.number);
  put_answer(message, reply.answer);
  return finish(message, decode_reply);
}

Result<Request> decode_request(Bytes bytes) {
  wire::Request message;
  BAILEY_TRY(parse(message, bytes, "Request"));
  return Request{.number = message.number(), .body = BAILEY_TRY(take_body(message))};
}

Result<Reply> decode_reply(Bytes bytes) {
  wire::Reply message;
  const WipeKeys wipe{message};
  BAILEY_TRY(parse(message, bytes, "Reply"));
  return Reply{.number = message.number(), .answer = BAILEY_TRY(take_answer(message))};
}

std::size_t fds_of(const Answer& answer) {
  if (std::holds_alternative<Welcome>(answer) || std::holds_alternative<SegmentCreated>(answer)) return 1;
  if (const auto* opened = std::get_if<Opened>(&answer)) return opened->copy_index_from ? 2 : 1;
  if (const auto* segments = std::get_if<Segments>(&answer)) return segments->rows.size();
  if (const auto* attention = std::get_if<Attention>(&answer)) return attention->new_index ? 1 : 0;
  return 0;
}

const char* name(const Body& body) {
  static constexpr const char* names[] = {
      "Hello",         "Prove",         "OpenRegion",    "IndexMapped", "CloseRegion", "MapSegments",
      "CreateSegment", "SegmentMapped", "RetireSegment", "GetMembers",  "Attend",      "Dropped",
      "FreshWriter",   "GetStatus",     "ApplyPolicy",   "MintToken",   "RevokeToken", "VerifyToken",
      "RotateKey",     "SignAs",        "GetWriterKeys"};
  static_assert(std::size(names) == std::variant_size_v<Body>);
  return names[body.index()];
}

const char* name(const Answer& answer) {
  static constexpr const char* names[] = {
      "Error",   "Challenge", "Welcome", "Opened", "IndexReady", "Segments",    "SegmentCreated",
      "Members", "Attention", "Writer",  "Text",   "Done",       "TokenMinted", "WriterKeys"};
  static_assert(std::size(names) == std::variant_size_v<Answer>);
  return names[answer.index()];
}

}  // namespace bailey::protocol
