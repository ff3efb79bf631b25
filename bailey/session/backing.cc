#include "bailey/session/backing.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "bailey/base/log.h"
#include "bailey/crypto/secret.h"
#include "bailey/guard/gate.h"
#include "bailey/pool/sealer.h"
#include "bailey/session/credential.h"
#include "bailey/session/verify.h"

namespace bailey::session {
namespace {

using pool::Extent;
using pool::SegmentId;

std::unexpected<Error> misbehaved(const std::string& region, std::string how) {
  return fail(Code::corrupt, By::peer, fmt::format("region {}: the broker {}", region, std::move(how)),
              "this is not the broker that it should be, or a defect: look into the broker's log");
}

// A mapping of a parent process, given up without unmapping.
void leak(Mapping mapping) { static_cast<void>(new Mapping(std::move(mapping))); }

}  // namespace

// Of a signed region, for its Signatures.
class BrokerBacking::WriterKeys : public pool::WriterKeys {
 public:
  explicit WriterKeys(BrokerBacking& backing) : backing_(backing) {}
  Result<std::vector<Row>> from(std::uint32_t writer) override {
    auto answered =
        BAILEY_TRY(backing_.ask<protocol::WriterKeys>(protocol::GetWriterKeys{backing_.grant_, writer}));
    std::vector<Row> rows;
    for (const protocol::WriterKey& row : answered.answer.rows) rows.push_back({row.writer, row.key});
    return rows;
  }
  // The same pair until the broker has said that it is the writer's.
  Result<crypto::SecretKey> pair() override {
    std::optional<crypto::SecretKey>& pair = backing_.pair_;
    if (!pair) pair.emplace(BAILEY_TRY(crypto::SecretKey::generate()));
    BAILEY_TRY(backing_.ask<protocol::Done>(protocol::SignAs{backing_.grant_, pair->public_key()}));
    crypto::SecretKey told = std::move(*pair);
    pair.reset();
    return told;
  }

