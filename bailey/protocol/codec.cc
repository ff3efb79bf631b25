#include "bailey/protocol/codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "bailey/protocol/fields.h"
#include "wire.pb.h"

namespace bailey::protocol {
namespace {

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

// ---- messages. `put` fills the wire's form in; `take` is the checked way back.

void put(wire::Place& to, const Place& from) {
  to.set_pid_namespace(from.pid_namespace);
  to.set_user_namespace(from.user_namespace);
  to.set_pid(from.pid);
  to.set_uid(from.uid);
  to.set_gid(from.gid);
  to.set_start_ticks(from.start_ticks);
}
Result<Place> take_place(std::string_view field, const wire::Place& from) {
  BAILEY_TRY(no_unknown_fields(from, field));
  return Place{.pid_namespace = from.pid_namespace(),
               .user_namespace = from.user_namespace(),
               .pid = BAILEY_TRY(within32(field, from.pid(), 0, 0x7fffffff)),
               .uid = from.uid(),
               .gid = from.gid(),
               .start_ticks = from.start_ticks()};
}

void put(wire::Seen& to, const Seen& from) {
  put(*to.mutable_place(), from.place);
  to.set_uid(from.uid);
  to.set_gid(from.gid);
}
Result<Seen> take_seen(std::string_view field, const wire::Seen& from) {
  BAILEY_TRY(no_unknown_fields(from, field));
  return Seen{.place = BAILEY_TRY(take_place(field, from.place())), .uid = from.uid(), .gid = from.gid()};
}

void put(wire::Hello& to, const Hello& from) {
  to.set_protocol(from.protocol);
  to.set_layout(from.layout);
  to.mutable_process()->set_boot(bytes_of(from.process.boot));
  to.mutable_process()->set_start_ticks(from.process.start_ticks);
  to.mutable_process()->set_random(bytes_of(from.process.random));
  put(*to.mutable_client(), from.client);
  put(*to.mutable_broker(), from.broker);
  to.set_nonce(bytes_of(from.nonce));
  if (from.has_key) to.set_key(bytes_of(from.key));
  to.set_resume(from.resume);
  to.set_session(from.session);
}
Result<Hello> take(const wire::Hello& from) {
  Hello to;
  to.protocol = from.protocol();
  to.layout = from.layout();
  // Of another version only these two are of interest: enough for an answer that names both versions.
  if (to.protocol != protocol_version) return to;
  BAILEY_TRY(no_unknown_fields(from, "Hello"));
  BAILEY_TRY(no_unknown_fields(from.process(), "Hello.process"));
  to.process.boot = BAILEY_TRY(fixed<16>("Hello.process.boot", from.process().boot()));
  to.process.start_ticks = from.process().start_ticks();
  to.process.random = BAILEY_TRY(fixed<16>("Hello.process.random", from.process().random()));
  to.client = BAILEY_TRY(take_place("Hello.client", from.client()));
  to.broker = BAILEY_TRY(take_seen("Hello.broker", from.broker()));
  to.nonce = BAILEY_TRY(fixed<32>("Hello.nonce", from.nonce()));
  to.has_key = !from.key().empty();
  if (to.has_key) to.key = BAILEY_TRY(fixed<32>("Hello.key", from.key()));
  to.resume = from.resume();
  to.session = from.session();
  if (!to.resume && to.session != 0) return malformed("Hello.session", "is given without resumption");
  return to;
}

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

void put(wire::Prove& to, const Prove& from) {
  if (from.has_key) to.set_signature(bytes_of(from.signature));
  if (from.resume_proof != Mac{}) to.set_resume_proof(bytes_of(from.resume_proof));
}
Result<Prove> take(const wire::Prove& from) {
  BAILEY_TRY(no_unknown_fields(from, "Prove"));
  Prove to;
  to.has_key = !from.signature().empty();
  if (to.has_key) to.signature = BAILEY_TRY(fixed<64>("Prove.signature", from.signature()));
  if (!from.resume_proof().empty())
    to.resume_proof = BAILEY_TRY(fixed<32>("Prove.resume_proof", from.resume_proof()));
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

void put(wire::OpenRegion& to, const OpenRegion& from) {
  to.set_region(from.region);
  to.set_writable(from.writable);
  if (!from.token.empty()) to.set_token(from.token);
}
Result<OpenRegion> take(const wire::OpenRegion& from) {
  BAILEY_TRY(no_unknown_fields(from, "OpenRegion"));
  return OpenRegion{.region = BAILEY_TRY(region_name(from.region())),
                    .writable = from.writable(),
                    .token = BAILEY_TRY(token("OpenRegion.token", from.token(), 0))};
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

template <class Message>
  requires requires(Message message) { message.grant; }
void put(wire::Grant& to, const Message& from) {
  to.set_grant(from.grant);
}
template <class Message>
Result<Message> take_grant(const wire::Grant& from) {
  BAILEY_TRY(no_unknown_fields(from, "grant"));
  return Message{.grant = BAILEY_TRY(grant(from.grant()))};
}

void put(wire::IndexReady& to, const IndexReady& from) { to.set_grant_value(from.grant_value); }
Result<IndexReady> take(const wire::IndexReady& from) {
  BAILEY_TRY(no_unknown_fields(from, "IndexReady"));
  return IndexReady{.grant_value = from.grant_value()};
}

template <class Message>
  requires requires(Message message) { message.segments; }
void put(wire::GrantSegments& to, const Message& from) {
  to.set_grant(from.grant);
  for (std::uint16_t number : from.segments) to.add_segments(number);
}
template <class Message>
Result<Message> take_segments(const wire::GrantSegments& from, std::size_t count_max) {
  BAILEY_TRY(no_unknown_fields(from, "segments"));
  return Message{.grant = BAILEY_TRY(grant(from.grant())),
                 .segments = BAILEY_TRY(segment_list("segments", from.segments(), count_max))};
}

template <class Message>
  requires requires(Message message) { message.segment; }
void put(wire::GrantSegment& to, const Message& from) {
  to.set_grant(from.grant);
  to.set_segment(from.segment);
}
template <class Message>
Result<Message> take_segment(const wire::GrantSegment& from) {
  BAILEY_TRY(no_unknown_fields(from, "segment"));
  return Message{.grant = BAILEY_TRY(grant(from.grant())), .segment = BAILEY_TRY(segment(from.segment()))};
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

void put(wire::CreateSegment& to, const CreateSegment& from) {
  to.set_grant(from.grant);
  to.set_record_bytes(from.record_bytes);
}
Result<CreateSegment> take(const wire::CreateSegment& from) {
  BAILEY_TRY(no_unknown_fields(from, "CreateSegment"));
  return CreateSegment{.grant = BAILEY_TRY(grant(from.grant())),
                       .record_bytes = BAILEY_TRY(
                           within("CreateSegment.record_bytes", from.record_bytes(), 0, file_bytes_max))};
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

void put(wire::Attend& to, const Attend& from) {
  to.set_grant(from.grant);
  to.set_heard(from.heard);
}
Result<Attend> take(const wire::Attend& from) {
  BAILEY_TRY(no_unknown_fields(from, "Attend"));
  return Attend{.grant = BAILEY_TRY(grant(from.grant())), .heard = from.heard()};
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

void put(wire::RotateKey& to, const RotateKey& from) { to.set_region(from.region); }
Result<RotateKey> take(const wire::RotateKey& from) {
  BAILEY_TRY(no_unknown_fields(from, "RotateKey"));
  return RotateKey{.region = BAILEY_TRY(region_name(from.region()))};
}

void put(wire::Writer& to, const Writer& from) { to.set_writer(from.writer); }
Result<Writer> take(const wire::Writer& from) {
  BAILEY_TRY(no_unknown_fields(from, "Writer"));
  return Writer{.writer = BAILEY_TRY(within32("Writer.writer", from.writer(), 1, writer_max))};
}

void put(wire::ApplyPolicy& to, const ApplyPolicy& from) {
  to.set_policy(from.policy);
  to.set_file(from.file);
  to.set_folder(from.folder);
  to.set_drop(from.drop);
}
Result<ApplyPolicy> take(const wire::ApplyPolicy& from) {
  BAILEY_TRY(no_unknown_fields(from, "ApplyPolicy"));
  ApplyPolicy to;
  // A policy is a file of the user's: its ends of lines may be of either kind. Its parser refuses the rest.
  if (from.policy().size() > text_bytes_max)
    return malformed("ApplyPolicy.policy", fmt::format("has {} bytes where at most {} are taken",
                                                       from.policy().size(), text_bytes_max));
  if (from.policy().find('\0') != std::string::npos)
    return malformed("ApplyPolicy.policy", "has a zero byte");
  to.policy = from.policy();
  to.file = BAILEY_TRY(text("ApplyPolicy.file", from.file(), path_bytes_max));
  to.folder = BAILEY_TRY(text("ApplyPolicy.folder", from.folder(), path_bytes_max));
  to.drop = from.drop();
  return to;
}

void put(wire::MintToken& to, const MintToken& from) {
  to.set_region(from.region);
  to.set_writable(from.writable);
  if (!from.holder.empty()) to.set_holder(from.holder);
  to.set_expires(from.expires);
}
Result<MintToken> take(const wire::MintToken& from) {
  BAILEY_TRY(no_unknown_fields(from, "MintToken"));
  MintToken to;
  to.region = BAILEY_TRY(region_name(from.region()));
  to.writable = from.writable();
  if (!from.holder().empty()) to.holder = BAILEY_TRY(label("MintToken.holder", from.holder()));
  to.expires = from.expires();
  return to;
}

void put(wire::RevokeToken& to, const RevokeToken& from) { to.set_id(bytes_of(from.id)); }
Result<RevokeToken> take(const wire::RevokeToken& from) {
  BAILEY_TRY(no_unknown_fields(from, "RevokeToken"));
  return RevokeToken{.id = BAILEY_TRY(fixed<16>("RevokeToken.id", from.id()))};
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

void put(wire::Text& to, const Text& from) { to.set_text(from.text); }
Result<Text> take(const wire::Text& from) {
  BAILEY_TRY(no_unknown_fields(from, "Text"));
  return Text{.text = BAILEY_TRY(text("Text.text", from.text(), text_bytes_max))};
}

template <class Message>
  requires std::is_empty_v<Message>
void put(wire::Empty&, const Message&) {}
template <class Message>
Result<Message> take_empty(const wire::Empty& from) {
  BAILEY_TRY(no_unknown_fields(from, "an empty message"));
  return Message{};
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

// ---- bodies

// One row a message: its place in the variant, in the wire's oneof, and how it is taken back.
struct PutBody {
  wire::Request& to;
  void operator()(const Hello& body) { put(*to.mutable_hello(), body); }
  void operator()(const Prove& body) { put(*to.mutable_prove(), body); }
  void operator()(const OpenRegion& body) { put(*to.mutable_open_region(), body); }
  void operator()(const IndexMapped& body) { put(*to.mutable_index_mapped(), body); }
  void operator()(const CloseRegion& body) { put(*to.mutable_close_region(), body); }
  void operator()(const MapSegments& body) { put(*to.mutable_map_segments(), body); }
  void operator()(const CreateSegment& body) { put(*to.mutable_create_segment(), body); }
  void operator()(const SegmentMapped& body) { put(*to.mutable_segment_mapped(), body); }
  void operator()(const RetireSegment& body) { put(*to.mutable_retire_segment(), body); }
  void operator()(const GetMembers& body) { put(*to.mutable_get_members(), body); }
  void operator()(const Attend& body) { put(*to.mutable_attend(), body); }
  void operator()(const Dropped& body) { put(*to.mutable_dropped(), body); }
  void operator()(const FreshWriter& body) { put(*to.mutable_fresh_writer(), body); }
  void operator()(const GetStatus& body) { put(*to.mutable_get_status(), body); }
  void operator()(const ApplyPolicy& body) { put(*to.mutable_apply_policy(), body); }
  void operator()(const MintToken& body) { put(*to.mutable_mint_token(), body); }
  void operator()(const RevokeToken& body) { put(*to.mutable_revoke_token(), body); }
  void operator()(const VerifyToken& body) { put(*to.mutable_verify_token(), body); }
  void operator()(const RotateKey& body) { put(*to.mutable_rotate_key(), body); }
};

Result<Body> take_body(const wire::Request& from) {
  switch (from.body_case()) {
    case wire::Request::kHello:
      return BAILEY_TRY(take(from.hello()));
    case wire::Request::kProve:
      return BAILEY_TRY(take(from.prove()));
    case wire::Request::kOpenRegion:
      return BAILEY_TRY(take(from.open_region()));
    case wire::Request::kIndexMapped:
      return BAILEY_TRY(take_grant<IndexMapped>(from.index_mapped()));
    case wire::Request::kCloseRegion:
      return BAILEY_TRY(take_grant<CloseRegion>(from.close_region()));
    case wire::Request::kMapSegments:
      return BAILEY_TRY(take_segments<MapSegments>(from.map_segments(), segments_in_message_max));
    case wire::Request::kCreateSegment:
      return BAILEY_TRY(take(from.create_segment()));
    case wire::Request::kSegmentMapped:
      return BAILEY_TRY(take_segment<SegmentMapped>(from.segment_mapped()));
    case wire::Request::kRetireSegment:
      return BAILEY_TRY(take_segment<RetireSegment>(from.retire_segment()));
    case wire::Request::kGetMembers:
      return BAILEY_TRY(take_grant<GetMembers>(from.get_members()));
    case wire::Request::kAttend:
      return BAILEY_TRY(take(from.attend()));
    case wire::Request::kDropped:
      return BAILEY_TRY(take_segments<Dropped>(from.dropped(), gone_max));
    case wire::Request::kFreshWriter:
      return BAILEY_TRY(take_grant<FreshWriter>(from.fresh_writer()));
    case wire::Request::kGetStatus:
      return BAILEY_TRY(take_empty<GetStatus>(from.get_status()));
    case wire::Request::kApplyPolicy:
      return BAILEY_TRY(take(from.apply_policy()));
    case wire::Request::kMintToken:
      return BAILEY_TRY(take(from.mint_token()));
    case wire::Request::kRevokeToken:
      return BAILEY_TRY(take(from.revoke_token()));
    case wire::Request::kVerifyToken:
      return BAILEY_TRY(take_token<VerifyToken>(from.verify_token()));
    case wire::Request::kRotateKey:
      return BAILEY_TRY(take(from.rotate_key()));
    case wire::Request::BODY_NOT_SET:
      break;
  }
  return malformed("Request", "has no body that this version knows");
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
};

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
    case wire::Reply::ANSWER_NOT_SET:
      break;
  }
  return malformed("Reply", "has no answer that this version knows");
}

// What the runtime copied of keys.
struct WipeKeys {
  wire::Reply& message;
  static void wipe(std::string* of) { crypto::wipe(std::as_writable_bytes(std::span(*of))); }
  ~WipeKeys() {
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
  std::visit(PutBody{message}, request.body);
  return finish(message, decode_request);
}

Result<std::string> encode(const Reply& reply) {
  wire::Reply message;
  const WipeKeys wipe{message};
  message.set_number(reply.number);
  std::visit(PutAnswer{message}, reply.answer);
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
  static constexpr const char* names[] = {"Hello",         "Prove",       "OpenRegion",    "IndexMapped",
                                          "CloseRegion",   "MapSegments", "CreateSegment", "SegmentMapped",
                                          "RetireSegment", "GetMembers",  "Attend",        "Dropped",
                                          "FreshWriter",   "GetStatus",   "ApplyPolicy",   "MintToken",
                                          "RevokeToken",   "VerifyToken", "RotateKey"};
  static_assert(std::size(names) == std::variant_size_v<Body>);
  return names[body.index()];
}

const char* name(const Answer& answer) {
  static constexpr const char* names[] = {
      "Error",   "Challenge", "Welcome", "Opened", "IndexReady", "Segments",   "SegmentCreated",
      "Members", "Attention", "Writer",  "Text",   "Done",       "TokenMinted"};
  static_assert(std::size(names) == std::variant_size_v<Answer>);
  return names[answer.index()];
}

}  // namespace bailey::protocol
