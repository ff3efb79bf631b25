// What session and broker say to each other, as checked values.
//
// One datagram is one message, at most 64 KiB, with at most 253 descriptors. `decode_request` and
// `decode_reply` (codec.h) are the only way in: what they return is within the limits named here, whatever
// was sent.
//
// A session sends a Request with a number and gets one Reply with the same number, in any order. Only Hello
// and Prove are heard before Welcome.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "bailey/base/error.h"
#include "bailey/base/fd.h"
#include "bailey/base/identity.h"
#include "bailey/protocol/region_key.h"

namespace bailey::protocol {

inline constexpr std::size_t message_bytes_max = 65536;
inline constexpr std::size_t fds_max = 253;  // the kernel's SCM_MAX_FD
inline constexpr std::size_t name_bytes_max = 63;
inline constexpr std::size_t text_bytes_max = 60'000;
inline constexpr std::size_t segments_in_message_max = 200;
inline constexpr std::size_t gone_max = 4096;
inline constexpr std::size_t writer_keys_max = 256;
inline constexpr std::size_t token_bytes_max = 512;
inline constexpr std::uint32_t protocol_version = 1;

using Nonce = std::array<std::uint8_t, 32>;
using PublicKey = std::array<std::uint8_t, 32>;  // ed25519
using Signature = std::array<std::uint8_t, 64>;
using Mac = std::array<std::uint8_t, 32>;
using Id = std::array<std::uint8_t, 16>;
using Key = std::array<std::uint8_t, 32>;

// ---- identity

// Where and who a process is, in its own terms: ids as its own namespaces count them, and the namespaces'
// inode numbers, which are unique on a machine. handshake.h says what is made of it. Where one end can't see
// something of the other it is "unknown".
struct Place {
  static constexpr std::uint32_t unknown_id = 0xffffffff;

  std::uint64_t pid_namespace = 0;   // 0: unknown
  std::uint64_t user_namespace = 0;  // 0: unknown
  std::uint32_t pid = 0;             // 0: unknown
  std::uint32_t uid = unknown_id;
  std::uint32_t gid = unknown_id;
  std::uint64_t start_ticks = 0;  // clock ticks after boot; 0: unknown

  bool operator==(const Place&) const = default;
};
// A process as another one's kernel shows it: its Place as far as it can be worked out, and its ids as the
// observer's user namespace counts them (the kernel's SO_PEERCRED).
struct Seen {
  Place place;
  std::uint32_t uid = Place::unknown_id;
  std::uint32_t gid = Place::unknown_id;

  bool operator==(const Seen&) const = default;
};
struct Hello {
  std::uint32_t protocol = protocol_version;
  std::uint32_t layout = 0;  // BAILEY_LAYOUT
  ProcessIdentity process;
  Place client;  // the sender, as it sees itself
  Seen broker;   // whoever listens, as the sender's kernel sees it
  Nonce nonce{};
  bool has_key = false;  // claims a key: principal
  PublicKey key{};
  bool resume = false;  // goes on after the broker came back
  std::uint64_t session = 0;

  bool operator==(const Hello&) const = default;
};
struct Challenge {
  Nonce nonce{};
  PublicKey broker_key{};
  Signature signature{};  // by the broker's key over transcript(Role::broker)

  bool operator==(const Challenge&) const = default;
};
struct Prove {
  bool has_key = false;
  Signature signature{};  // by the session's key over transcript(Role::session)
  Mac resume_proof{};     // with Hello::resume: HMAC under the resume secret over the same; else zeros

  bool operator==(const Prove&) const = default;
};
struct Welcome {  // descriptors: the control page
  std::uint64_t session = 0;
  Nonce resume_secret{};
  Id pool{};
  std::string pool_name;
  std::uint64_t control_bytes = 0;
  bool admin = false;
  std::vector<std::string> principals;  // names that this session acts as

  bool operator==(const Welcome&) const = default;
};

// ---- regions

struct OpenRegion {
  std::string region;
  bool writable = false;
  std::string token = {};  // whose rights the session then has, and no more; empty: the policy's grants

