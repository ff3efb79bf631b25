// The broker proper: decides, gives, takes back and remembers. One process, one thread, one loop.
//
// Invariants
//  1. What is decided is committed to the state before its effect can be seen: before a descriptor is sent, a
//  grant word
//     moves or a writer id is given out.
//  2. A file has one writer for life. Nobody but the writer is given a segment or an exclusive index before
//  it is
//     sealed; what is given to readers is open for reading only.
//  3. The keeper has every descriptor that the state names before the state names it.
//  4. No call waits for a client: a request that has to wait is answered later, and its client is not read
//  from until
//     then.
//
// The methods are in the files named after what they are about: sessions.cc, regions.cc, indexes.cc,
// segments.cc, grants.cc, region_keys.cc, writer_keys.cc, tokens.cc, holders.cc, apply.cc, status.cc,
// files.cc, recover.cc.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"
#include "bailey/broker/audit.h"
#include "bailey/broker/control_page.h"
#include "bailey/broker/hold.h"
#include "bailey/broker/loop.h"
#include "bailey/broker/model.h"
#include "bailey/broker/state.h"
#include "bailey/capability/scope.h"
#include "bailey/crypto/sign.h"
#include "bailey/medium/allocator.h"
#include "bailey/medium/file.h"
#include "bailey/medium/reserve.h"
#include "bailey/policy/policy.h"
#include "bailey/protocol/codec.h"
#include "bailey/protocol/handshake.h"
#include "bailey/protocol/socket.h"

namespace bailey::broker {

inline constexpr std::uint64_t handshake_ns =
    5'000'000'000;  // a client that connects has as long to show itself
inline constexpr std::uint64_t unread_ns = 2'000'000'000;  // and as long to take a reply
inline constexpr std::uint64_t attend_ns =
    2'000'000'000;  // and to hear of a revocation, before it is cut off
// A writer of a shared region has as long to leave an index that is to be replaced. Shorter than a session's
// patience (2 s), since the others wait for it in Attend.
inline constexpr std::uint64_t replace_ns = 1'000'000'000;
// A session that reads has as long to drop a retired segment; until then its bytes count and its number
// stays. For one that writes a shared region the others would have to leave the index, so it has longer.
inline constexpr std::uint64_t drop_ns = 1'000'000'000;
inline constexpr std::uint64_t writer_drop_ns = 10'000'000'000;
// A writer that is refused room hears for as long that it may come: the janitor looks every second.
inline constexpr std::uint64_t room_ns = 2'500'000'000;
inline constexpr std::size_t holders_max = 256;  // of a region, told apart
// Who narrows tokens to end soon, again and again, has a region's files and key renewed no more often.
inline constexpr std::uint64_t gather_ns = 10'000'000'000;
inline constexpr std::size_t strangers_max = 256;  // connections that have not shown themselves
inline constexpr std::size_t sessions_max = 4096;
inline constexpr std::size_t opens_of_session_max = 1024;
// What one uid, or one session, may take of what all share; the broker's own uid is not bounded by uid.
inline constexpr std::size_t strangers_of_uid_max = 32;
inline constexpr std::size_t sessions_of_uid_max = 1024;
inline constexpr std::size_t sessions_of_stranger_max = 32;  // of a uid, without any grant
inline constexpr std::size_t grants_of_uid_max = BAILEY_GRANT_WORDS / 4;
inline constexpr std::size_t untaken_fds_max = 32;  // descriptors that were sent to a client and not taken
// What can't be sent for descriptors under way that others leave untaken is tried again so often.
inline constexpr std::uint64_t crowded_ns = 10'000'000;
inline constexpr std::uint64_t fresh_writer_ns = 60'000'000'000;
inline constexpr std::size_t tokens_max = 65536;            // that live
inline constexpr std::uint32_t requests_of_stranger = 200;  // a second, of a session without any grant

// What a broker is born with, by the keeper's fork.
struct Setup {
  protocol::Listener* listener = nullptr;
  ControlPage* control = nullptr;
  crypto::SecretKey* key = nullptr;
  // Derived from that key: the secret that keys of regions and tokens are derived from. It never leaves the
  // broker.
  crypto::Secret* root = nullptr;
  // Why that secret does not outlive the keeper, where the pool does; else empty. What is sealed under it
  // would be lost.
  std::string root_ends;
  medium::Allocator* allocator = nullptr;
  Fd* pool_lock = nullptr;
  Held* held = nullptr;
  pid_t keeper = 0;
  bool first = false;  // of this keeper: sessions of before are gone, the policy file is applied
  std::string policy_file;
  std::string state_path;
  std::string audit_path;
  bool durable = false;
  medium::Place place;
};

// What a request is answered with. The descriptors are the model's own.
struct Outcome {
  protocol::Answer answer;
  std::vector<int> fds;
};
// Nothing: the reply comes later.
using Reaction = Result<std::optional<Outcome>>;

class Broker {
 public:
  // Runs until SIGTERM or SIGINT. An error before `hold.ready()` was said is told to the keeper.
  static Status run(const Setup& setup, Hold hold);