 private:
  BrokerBacking& backing_;
};

BrokerBacking::BrokerBacking(const std::shared_ptr<Core>& core, std::uint32_t grant)
    : core_(core), grant_(grant), ticket_(core->take_grant(grant)) {}

BrokerBacking::~BrokerBacking() {
  if (core_->alive().own_process()) {
    core_->close_region(grant_, ticket_);
    return;
  }
  leak(std::move(index_));
  for (auto& [id, mapping] : own_) leak(std::move(mapping));
  if (unconfirmed_) leak(std::move(unconfirmed_->mapping));
}

template <class Answer>
Result<Answered<Answer>> BrokerBacking::ask(protocol::Body body) {
  if (core_->alive().alive() && !core_->holds_grant(grant_, ticket_))
    return fail(Code::revoked, By::broker, fmt::format("region {}: the grant has ended", region_),
                "open the region again, or ask an admin for the grant");
  bool attends = std::holds_alternative<protocol::Attend>(body);
  auto answered = core_->call<Answer>(std::move(body));
  // Once it was heard the broker forgets the grant, and its number is free for another.
  if (!answered && attends && answered.error().code == Code::revoked) core_->forget_grant(grant_);
  return answered;
}

// ---- opening
// --------------------------------------------------------------------------------------------------

Result<Region> BrokerBacking::open(const std::shared_ptr<Core>& core, std::string_view name, Access access,
                                   const capability::Token* token) {
  bool writable = access == Access::read_write;
  protocol::OpenRegion request{std::string(name), writable};
  if (token != nullptr) request.token = as_text(token->bytes());
  auto answered = BAILEY_TRY(core->call<protocol::Opened>(std::move(request)));
  protocol::Opened& opened = answered.answer;
  // From here on its destructor closes the region, whatever fails.
  auto backing = std::make_unique<BrokerBacking>(core, opened.grant);
  backing->region_ = name;

  Region region;
  region.kind = opened.kind;
  region.size = opened.size;
  region.segment_bytes = opened.segment_bytes;
  region.protect = opened.protect;
  region.geometry = {static_cast<table::Mode>(opened.mode), opened.hash_seed, opened.buckets,
                     opened.overflow_buckets};
  BAILEY_TRY(backing->check(opened, region.geometry, access));
  BAILEY_TRY(backing->guard(opened));
  region.credential =
      std::make_shared<const Credential>(BAILEY_TRY(Credential::take(opened, core->welcome(), writable)));
  crypto::wipe(std::as_writable_bytes(std::span(opened.token_key)));
  backing->mode_ = region.geometry.mode;
  backing->writable_ = writable;
  backing->index_bytes_ = opened.index_bytes;
  backing->membership_word_ = core->membership(opened.number);

  pool::ViewParts parts;
  parts.expected_grant = opened.grant_value;
  BAILEY_TRY(backing->map_index(opened, answered.fds, parts.expected_grant));
  backing->heard_ = parts.expected_grant;
  parts.index = backing->index_.data();
  parts.index_bytes = opened.index_bytes;
  parts.index_writable = opened.index_writable;
  parts.writable = writable;
  parts.coherent = opened.coherent;
  parts.writer = opened.writer;
  parts.grant_word = core->grant_word(opened.grant);
  parts.alive_word = core->alive().word();
  parts.pin = backing->pin_.get();
  BrokerBacking& behind = *backing;
  region.view = std::make_unique<pool::View>(parts, std::move(backing));
  if (opened.key) {
    auto sealer = BAILEY_TRY(pool::Sealer::create(
        {opened.key->cipher, opened.region, std::string(name), opened.key->generation, opened.key->bytes()}));
    if (std::ranges::find(opened.protect, "signed") != opened.protect.end())
      BAILEY_TRY(sealer->set_signed(std::make_unique<WriterKeys>(behind)));
    behind.sealer_ = sealer.get();
    region.view->set_sealer(std::move(sealer));
  }
  return region;
}

Status BrokerBacking::check(const protocol::Opened& opened, const table::Geometry& geometry,
                            Access access) const {
  bool writable = access == Access::read_write;
  if (core_->membership(opened.number) == nullptr || core_->grant_word(opened.grant) == nullptr)
    return misbehaved(region_, fmt::format("gave row {} and grant word {}, which are not in the control page",
                                           opened.number, opened.grant));
  if (geometry.mode != table::Mode::exclusive && geometry.mode != table::Mode::shared)
    return misbehaved(region_, fmt::format("named a mode {} that does not exist", opened.mode));
  bool raw = opened.kind == "raw";
  if (raw ? opened.buckets != 0 || opened.overflow_buckets != 0 : !geometry.fits(opened.index_bytes))
    return misbehaved(region_, fmt::format("gave an index of {} bytes to {} + {} buckets", opened.index_bytes,
                                           opened.buckets, opened.overflow_buckets));
  if (opened.index_writable != writable || (opened.writer != 0) != writable)
    return misbehaved(region_, "gave other rights than were asked for");
  if (opened.copy_index_from && (!writable || geometry.mode != table::Mode::exclusive))
    return misbehaved(region_, "gave an index to copy to whom it is not for");
  const bool encrypted = std::ranges::find(opened.protect, "encrypted") != opened.protect.end();
  if (encrypted != opened.key.has_value())
    return misbehaved(region_, encrypted ? "says that it is encrypted, and gave no key"
                                         : "gave a key, and does not say that it is encrypted");
  if (!encrypted && std::ranges::find(opened.protect, "signed") != opened.protect.end())
    return misbehaved(region_, "says that it is signed, and not that it is encrypted");
  return {};
}

// The broker says what is in force, and the pages lie in this process: it is here that they are guarded, or
// not.
Status BrokerBacking::guard(const protocol::Opened& opened) {
  if (std::find(opened.protect.begin(), opened.protect.end(), "pkey") == opened.protect.end()) return {};
  auto key = guard::Key::named(fmt::format("{} ({:02x} in {:02x})", region_, fmt::join(opened.region, ""),
                                           fmt::join(core_->welcome().pool, "")));
  if (!key) {
    Error why = std::move(key).error();
    why.message =
        fmt::format("region {} has its protection \"pkey\" in force, which this process can't keep: {}",
                    region_, why.message);
    return std::unexpected(std::move(why));
  }
  key_ = std::move(*key);
  pin_ = std::make_unique<guard::Pin>(key_);
  return {};
}

Status BrokerBacking::map_index(const protocol::Opened& opened, const std::vector<Fd>& fds,
                                std::uint64_t& grant_value) {
  Sealed final = others_write_index() ? Sealed::size : Sealed::writes;
  if (!opened.index_writable) {
    index_ =
        BAILEY_TRY(map_checked(fds.at(0).get(), opened.index_bytes, Access::read_only, final, "index", key_));
    return {};
  }
  Sealed by_now = others_write_index() ? Sealed::size : Sealed::not_by_now;
  index_ =
      BAILEY_TRY(map_checked(fds.at(0).get(), opened.index_bytes, Access::read_write, by_now, "index", key_));
  BAILEY_TRY(check_allocated(fds[0].get(), opened.index_bytes, "index"));
  if (opened.copy_index_from) {
    // Whoever wrote it is gone, or disowned: what it holds is hostile, as all of an index is.
    Mapping old = BAILEY_TRY(map_checked(fds.at(1).get(), opened.index_bytes, Access::read_only,
                                         Sealed::writes, "index to copy", key_));
    std::optional<guard::Gate> gate;
    if (pin_ != nullptr && !gate.emplace(*pin_).opened()) return gate->refused();
    std::memcpy(index_.data(), old.data(), opened.index_bytes);
  }
  auto ready = BAILEY_TRY(ask<protocol::IndexReady>(protocol::IndexMapped{grant_}));
  grant_value = ready.answer.grant_value;
  return check_file(fds[0].get(), opened.index_bytes, final, "index");
}

// ---- others' segments
// -----------------------------------------------------------------------------------------

Result<Extent> BrokerBacking::map(SegmentId id) {
  if (id == 0) return fail(Code::not_found);
  if (!mapped_.contains(id)) {
    // The first one that is missed brings all that there are, as many as fit into a message.
    if (!std::exchange(fetched_all_, true)) BAILEY_TRY(fetch({}));
    if (!mapped_.contains(id)) BAILEY_TRY(fetch({id}));
  }
  auto found = mapped_.find(id);
  if (found == mapped_.end()) return fail(Code::not_found);
  Extent extent = Extent::shape(found->second.size());
  extent.base = found->second.data();
  return extent;
}

Status BrokerBacking::fetch(std::vector<SegmentId> segments) {
  auto answered = BAILEY_TRY(ask<protocol::Segments>(protocol::MapSegments{grant_, std::move(segments)}));
  for (std::size_t i = 0; i < answered.answer.rows.size(); ++i) {
    const protocol::SegmentRow& row = answered.answer.rows[i];
    if (mapped_.contains(row.segment) || own_.contains(row.segment)) continue;
    if (Extent::shape(row.bytes).pages == 0)
      return misbehaved(region_, fmt::format("gave a segment {} of {} bytes", row.segment, row.bytes));
    mapped_[row.segment] =
        BAILEY_TRY(map_checked(answered.fds.at(i).get(), row.bytes, Access::read_only, Sealed::writes,
                               fmt::format("segment {}", row.segment), key_));
  }
  return {};
}

void BrokerBacking::unmap(SegmentId id, const Extent&) {
  // Own ones stay until they are given back; in a forked child there is nothing to unmap.
  if (core_->alive().own_process()) mapped_.erase(id);
}

// ---- own segments
// ---------------------------------------------------------------------------------------------

Result<pool::OwnSegment> BrokerBacking::create(std::uint64_t record_bytes) {
  auto room = [](std::uint64_t bytes) {
    return std::uint64_t{Extent::shape(bytes).pages} * BAILEY_PAGE_BYTES;
  };
  say_dropped();
  // One that was left unconfirmed, because the broker was away, is used first.
  if (unconfirmed_) {
    auto own = confirm();
    if (own && std::uint64_t{own->extent.pages} * BAILEY_PAGE_BYTES >= record_bytes) return own;
    if (own) BAILEY_TRY(retire(own->id));
    if (unconfirmed_) return own;
  }
  auto answered = BAILEY_TRY(ask<protocol::SegmentCreated>(protocol::CreateSegment{grant_, record_bytes}));
  const protocol::SegmentRow& row = answered.answer.row;
  if (row.segment == 0 || room(row.bytes) == 0 || room(row.bytes) < record_bytes ||
      own_.contains(row.segment))
    return misbehaved(region_, fmt::format("gave a segment {} of {} bytes for a record of {}", row.segment,
                                           row.bytes, record_bytes));
  std::string what = fmt::format("own segment {}", row.segment);
  Mapping mapping = BAILEY_TRY(
      map_checked(answered.fds.at(0).get(), row.bytes, Access::read_write, Sealed::not_by_now, what, key_));
  BAILEY_TRY(check_allocated(answered.fds[0].get(), row.bytes, what));
  unconfirmed_ = Unconfirmed{row, std::move(answered.fds[0]), std::move(mapping)};
  return confirm();
}

// The broker seals the file and lets others have it. The descriptor is kept until then, to see the seals with
// one's own eyes; it is closed before the first record is written.
Result<pool::OwnSegment> BrokerBacking::confirm() {
  auto done = ask<protocol::Done>(protocol::SegmentMapped{grant_, unconfirmed_->row.segment});
  if (!done && done.error().code == Code::unavailable) return std::unexpected(std::move(done).error());
  Unconfirmed segment = std::move(*unconfirmed_);
  unconfirmed_.reset();
  if (!done) return std::unexpected(std::move(done).error());
  BAILEY_TRY(check_file(segment.fd.get(), segment.row.bytes, Sealed::writes,
                        fmt::format("own segment {}", segment.row.segment)));
  pool::OwnSegment own{segment.row.segment, Extent::shape(segment.row.bytes)};
  own.extent.base = segment.mapping.data();
  own_[own.id] = std::move(segment.mapping);
  return own;
}

Status BrokerBacking::retire(SegmentId id) {
  auto done = ask<protocol::Done>(protocol::RetireSegment{grant_, id});
  bool own = own_.contains(id);
  // One's own can be gone already only because the request was heard twice.
  if (!done && !(own && done.error().code == Code::not_found))
    return std::unexpected(std::move(done).error());
  own_.erase(id);
  mapped_.erase(id);
  return {};
}

Result<std::uint32_t> BrokerBacking::fresh_writer_id() {
  auto answered = BAILEY_TRY(ask<protocol::Writer>(protocol::FreshWriter{grant_}));
  if (answered.answer.writer == 0) return misbehaved(region_, "gave the writer id 0");
  return answered.answer.writer;
}

// ---- what changes
// ---------------------------------------------------------------------------------------------

Result<pool::Backing::Attention> BrokerBacking::attend() {
  auto answered = BAILEY_TRY(ask<protocol::Attention>(protocol::Attend{grant_, heard_}));
  const protocol::Attention& told = answered.answer;
  Attention attention;
  attention.expected_grant = told.grant_value;
  attention.gone = told.gone;
  attention.left = told.leave;
  attention.late = told.late;
  // All that can fail comes first: once a mapping is gone the view must hear of it.
  if (sealer_ != nullptr) {
    if (!told.key) return misbehaved(region_, "gave no key of an encrypted region");
    BAILEY_TRY(sealer_->renew(told.key->generation, told.key->bytes()));
  }
  for (SegmentId id : told.gone)
    if (own_.contains(id) && !told.leave)
      return misbehaved(region_, fmt::format("retired segment {}, which is this session's own", id));
  if (told.new_index) {
    attention.expected_grant = BAILEY_TRY(take_index(told, answered.fds.at(0)));
    attention.index = index_.data();
  }
  heard_ = attention.expected_grant;
  undropped_.insert(undropped_.end(), told.gone.begin(), told.gone.end());
  // Whoever was not waited for knows nothing of what its mappings are mappings of: numbers are given out
  // again.
  if (told.late)
    for (auto& [id, mapping] : mapped_) attention.gone.push_back(id);
  if (told.leave)
    for (auto& [id, mapping] : own_) attention.gone.push_back(id);
  for (SegmentId id : attention.gone) {
    mapped_.erase(id);
    own_.erase(id);
  }
  if (told.late || told.leave) members_.reset();
  fetched_all_ = fetched_all_ && !told.late;
  say_dropped();
  return attention;
}

// Maps the index that comes in place of the one in use, and confirms it where only this session writes it.
// The grant value to use from now on.
Result<std::uint64_t> BrokerBacking::take_index(const protocol::Attention& told, const Fd& file) {
  bool confirms = writable_ && !others_write_index();
  if (told.index_bytes != index_bytes_)
    return misbehaved(
        region_, fmt::format("gave a new index of {} bytes in place of {}", told.index_bytes, index_bytes_));
  Sealed final = others_write_index() ? Sealed::size : Sealed::writes;
  Mapping fresh =
      BAILEY_TRY(map_checked(file.get(), told.index_bytes, writable_ ? Access::read_write : Access::read_only,
                             confirms ? Sealed::not_by_now : final, "new index", key_));
  if (writable_) BAILEY_TRY(check_allocated(file.get(), told.index_bytes, "new index"));
  std::uint64_t value = told.grant_value;
  if (confirms) {
    value = BAILEY_TRY(ask<protocol::IndexReady>(protocol::IndexMapped{grant_})).answer.grant_value;
    BAILEY_TRY(check_file(file.get(), told.index_bytes, final, "new index"));
  }
  index_ = std::move(fresh);
  return value;
}

void BrokerBacking::say_dropped() {
  if (undropped_.empty()) return;
  auto done = ask<protocol::Done>(protocol::Dropped{grant_, undropped_});
  if (done || done.error().code != Code::unavailable) undropped_.clear();
}

Result<const protocol::Members*> BrokerBacking::members() {
  if (!members_ || members_->membership != membership()) {
    auto answered = BAILEY_TRY(ask<protocol::Members>(protocol::GetMembers{grant_}));
    members_ = std::move(answered.answer);
  }
  return &*members_;
}

Result<std::vector<pool::Desk>> BrokerBacking::desks() {
  const protocol::Members* now = BAILEY_TRY(members());
  std::vector<pool::Desk> desks;
  for (const protocol::DeskRow& row : now->desks) desks.push_back({row.writer, row.segment});
  return desks;
}

Result<std::vector<SegmentId>> BrokerBacking::frozen() { return BAILEY_TRY(members())->frozen; }

std::uint64_t BrokerBacking::membership() const {
  return __atomic_load_n(membership_word_, __ATOMIC_SEQ_CST);
}

}  // namespace bailey::session
