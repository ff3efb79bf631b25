#include <algorithm>

#include "bailey/protocol/forms.h"

namespace bailey::protocol {
namespace {

void put(wire::Challenge& to, const Challenge& from) {
  to.set_nonce(bytes_of(from.nonce));
  to.set_broker_key(bytes_of(from.broker_key));
  to.set_signature(bytes_of(from.signature));
}
Result<Challenge> take(const wire::Challenge& from) {
  BAILEY_TRY(no_unknown_fields(from, "Challenge"));
  Challenge to;
  to.nonce = BAILEY_TRY(fixed<32>("Challenge.nonce", from.nonce()));
  to.broker_key = BAILEY_TRY(fixed<32>("Challenge.broker_key", from.broker_key()));
  to.signature = BAILEY_TRY(fixed<64>("Challenge.signature", from.signature()));
  return to;
}

void put(wire::Welcome& to, const Welcome& from) {
  to.set_session(from.session);
  to.set_resume_secret(bytes_of(from.resume_secret));
  to.set_pool(bytes_of(from.pool));
  to.set_pool_name(from.pool_name);
  to.set_control_bytes(from.control_bytes);
  to.set_admin(from.admin);
  for (const std::string& principal : from.principals) to.add_principals(principal);
}
Result<Welcome> take(const wire::Welcome& from) {
  BAILEY_TRY(no_unknown_fields(from, "Welcome"));
  Welcome to;
  to.session = from.session();
  to.resume_secret = BAILEY_TRY(fixed<32>("Welcome.resume_secret", from.resume_secret()));
  to.pool = BAILEY_TRY(fixed<16>("Welcome.pool", from.pool()));
  to.pool_name = BAILEY_TRY(label("Welcome.pool_name", from.pool_name()));
  to.control_bytes = BAILEY_TRY(within("Welcome.control_bytes", from.control_bytes(), 1, control_bytes_max));
  to.admin = from.admin();
  to.principals = BAILEY_TRY(labels("Welcome.principals", from.principals(), principals_max));
  return to;
}

void put(wire::RegionKey& to, const RegionKey& from) {
  to.set_cipher(static_cast<std::uint32_t>(from.cipher));
  to.set_generation(from.generation);
  to.set_key(from.key.data(), from.key.size());
}
Result<RegionKey> take(const wire::RegionKey& from) {
  BAILEY_TRY(no_unknown_fields(from, "key"));
  RegionKey to;
  to.cipher =
      static_cast<crypto::Cipher>(BAILEY_TRY(within32("key.cipher", from.cipher(), 1, crypto::cipher_max)));
  to.generation = static_cast<crypto::Generation>(
      BAILEY_TRY(within32("key.generation", from.generation(), 1, crypto::generations_max)));
  to.key = BAILEY_TRY(fixed<crypto::cipher_key_bytes>("key.key", from.key()));
  return to;
}

void put(wire::Opened& to, const Opened& from) {
  to.set_region(bytes_of(from.region));
  to.set_number(from.number);
  to.set_kind(from.kind);
  to.set_mode(from.mode);
  to.set_hash_seed(from.hash_seed);
  to.set_buckets(from.buckets);
  to.set_overflow_buckets(from.overflow_buckets);
  to.set_index_bytes(from.index_bytes);
  to.set_index_writable(from.index_writable);
  to.set_copy_index_from(from.copy_index_from);
  to.set_coherent(from.coherent);
  to.set_writer(from.writer);
  to.set_grant(from.grant);
  to.set_grant_value(from.grant_value);
  to.set_segment_bytes(from.segment_bytes);
  to.set_size(from.size);
  for (const std::string& rung : from.protect) to.add_protect(rung);
  to.set_token(from.token);
  to.set_token_key(bytes_of(from.token_key));
  if (from.key) put(*to.mutable_key(), *from.key);
}
Result<Opened> take(const wire::Opened& from) {
  BAILEY_TRY(no_unknown_fields(from, "Opened"));
  Opened to;
  to.region = BAILEY_TRY(fixed<16>("Opened.region", from.region()));
  to.number = BAILEY_TRY(within32("Opened.number", from.number(), 0, BAILEY_REGIONS_MAX - 1));
  to.kind = BAILEY_TRY(label("Opened.kind", from.kind()));
  to.mode = static_cast<std::uint8_t>(BAILEY_TRY(within32("Opened.mode", from.mode(), 0, mode_max)));
  to.hash_seed = from.hash_seed();
  to.buckets = BAILEY_TRY(within("Opened.buckets", from.buckets(), 0, file_bytes_max));
  to.overflow_buckets =
      BAILEY_TRY(within("Opened.overflow_buckets", from.overflow_buckets(), 0, file_bytes_max));
  to.index_bytes = BAILEY_TRY(within("Opened.index_bytes", from.index_bytes(), 1, file_bytes_max));
  to.index_writable = from.index_writable();
  to.copy_index_from = from.copy_index_from();
  if (to.copy_index_from && !to.index_writable)
    return malformed("Opened.copy_index_from", "asks for a copy into an index that is read-only");
  to.coherent = from.coherent();
  to.writer = BAILEY_TRY(within32("Opened.writer", from.writer(), 0, writer_max));
  to.grant = BAILEY_TRY(grant(from.grant()));
  to.grant_value = from.grant_value();
  to.segment_bytes = BAILEY_TRY(within("Opened.segment_bytes", from.segment_bytes(), 0, file_bytes_max));
  to.size = BAILEY_TRY(within("Opened.size", from.size(), 0, file_bytes_max));
  to.protect = BAILEY_TRY(labels("Opened.protect", from.protect(), rungs_max));
  to.token = BAILEY_TRY(token("Opened.token", from.token(), 1));
  to.token_key = BAILEY_TRY(fixed<32>("Opened.token_key", from.token_key()));
  if (from.has_key()) to.key = BAILEY_TRY(take(from.key()));
  return to;
}

void put(wire::IndexReady& to, const IndexReady& from) { to.set_grant_value(from.grant_value); }
Result<IndexReady> take(const wire::IndexReady& from) {
  BAILEY_TRY(no_unknown_fields(from, "IndexReady"));
  return IndexReady{.grant_value = from.grant_value()};
}

void put(wire::SegmentRow& to, const SegmentRow& from) {
  to.set_segment(from.segment);
  to.set_bytes(from.bytes);
}
void put(wire::SegmentRow& to, const SegmentCreated& from) { put(to, from.row); }
Result<SegmentRow> take(const wire::SegmentRow& from) {
  BAILEY_TRY(no_unknown_fields(from, "SegmentRow"));
  return SegmentRow{.segment = BAILEY_TRY(segment(from.segment())),
                    .bytes = BAILEY_TRY(within("SegmentRow.bytes", from.bytes(), 1, file_bytes_max))};
}

void put(wire::Segments& to, const Segments& from) {
  for (const SegmentRow& row : from.rows) put(*to.add_rows(), row);
}
Result<Segments> take(const wire::Segments& from) {
  BAILEY_TRY(no_unknown_fields(from, "Segments"));
  BAILEY_TRY(at_most("Segments.rows", from.rows(), segments_in_message_max));
  Segments to;
  for (const wire::SegmentRow& row : from.rows()) to.rows.push_back(BAILEY_TRY(take(row)));
  return to;
}

void put(wire::Members& to, const Members& from) {
  to.set_membership(from.membership);
  for (const DeskRow& row : from.desks) {
    wire::DeskRow& desk = *to.add_desks();
    desk.set_writer(row.writer);
    desk.set_segment(row.segment);
  }
  for (std::uint16_t number : from.frozen) to.add_frozen(number);
}
Result<Members> take(const wire::Members& from) {
  BAILEY_TRY(no_unknown_fields(from, "Members"));
  BAILEY_TRY(at_most("Members.desks", from.desks(), desks_max));
  Members to;
  to.membership = from.membership();
  for (const wire::DeskRow& row : from.desks()) {
    BAILEY_TRY(no_unknown_fields(row, "Members.desks"));
    to.desks.push_back({.writer = BAILEY_TRY(within32("Members.desks.writer", row.writer(), 1, writer_max)),
                        .segment = BAILEY_TRY(segment(row.segment()))});
  }
  to.frozen = BAILEY_TRY(segment_list("Members.frozen", from.frozen(), gone_max));
  return to;
}

void put(wire::Attention& to, const Attention& from) {
  to.set_grant_value(from.grant_value);
  to.set_new_index(from.new_index);
  to.set_index_bytes(from.index_bytes);
  for (std::uint16_t number : from.gone) to.add_gone(number);
  to.set_leave(from.leave);
  to.set_late(from.late);
  if (from.key) put(*to.mutable_key(), *from.key);
}
Result<Attention> take(const wire::Attention& from) {
  BAILEY_TRY(no_unknown_fields(from, "Attention"));
  Attention to;
  to.grant_value = from.grant_value();
  to.new_index = from.new_index();
  to.index_bytes = BAILEY_TRY(within("Attention.index_bytes", from.index_bytes(), to.new_index ? 1 : 0,
                                     to.new_index ? file_bytes_max : 0));
  to.gone = BAILEY_TRY(segment_list("Attention.gone", from.gone(), gone_max));
  to.leave = from.leave();
  to.late = from.late();
  if (from.has_key()) to.key = BAILEY_TRY(take(from.key()));
  return to;
}

void put(wire::Writer& to, const Writer& from) { to.set_writer(from.writer); }
Result<Writer> take(const wire::Writer& from) {
  BAILEY_TRY(no_unknown_fields(from, "Writer"));
  return Writer{.writer = BAILEY_TRY(within32("Writer.writer", from.writer(), 1, writer_max))};
}

void put(wire::WriterKeys& to, const WriterKeys& from) {
  for (const WriterKey& row : from.rows) {
    wire::WriterKey& key = *to.add_rows();
    key.set_writer(row.writer);
    key.set_key(bytes_of(row.key));
  }
}
Result<WriterKeys> take(const wire::WriterKeys& from) {
  BAILEY_TRY(no_unknown_fields(from, "WriterKeys"));
  BAILEY_TRY(at_most("WriterKeys.rows", from.rows(), writer_keys_max));
  WriterKeys to;
  for (const wire::WriterKey& row : from.rows()) {
    BAILEY_TRY(no_unknown_fields(row, "WriterKeys.rows"));
    to.rows.push_back({.writer = BAILEY_TRY(within32("WriterKeys.rows.writer", row.writer(), 1, writer_max)),
                       .key = BAILEY_TRY(fixed<32>("WriterKeys.rows.key", row.key()))});
  }
  return to;
}

void put(wire::Text& to, const Text& from) { to.set_text(from.text); }
Result<Text> take(const wire::Text& from) {
  BAILEY_TRY(no_unknown_fields(from, "Text"));
  return Text{.text = BAILEY_TRY(text("Text.text", from.text(), text_bytes_max))};
}

// A refusal gets through whatever it quotes: cut, and with what can't be sent replaced.
std::string presentable(std::string_view from) {
  std::string out(from.substr(0, error_text_bytes_max));
  std::ranges::replace_if(out, [](char c) { return !is_text(c); }, '?');
  return out;
}
void put(wire::Error& to, const Error& from) {
  to.set_code(static_cast<std::uint32_t>(from.code));
  to.set_by(static_cast<std::uint32_t>(from.by));
  to.set_os(static_cast<std::uint32_t>(std::clamp<int>(from.os, 0, os_max)));
  to.set_message(presentable(from.message));
  to.set_remedy(presentable(from.remedy));
}
Result<Error> take(const wire::Error& from) {
  BAILEY_TRY(no_unknown_fields(from, "Error"));
  Error to;
  to.code = static_cast<Code>(BAILEY_TRY(within32("Error.code", from.code(), 1, code_max)));
  to.by = static_cast<By>(BAILEY_TRY(within32("Error.by", from.by(), 1, by_max)));
  to.os = static_cast<int>(BAILEY_TRY(within32("Error.os", from.os(), 0, os_max)));
  to.message = BAILEY_TRY(text("Error.message", from.message(), error_text_bytes_max));
  to.remedy = BAILEY_TRY(text("Error.remedy", from.remedy(), error_text_bytes_max));
  return to;
}

struct PutAnswer {
  wire::Reply& to;
  void operator()(const Error& answer) { put(*to.mutable_error(), answer); }
  void operator()(const Challenge& answer) { put(*to.mutable_challenge(), answer); }
  void operator()(const Welcome& answer) { put(*to.mutable_welcome(), answer); }
  void operator()(const Opened& answer) { put(*to.mutable_opened(), answer); }
  void operator()(const IndexReady& answer) { put(*to.mutable_index_ready(), answer); }
  void operator()(const Segments& answer) { put(*to.mutable_segments(), answer); }
  void operator()(const SegmentCreated& answer) { put(*to.mutable_segment_created(), answer); }
  void operator()(const Members& answer) { put(*to.mutable_members(), answer); }
  void operator()(const Attention& answer) { put(*to.mutable_attention(), answer); }
  void operator()(const Writer& answer) { put(*to.mutable_writer(), answer); }
  void operator()(const Text& answer) { put(*to.mutable_text(), answer); }
  void operator()(const Done& answer) { put(*to.mutable_done(), answer); }
  void operator()(const TokenMinted& answer) { put(*to.mutable_token_minted(), answer); }
  void operator()(const WriterKeys& answer) { put(*to.mutable_writer_keys(), answer); }
};

}  // namespace

void put_answer(wire::Reply& to, const Answer& answer) { std::visit(PutAnswer{to}, answer); }

Result<Answer> take_answer(const wire::Reply& from) {
  switch (from.answer_case()) {
    case wire::Reply::kError:
      return BAILEY_TRY(take(from.error()));
    case wire::Reply::kChallenge:
      return BAILEY_TRY(take(from.challenge()));
    case wire::Reply::kWelcome:
      return BAILEY_TRY(take(from.welcome()));
    case wire::Reply::kOpened:
      return BAILEY_TRY(take(from.opened()));
    case wire::Reply::kIndexReady:
      return BAILEY_TRY(take(from.index_ready()));
    case wire::Reply::kSegments:
      return BAILEY_TRY(take(from.segments()));
    case wire::Reply::kSegmentCreated:
      return SegmentCreated{BAILEY_TRY(take(from.segment_created()))};
    case wire::Reply::kMembers:
      return BAILEY_TRY(take(from.members()));
    case wire::Reply::kAttention:
      return BAILEY_TRY(take(from.attention()));
    case wire::Reply::kWriter:
      return BAILEY_TRY(take(from.writer()));
    case wire::Reply::kText:
      return BAILEY_TRY(take(from.text()));
    case wire::Reply::kDone:
      return BAILEY_TRY(take_empty<Done>(from.done()));
    case wire::Reply::kTokenMinted:
      return BAILEY_TRY(take_token<TokenMinted>(from.token_minted()));
    case wire::Reply::kWriterKeys:
      return BAILEY_TRY(take(from.writer_keys()));
    case wire::Reply::ANSWER_NOT_SET:
      break;
  }
  return malformed("Reply", "has no answer that this version knows");
}

}  // namespace bailey::protocol