 private:
  Broker(const Setup& setup, Hold hold, Loop loop, State state, Audit audit);

  // ---- start (broker.cc, recover.cc)
  Status start();
  Status recover();
  Status recover_regions();
  Status recover_segments();
  Status recover_sessions();
  void drop_unnamed();
  Result<Fd> found_again(const std::string& name);
  Status watch_signals();

  // ---- sessions (sessions.cc)
  struct Outgoing {  // may hold a key
    explicit Outgoing(std::string bytes) : payload(std::move(bytes)) {}
    Outgoing(Outgoing&&) = default;
    Outgoing& operator=(Outgoing&&) = default;
    ~Outgoing() { crypto::wipe(std::as_writable_bytes(std::span(payload))); }
    std::string payload;
    std::vector<Fd> fds;
  };
  struct Peer {
    std::uint64_t id = 0;
    protocol::Connection connection;
    protocol::Credentials credentials;
    std::optional<protocol::BrokerHandshake> handshake;
    std::uint64_t session = 0;
    bool busy = false;  // a request waits for its answer
    std::deque<Outgoing> queue;
    Loop::Watch watch = 0;
    Loop::Timer timer = 0;     // until it has shown itself; while it doesn't read
    std::size_t fds_sent = 0;  // since it was last seen to have taken all
    Loop::Timer crowded = 0;   // its reply waits for others to take their descriptors
  };
  void accept();
  void on_peer(std::uint64_t id, std::uint32_t events);
  bool read_one(Peer& peer);
  void hear(Peer& peer, protocol::Request request);
  Status shake_hands(Peer& peer, std::uint64_t number, const protocol::Hello& hello);
  Status welcome(Peer& peer, std::uint64_t number, const protocol::Prove& prove);
  Result<Session*> new_session(Peer& peer);
  Result<Session*> resumed_session(Peer& peer, const protocol::Prove& prove);
  Status watch_process(Session& session);
  void refresh_rights(Session& session);
  void end_session(std::uint64_t number, const std::string& why);
  void send(Peer& peer, std::uint64_t number, protocol::Answer answer, std::span<const int> fds = {});
  void flush(Peer& peer);
  void wait_to_send(Peer& peer, bool crowded);
  void listen_to(Peer& peer);
  void drop_peer(std::uint64_t id, const std::string& why);
  void reply(std::uint64_t session, std::uint64_t number, Result<Outcome> outcome);
  bool is_child_of_keeper(pid_t pid) const;

  // ---- requests: of a session, already decoded
  Reaction react(Session& session, std::uint64_t number, protocol::Body& body);
  Reaction open_region(Session& session, std::uint64_t number, const protocol::OpenRegion& request);
  Reaction index_mapped(Session& session, const protocol::IndexMapped& request);
  Reaction close_region(Session& session, const protocol::CloseRegion& request);
  Reaction map_segments(Session& session, const protocol::MapSegments& request);
  Reaction create_segment(Session& session, std::uint64_t number, const protocol::CreateSegment& request);
  Reaction segment_mapped(Session& session, const protocol::SegmentMapped& request);
  Reaction retire_segment(Session& session, const protocol::RetireSegment& request);
  Reaction members(Session& session, const protocol::GetMembers& request);
  Reaction attend(Session& session, std::uint64_t number, const protocol::Attend& request);
  Reaction dropped(Session& session, const protocol::Dropped& request);
  Reaction fresh_writer(Session& session, const protocol::FreshWriter& request);
  Reaction status(Session& session);
  Reaction apply(Session& session, std::uint64_t number, const protocol::ApplyPolicy& request);
  Reaction mint_token(Session& session, const protocol::MintToken& request);
  Reaction revoke_token(Session& session, std::uint64_t number, const protocol::RevokeToken& request);
  Reaction verify_token(Session& session, const protocol::VerifyToken& request);