  bool operator==(const OpenRegion&) const = default;
};
struct Opened {  // descriptors: index; with `copy_index_from`, then the index to copy
  Id region{};
  std::uint32_t number = 0;  // row in the control page
  std::string kind;
  std::uint8_t mode = 0;  // table::Mode
  std::uint64_t hash_seed = 0;
  std::uint64_t buckets = 0;
  std::uint64_t overflow_buckets = 0;
  std::uint64_t index_bytes = 0;
  bool index_writable =
      false;  // the index descriptor is to be mapped read-write, then confirmed by IndexMapped
  bool copy_index_from = false;
  bool coherent = true;
  std::uint32_t writer = 0;       // 0: reading only
  std::uint32_t grant = 0;        // which grant word
  std::uint64_t grant_value = 0;  // and its value now
  std::uint64_t segment_bytes = 0;
  std::uint64_t size = 0;
  std::vector<std::string> protect;  // rungs in force
  // For this session alone: what it may do here, as a token, and the key that verifies it and what is
  // narrowed from it.
  std::string token = {};
  Key token_key{};
  std::optional<RegionKey> key = {};  // of an encrypted region

  bool operator==(const Opened&) const = default;
};
// The writer of an exclusive table, or any writer of a shared one, has mapped the index that it was given
// (and copied the old one into it); the broker seals it. Reply: IndexReady with the grant value to use from
// now on.
struct IndexMapped {
  std::uint32_t grant = 0;

  bool operator==(const IndexMapped&) const = default;
};
struct IndexReady {
  std::uint64_t grant_value = 0;

  bool operator==(const IndexReady&) const = default;
};
struct CloseRegion {
  std::uint32_t grant = 0;

  bool operator==(const CloseRegion&) const = default;
};

// ---- segments

struct MapSegments {
  std::uint32_t grant = 0;
  std::vector<std::uint16_t>
      segments;  // 1..segments_in_message_max; none asks for all, in several replies' worth

  bool operator==(const MapSegments&) const = default;
};
struct SegmentRow {
  std::uint16_t segment = 0;
  std::uint64_t bytes = 0;

  bool operator==(const SegmentRow&) const = default;
};
struct Segments {                // descriptors: one a row, same order, read-only and sealed
  std::vector<SegmentRow> rows;  // those that exist

  bool operator==(const Segments&) const = default;
};
struct CreateSegment {
  std::uint32_t grant = 0;
  std::uint64_t record_bytes = 0;  // a record of this size must fit

  bool operator==(const CreateSegment&) const = default;
};
struct SegmentCreated {  // descriptors: the file, read-write; map it, close it, then say SegmentMapped
  SegmentRow row;

  bool operator==(const SegmentCreated&) const = default;
};
struct SegmentMapped {  // reply: Done, once it is sealed and others may be given it
  std::uint32_t grant = 0;
  std::uint16_t segment = 0;

  bool operator==(const SegmentMapped&) const = default;
};
struct RetireSegment {
  std::uint32_t grant = 0;
  std::uint16_t segment = 0;

  bool operator==(const RetireSegment&) const = default;
};
struct GetMembers {
  std::uint32_t grant = 0;

  bool operator==(const GetMembers&) const = default;
};
struct DeskRow {
  std::uint32_t writer = 0;
  std::uint16_t segment = 0;

  bool operator==(const DeskRow&) const = default;
};
struct Members {
  std::uint64_t membership = 0;
  std::vector<DeskRow> desks;         // of live writers but the asker
  std::vector<std::uint16_t> frozen;  // segments of dead or gone writers

  bool operator==(const Members&) const = default;
};
struct Attend {  // the grant word is not what the session was told
  std::uint32_t grant = 0;
  // The grant value of the last answer that arrived (Opened, IndexReady or Attention). What an answer said
  // that did not arrive is said again.
  std::uint64_t heard = 0;

