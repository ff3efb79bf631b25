#include "bailey/protocol/forms.h"

namespace bailey::protocol {
namespace {

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

void put(wire::Attend& to, const Attend& from) {
  to.set_grant(from.grant);
  to.set_heard(from.heard);
}
Result<Attend> take(const wire::Attend& from) {
  BAILEY_TRY(no_unknown_fields(from, "Attend"));
  return Attend{.grant = BAILEY_TRY(grant(from.grant())), .heard = from.heard()};
}

void put(wire::RotateKey& to, const RotateKey& from) { to.set_region(from.region); }
Result<RotateKey> take(const wire::RotateKey& from) {
  BAILEY_TRY(no_unknown_fields(from, "RotateKey"));
  return RotateKey{.region = BAILEY_TRY(region_name(from.region()))};
}

void put(wire::SignAs& to, const SignAs& from) {
  to.set_grant(from.grant);
  to.set_key(bytes_of(from.key));
}
Result<SignAs> take(const wire::SignAs& from) {
  BAILEY_TRY(no_unknown_fields(from, "SignAs"));
  return SignAs{.grant = BAILEY_TRY(grant(from.grant())),
                .key = BAILEY_TRY(fixed<32>("SignAs.key", from.key()))};
}

void put(wire::GetWriterKeys& to, const GetWriterKeys& from) {
  to.set_grant(from.grant);
  to.set_writer(from.writer);
}
Result<GetWriterKeys> take(const wire::GetWriterKeys& from) {
  BAILEY_TRY(no_unknown_fields(from, "GetWriterKeys"));
  return GetWriterKeys{.grant = BAILEY_TRY(grant(from.grant())),
                       .writer = BAILEY_TRY(within32("GetWriterKeys.writer", from.writer(), 1, writer_max))};
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
  void operator()(const SignAs& body) { put(*to.mutable_sign_as(), body); }
  void operator()(const GetWriterKeys& body) { put(*to.mutable_get_writer_keys(), body); }
};

}  // namespace

void put_body(wire::Request& to, const Body& body) { std::visit(PutBody{to}, body); }

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
    case wire::Request::kSignAs:
      return BAILEY_TRY(take(from.sign_as()));
    case wire::Request::kGetWriterKeys:
      return BAILEY_TRY(take(from.get_writer_keys()));
    case wire::Request::BODY_NOT_SET:
      break;
  }
  return malformed("Request", "has no body that this version knows");
}

}  // namespace bailey::protocol