  // ---- regions and indexes (regions.cc, indexes.cc)
  Result<policy::Decision> decide(const Session& session, const std::string& region, bool writable);
  Status check_writer(Session& session, Region& region);
  Status check_sessions(const Session& session, const Region& region, const Open& open);
  Open* still_opening(std::uint32_t grant, std::uint64_t session, std::uint64_t request);
  void with_index(Region& region, std::function<void(Status)> then);
  void make_next_index(std::uint32_t grant, std::uint64_t session, std::uint64_t request);
  void opened(std::uint32_t grant, std::uint64_t session, std::uint64_t request, IndexFile next);
  Status adopt_index(Region& region, IndexFile index, Open* by);
  Status seal_index(const Region& region, IndexFile& index) const;
  void replace_index(Region& region);
  void renew(Region& region);
  Open* exclusive_writer(const Region& region);
  void offer_index(Region& region, Open& writer, IndexFile next);
  void replaced(Region& region);
  void writers_attended(std::uint32_t number);
  void index_replaced(std::uint32_t number, std::uint64_t generation, Result<Fd> file);
  void answer_held(Region& region, const Error* error);
  Result<Outcome> opened_answer(const Open& open, Region& region) const;
  std::vector<std::string> in_force(const Region& region) const;

  // ---- grants (grants.cc)
  Result<Open*> own_open(Session& session, std::uint32_t grant, bool writable);
  std::optional<std::uint32_t> free_grant() const;
  void bump(Open& open);
  void bump_region(const Region& region, std::optional<std::uint32_t> but = {});
  void close_open(std::uint32_t grant);
  Status freeze_segments(std::uint32_t grant);
  void revoke(Open& open, const std::string& why);
  Result<Outcome> attention(Open& open, Region& region);
  void pass_over(Open& open);
  void settled(std::optional<std::uint32_t> grant, std::optional<std::uint32_t> region);

  // ---- tokens (tokens.cc)
  Status may_mint(const Session& session, const std::string& region, Minted* minted = nullptr) const;
  Result<capability::Token> verified(const std::string& bytes) const;
  Result<capability::Scope> redeem(const Session& session, const Region* region,
                                   const capability::Token& token, bool writable) const;
  Status open_with_token(const Session& session, const std::string& name, const std::string& bytes,
                         Open& open);
  Status give_token(const Open& open, const Region& region, protocol::Opened& answer) const;
  bool stands(const Minted& token) const;
  Status token_stands(const Id& id, std::uint64_t expires) const;
  Result<policy::Decision> still_granted(const Session& session, const Region& region,
                                         const Open& open) const;
  Result<std::set<std::uint32_t>> end_tokens(std::set<std::uint32_t> unsure = {});
  std::string after_tokens_ended(const std::set<std::uint32_t>& lost);
  void wake_at_next_expiry();
  Status load_tokens();
  Status begin_tokens();

  // ---- who was given files (holders.cc)
  void add_holder(Region& region, const Session& session, const Open& open);
  bool lost_holder(const Region& region, bool revokes) const;
  std::uint64_t next_expiry(const Region& region) const;

  // ---- segments (segments.cc)
  struct Usage {
    std::uint64_t bytes = 0;
    std::uint64_t segments = 0;
  };
  Usage usage_of_region(const Region& region) const;
  bool has_frozen(const Region& region) const;
  Status check_size(int fd, std::uint64_t bytes, std::string_view what) const;
  Usage usage_of_principal(const Region& region, const std::string& principal) const;
  Result<std::uint64_t> size_for(const Session& session, const Region& region, const Open& open,
                                 std::uint64_t record_bytes) const;
  bool room_comes(const Region& region);
  bool others_make_room(const Region& region, Open& asker) const;
  std::optional<SegmentId> free_segment();
  void segment_made(SegmentId id, std::uint64_t session, std::uint64_t number, Result<Fd> file);
  Status write_header(const Segment& segment, const Region& region, int fd) const;
  void drop_segment(SegmentId id);
  Status retire(Segment& segment, std::optional<std::uint32_t> by);
  void acknowledge(Segment& segment, std::uint32_t grant);
  void not_dropped(SegmentId id, bool writers);