  bool operator==(const Attend&) const = default;
};
struct Attention {  // descriptors: with `new_index`, the index
  std::uint64_t grant_value = 0;
  // To the writer of an exclusive region: to be mapped read-write and confirmed by IndexMapped, and a copy of
  // the one that it had.
  bool new_index = false;
  std::uint64_t index_bytes = 0;
  std::vector<std::uint16_t> gone;  // retired: unmap them, then say Dropped
  bool leave = false;  // the session's own segments are frozen: write into them no more, take new ones
  // It was not waited for: others went on without it. No mapping of a segment is valid any more, and what it
  // published in a shared index since `heard` may be lost.
  bool late = false;
  std::optional<RegionKey> key = {};  // of an encrypted region, whether or not it is new

  bool operator==(const Attention&) const = default;
};
struct Dropped {
  std::uint32_t grant = 0;
  std::vector<std::uint16_t> segments;

  bool operator==(const Dropped&) const = default;
};
struct FreshWriter {
  std::uint32_t grant = 0;

  bool operator==(const FreshWriter&) const = default;
};
struct Writer {
  std::uint32_t writer = 0;

  bool operator==(const Writer&) const = default;
};

// ---- keys of writers, in a signed region

struct SignAs {  // of this grant's writer, once; reply: Done, once it is stored
  std::uint32_t grant = 0;
  PublicKey key{};

  bool operator==(const SignAs&) const = default;
};
struct GetWriterKeys {  // of this writer, and of those after it, as many as there are and fit
  std::uint32_t grant = 0;
  std::uint32_t writer = 0;

  bool operator==(const GetWriterKeys&) const = default;
};
struct WriterKey {
  std::uint32_t writer = 0;
  PublicKey key{};

  bool operator==(const WriterKey&) const = default;
};
struct WriterKeys {
  std::vector<WriterKey> rows;

  bool operator==(const WriterKeys&) const = default;
};

// ---- tokens

struct MintToken {  // admin of the region. Reply: TokenMinted
  std::string region;
  bool writable = false;
  std::string holder;         // a principal of the policy; empty: whoever has it
  std::uint64_t expires = 0;  // seconds since 1970; 0: it does not

  bool operator==(const MintToken&) const = default;
};
struct TokenMinted {
  std::string token;

  bool operator==(const TokenMinted&) const = default;
};
struct RevokeToken {  // admin of its region. Reply: Text, once nobody uses it any more
  Id id{};

  bool operator==(const RevokeToken&) const = default;
};
struct VerifyToken {  // reply: Text, what it allows this session
  std::string token;

  bool operator==(const VerifyToken&) const = default;
};

// ---- for people

struct GetStatus {  // reply: Text, JSON; an admin sees all, others their own rows
  bool operator==(const GetStatus&) const = default;
};
struct ApplyPolicy {  // admin. The policy's text; reply: Text, what changed
  std::string policy;
  std::string file;    // its name, for messages
  std::string folder;  // for key:@FILE
  bool drop = false;   // whether regions that the policy lost are dropped with their data

  bool operator==(const ApplyPolicy&) const = default;
};
// admin. A new key for an encrypted region; reply: Text, once all writers use it.
struct RotateKey {
  std::string region;

  bool operator==(const RotateKey&) const = default;
};
struct Text {
  std::string text;

  bool operator==(const Text&) const = default;
};
struct Done {
  bool operator==(const Done&) const = default;
};

using Body = std::variant<Hello, Prove, OpenRegion, IndexMapped, CloseRegion, MapSegments, CreateSegment,
                          SegmentMapped, RetireSegment, GetMembers, Attend, Dropped, FreshWriter, GetStatus,
                          ApplyPolicy, MintToken, RevokeToken, VerifyToken, RotateKey, SignAs, GetWriterKeys>;
using Answer = std::variant<Error, Challenge, Welcome, Opened, IndexReady, Segments, SegmentCreated, Members,
                            Attention, Writer, Text, Done, TokenMinted, WriterKeys>;

struct Request {
  std::uint64_t number = 0;
  Body body;

  bool operator==(const Request&) const = default;
};
struct Reply {
  std::uint64_t number = 0;
  Answer answer;
};

}  // namespace bailey::protocol