  // ---- files (files.cc)
  std::string segment_name(SegmentId id) const;
  std::string index_name(std::uint32_t region, std::uint64_t generation) const;
  void make_file(const std::string& name, std::uint64_t bytes, std::optional<Fd> copy_from, std::string what,
                 std::function<void(Result<Fd>)> done);
  struct Making;
  Status allocate(std::uint64_t id, Making& making);
  void allocated(std::uint64_t id);
  Status hold(const std::string& name, int fd);
  void drop_file(const std::string& name);
  std::uint64_t unit(std::uint64_t bytes) const { return round_up(bytes, setup_.place.unit_bytes()); }

  // ---- policy (apply.cc)
  struct Applied {
    std::string text;
    std::set<std::uint32_t> revoked;
    std::set<std::uint32_t> renewed;  // regions whose writers leave what they wrote into
  };
  Result<Applied> apply_text(const std::string& text, const std::string& file, const std::string& folder,
                             bool drop);
  Status load_policy();
  Status apply_policy_file();
  Result<Region> plan_region(const policy::Region& wanted) const;
  void drop_region(std::uint32_t number, const std::string& why);

  // ---- keys of encrypted regions (region_keys.cc)
  Result<std::optional<protocol::RegionKey>> key_of(Region& region) const;
  static bool count_key(Region& region);
  static void uncount_key(Region& region);
  std::string tell_of_key(Region& region);
  static Status check_keys_left(const Region& region);
  static std::string keys_left(const Region& region);
  Result<std::string> mark_of_root() const;
  Status check_root();
  Reaction rotate_key(Session& session, std::uint64_t number, const protocol::RotateKey& request);

  // ---- keys of writers (writer_keys.cc)
  bool is_signed(const Region& region) const;
  Reaction sign_as(Session& session, const protocol::SignAs& request);
  Reaction writer_keys(Session& session, const protocol::GetWriterKeys& request);

  // ---- telling (status.cc)
  nlohmann::json status_json(const Session* only) const;
  std::string who(const Session& session) const;
  void denied(const Session& session, const std::string& region, const Error& error);
  void note(const char* event, const Session* session, nlohmann::json fields = nlohmann::json::object());

  Region* find_region(std::string_view name);
  Region* region_of(std::uint32_t number);
  Open* open_of(std::uint32_t grant);
  Session* session_of(std::uint64_t number);

  Setup setup_;
  Hold hold_;
  Loop loop_;
  State state_;
  Audit audit_;
  policy::Policy policy_;
  Id pool_{};
  std::uint64_t epoch_ = 0;
  std::uint64_t next_session_ = 1;
  std::uint32_t next_writer_ = 1;
  SegmentId last_segment_ = 0;
  std::uint32_t last_region_ = BAILEY_REGIONS_MAX - 1;
  std::uint64_t started_ns_ = 0;
  std::uint64_t next_peer_ = 0;
  Fd signals_;

  std::map<std::uint64_t, std::unique_ptr<Peer>> peers_;
  std::map<std::uint64_t, Session> sessions_;
  std::map<std::uint32_t, Region> regions_;
  std::map<std::uint32_t, Open> opens_;
  std::map<SegmentId, Segment> segments_;
  std::map<Id, Minted> tokens_;
  Fd expiry_;  // a timer of the wall clock, which also fires when somebody sets that

  struct Making {
    std::string name, what;
    std::uint64_t bytes = 0;
    std::optional<Fd> copy_from;
    std::function<void(Result<Fd>)> done;
    Fd file;
    medium::Allocation allocation;
    Loop::Watch watch = 0;
    unsigned tries = 0;
  };
  std::map<std::uint64_t, Making> making_;
  std::uint64_t next_making_ = 0;
  std::uint64_t promised_ = 0;  // bytes of files being made

  // Policies whose reply waits until all that they revoked was heard, and nothing new gets into files that
  // those who lost a right may hold.
  struct Applying {
    std::uint64_t session = 0;
    std::uint64_t number = 0;
    std::string text;
    std::set<std::uint32_t> waiting;  // grants
    std::set<std::uint32_t> renewed;  // regions
  };
  std::vector<Applying> applying_;
};

}  // namespace bailey::broker
