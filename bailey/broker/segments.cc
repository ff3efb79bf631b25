// Segments: one writer a file, for life.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "bailey/abi/segment.h"
#include "bailey/base/clock.h"
#include "bailey/base/count.h"
#include "bailey/base/log.h"
#include "bailey/broker/broker.h"
#include "bailey/policy/size.h"
#include "bailey/pool/view.h"

namespace bailey::broker {
namespace {

std::uint64_t room_in(std::uint64_t bytes) {
  return std::uint64_t{pool::Extent::shape(bytes).pages} * BAILEY_PAGE_BYTES;
}

// A retired one's bytes are taken as long as somebody may have it mapped.
bool counts(const Segment& segment) {
  return segment.state != SegmentState::retired || !segment.pending.empty();
}

}  // namespace

Broker::Usage Broker::usage_of_region(const Region& region) const {
  Usage usage{region.index_bytes, 0};
  for (const auto& [id, segment] : segments_)
    if (segment.region == region.number && counts(segment)) {
      usage.bytes += segment.bytes;
      ++usage.segments;
    }
  return usage;
}

bool Broker::has_frozen(const Region& region) const {
  return std::any_of(segments_.begin(), segments_.end(), [&](const auto& entry) {
    return entry.second.region == region.number && entry.second.state == SegmentState::frozen;
  });
}

// What living writers hold under one grant; what the dead left is nobody's.
Broker::Usage Broker::usage_of_principal(const Region& region, const std::string& principal) const {
  Usage usage;
  for (const auto& [id, segment] : segments_) {
    if (segment.region != region.number) continue;
    if (segment.state != SegmentState::open && segment.state != SegmentState::mapping) continue;
    auto open = opens_.find(segment.grant);
    if (open == opens_.end() || open->second.principal != principal) continue;
    usage.bytes += segment.bytes;
    ++usage.segments;
  }
  return usage;
}

// How large a new segment is: the usual size, less where the region or the quota has less left, more where a
// record needs it.
Result<std::uint64_t> Broker::size_for(const Session& session, const Region& region, const Open& open,
                                       std::uint64_t record_bytes) const {
  constexpr std::uint64_t record_bytes_max =
      BAILEY_RECORD_HEADER_BYTES + table::key_bytes_max + table::value_bytes_max +
      BAILEY_SEALED_HEADER_BYTES + BAILEY_PROOF_BYTES + BAILEY_PROOF_HASHES_MAX * BAILEY_PROOF_HASH_BYTES;
  if (record_bytes > record_bytes_max)
    return fail(Code::too_large, By::broker,
                fmt::format("a record of {} bytes; {} is the most", record_bytes, record_bytes_max));
  std::uint64_t least =
      setup_.place.unit_bytes() > BAILEY_PAGE_BYTES ? setup_.place.unit_bytes() : BAILEY_PAGE_BYTES;
  std::uint64_t needed = 2 * least;
  while (room_in(needed) < std::max<std::uint64_t>(record_bytes, 1)) needed += least;

  Usage all = usage_of_region(region);
  std::uint64_t size = region.bytes;
  // While there are segments that nobody writes, what lives in them needs somewhere to move to. So writers
  // may take segments while less than two more are in use than there is room for: had they to leave theirs in
  // a full region, they could not even update; and whoever comes new moves nothing before it has one. For the
  // janitor there is always one more than that. They get whole ones: in a small one there are not enough
  // pages for records of all sizes.
  bool frozen = has_frozen(region);
  unsigned beyond = (frozen ? 2 : 0) + (session.janitor ? 2 : 0);
  size += beyond * region.segment_bytes;
  std::uint64_t left = size - std::min(size, all.bytes);
  if (left < needed)
    return fail(Code::quota, By::broker,
                fmt::format("region {} is full: {} of its {} are in use, a segment needs {}", region.name,
                            policy::format_size(all.bytes), policy::format_size(region.bytes),
                            policy::format_size(needed)),
                "delete records, or ask an admin for a larger region");
  if (frozen) left = std::max(left, region.segment_bytes);
  if (session.janitor) return std::max(needed, std::min(region.segment_bytes, left / least * least));

  Usage own = usage_of_principal(region, open.principal);
  if (open.quotas.segments && own.segments >= *open.quotas.segments)
    return fail(Code::quota, By::broker,
                fmt::format("the grant of {} on region {} allows {}, of which {} in use", open.principal,
                            region.name, counted(*open.quotas.segments, "segment"),
                            own.segments == 1 ? "1 is" : fmt::format("{} are", own.segments)),
                "delete records, or ask an admin for more");
  std::uint64_t allowed = open.quotas.bytes.value_or(region.bytes);
  std::uint64_t quota_left = allowed - std::min(allowed, own.bytes);
  if (quota_left < needed)
    return fail(Code::quota, By::broker,
                fmt::format("the grant of {} on region {} allows {}, {} are in use, a segment needs {}",
                            open.principal, region.name, policy::format_size(allowed),
                            policy::format_size(own.bytes), policy::format_size(needed)),
                "delete records, or ask an admin for a larger quota");
  return std::max(needed, std::min({region.segment_bytes, left / least * least, quota_left / least * least}));
}

// Round robin, so that a number is used again as late as may be.
std::optional<SegmentId> Broker::free_segment() {
  for (unsigned tries = 0; tries < 65535; ++tries) {
    last_segment_ = static_cast<SegmentId>(last_segment_ == 65535 ? 1 : last_segment_ + 1);
    if (!segments_.contains(last_segment_)) return last_segment_;
  }
  return std::nullopt;
}

Reaction Broker::create_segment(Session& session, std::uint64_t number,
                                const protocol::CreateSegment& request) {
  Open& open = *BAILEY_TRY(own_open(session, request.grant, true));
  Region& region = *region_of(open.region);
  if (region.raw())
    return fail(Code::unsupported, By::broker,
                fmt::format("region {} is raw and has no segments", region.name));
  // One that it never confirmed: the answer was lost with the broker that gave it.
  std::vector<SegmentId> lost;
  for (auto& [id, segment] : segments_)
    if (segment.grant == open.grant && segment.state == SegmentState::mapping) lost.push_back(id);
  for (SegmentId id : lost) drop_segment(id);

  auto size = size_for(session, region, open, request.record_bytes);
  // Not a request that waits: its session has to go on attending, or those who wait would wait for each
  // other.
  if (!size && size.error().code == Code::quota && (room_comes(region) || others_make_room(region, open)))
    return fail(Code::contended, By::broker,
                fmt::format("region {} is full until others have emptied what the dead left", region.name),
                "try again");
  std::uint64_t bytes = BAILEY_TRY(std::move(size));
  open.refused_ns = 0;
  auto id = free_segment();
  if (!id)
    return fail(Code::quota, By::broker,
                "all 65535 segments of the pool are in use, or wait for sessions to drop them");
  Segment segment;
  segment.id = *id;
  segment.region = region.number;
  segment.grant = open.grant;
  segment.writer = open.writer;
  segment.bytes = bytes;
  segments_.emplace(*id, std::move(segment));
  make_file(segment_name(*id), bytes, {}, fmt::format("a segment of region {}", region.name),
            [this, id = *id, of = session.number, number](Result<Fd> file) {
              segment_made(id, of, number, std::move(file));
            });
  return std::nullopt;
}

// Whether bytes of the region come back in a moment: those of retired segments, which are waited for no
// longer than a session that reads has.
bool Broker::room_comes(const Region& region) {
  bool comes = false;
  for (auto& [id, segment] : segments_) {
    if (segment.region != region.number || segment.pending.empty()) continue;
    comes = true;
    if (std::exchange(segment.wanted, true)) continue;
    loop_.cancel(segment.patience);
    segment.patience = loop_.after(drop_ns, [this, of = id] { not_dropped(of, true); });
  }
  return comes;
}

// Whether a writer may hope for others or the janitor, which empty what the dead left: for a while from its
// first refusal on.
bool Broker::others_make_room(const Region& region, Open& asker) const {
  if (!has_frozen(region)) return false;
  std::uint64_t now = monotonic_ns();
  if (asker.refused_ns == 0) asker.refused_ns = now;
  return now - asker.refused_ns < room_ns;
}

void Broker::segment_made(SegmentId id, std::uint64_t session, std::uint64_t number, Result<Fd> file) {
  auto found = segments_.find(id);
  BAILEY_ASSERT(found != segments_.end());
  // Dropped meanwhile, since its asker is gone, or not waited for any more: the number was kept until now,
  // and the file goes now.
  if (found->second.state == SegmentState::retired || !file) {
    segments_.erase(found);
    if (!file) return reply(session, number, std::unexpected(std::move(file).error()));
    static_cast<void>(medium::remove_file(setup_.place, segment_name(id)));
    return reply(session, number,
                 fail(Code::contended, By::broker, "the segment was dropped while it was made", "try again"));
  }
  Segment& segment = found->second;
  Region* region = region_of(segment.region);
  auto given = [&]() -> Status {
    BAILEY_TRY(write_header(segment, *region, file->get()));
    BAILEY_TRY(hold(segment_name(id), file->get()));
    return state_.commit([&] { return state_.save(segment); });
  }();
  if (!given) {
    segments_.erase(found);
    drop_file(segment_name(id));
    return reply(session, number, std::unexpected(std::move(given).error()));
  }
  segment.file = std::move(*file);
  reply(session, number, Outcome{protocol::SegmentCreated{{id, segment.bytes}}, {segment.file.get()}});
}

// A file in a folder has no seals: whoever was given it to write may have cut it.
Status Broker::check_size(int fd, std::uint64_t bytes, std::string_view what) const {
  std::uint64_t now = BAILEY_TRY(file_bytes(fd));
  if (now == bytes) return {};
  return fail(Code::corrupt, By::peer, fmt::format("{} has {} bytes; it was given {}", what, now, bytes),
              "ask for a new one");
}

Status Broker::write_header(const Segment& segment, const Region& region, int fd) const {
  pool::Extent shape = pool::Extent::shape(segment.bytes);
  bailey_segment_header header{};
  header.magic = BAILEY_SEGMENT_MAGIC;
  header.version = BAILEY_SEGMENT_VERSION;
  header.layout = BAILEY_LAYOUT;
  header.bytes = segment.bytes;
  header.pages = shape.pages;
  header.data_offset = shape.data_offset;
  std::copy(region.id.begin(), region.id.end(), header.region);
  header.segment = segment.id;
  header.writer = segment.writer;
  Mapping front = BAILEY_TRY(Mapping::of_file(fd, setup_.place.unit_bytes(), Access::read_write));
  std::memcpy(front.data(), &header, sizeof header);
  return {};
}

Reaction Broker::segment_mapped(Session& session, const protocol::SegmentMapped& request) {
  Open& open = *BAILEY_TRY(own_open(session, request.grant, true));
  auto found = segments_.find(request.segment);
  if (found == segments_.end() || found->second.grant != open.grant || !found->second.file ||
      (found->second.state != SegmentState::mapping && found->second.state != SegmentState::open))
    return fail(
        Code::not_found, By::broker,
        fmt::format("segment {} is none that session {} was given to write", request.segment, session.number),
        "ask for a new one");
  Segment& segment = found->second;
  // Said twice: the answer was lost with the broker that gave it.
  if (segment.state == SegmentState::open) return Outcome{protocol::Done{}, {}};
  auto sealed = [&]() -> Status {
    BAILEY_TRY(medium::seal(setup_.place, segment.file.get(), medium::Purpose::segment));
    BAILEY_TRY(check_size(segment.file.get(), segment.bytes, "a segment"));
    Fd reader = BAILEY_TRY(medium::reopen_read_only(segment.file.get()));
    BAILEY_TRY(hold(segment_name(segment.id), reader.get()));
    segment.file = std::move(reader);
    bool first = open.desk == 0;
    segment.state = SegmentState::open;
    if (first) open.desk = segment.id;
    return state_.commit([&]() -> Status {
      BAILEY_TRY(state_.save(segment));
      return first ? state_.save(open) : Status{};
    });
  }();
  if (!sealed) {
    if (open.desk == segment.id) open.desk = 0;
    drop_segment(segment.id);
    return std::unexpected(std::move(sealed).error());
  }
  setup_.control->bump_membership(segment.region);
  return Outcome{protocol::Done{}, {}};
}

Reaction Broker::map_segments(Session& session, const protocol::MapSegments& request) {
  Open& open = *BAILEY_TRY(own_open(session, request.grant, false));
  protocol::Segments answer;
  std::vector<int> fds;
  auto add = [&](const Segment& segment) {
    if (segment.region != open.region) return;
    if (segment.state != SegmentState::open && segment.state != SegmentState::frozen) return;
    answer.rows.push_back({segment.id, segment.bytes});
    fds.push_back(segment.file.get());
  };
  if (request.segments.empty()) {
    for (auto& [id, segment] : segments_)
      if (answer.rows.size() < protocol::segments_in_message_max) add(segment);
  } else {
    std::set<SegmentId> asked(request.segments.begin(), request.segments.end());
    for (SegmentId id : asked)
      if (auto found = segments_.find(id); found != segments_.end()) add(found->second);
  }
  return Outcome{std::move(answer), std::move(fds)};
}

Reaction Broker::members(Session& session, const protocol::GetMembers& request) {
  Open& asker = *BAILEY_TRY(own_open(session, request.grant, false));
  protocol::Members answer;
  // Before the rows: who comes later changes it again.
  answer.membership = setup_.control->membership(asker.region);
  for (auto& [grant, open] : opens_)
    if (open.region == asker.region && open.desk != 0 && open.revoked.empty() && grant != asker.grant)
      answer.desks.push_back({open.writer, open.desk});
  for (auto& [id, segment] : segments_)
    if (segment.region == asker.region && segment.state == SegmentState::frozen) answer.frozen.push_back(id);
  return Outcome{std::move(answer), {}};
}

Reaction Broker::retire_segment(Session& session, const protocol::RetireSegment& request) {
  Open& open = *BAILEY_TRY(own_open(session, request.grant, true));
  auto found = segments_.find(request.segment);
  if (found == segments_.end() || found->second.region != open.region ||
      found->second.state == SegmentState::retired)
    return fail(Code::not_found, By::broker,
                fmt::format("region {} has no segment {}", region_of(open.region)->name, request.segment));
  Segment& segment = found->second;
  if (segment.state != SegmentState::frozen && segment.grant != open.grant)
    return fail(Code::denied, By::broker,
                fmt::format("segment {} belongs to another writer, who lives", request.segment),
                "only its writer gives it back");
  if (open.desk == segment.id)
    return fail(Code::busy, By::broker,
                fmt::format("segment {} holds the writer's desk, which others read", request.segment),
                "keep the first segment until the region is closed");
  if (segment.state == SegmentState::mapping) {
    drop_segment(segment.id);
    return Outcome{protocol::Done{}, {}};
  }
  BAILEY_TRY(retire(segment, open.grant));
  return Outcome{protocol::Done{}, {}};
}

// The file goes at once, its number and its bytes when nobody has it mapped any more, or is waited for.
Status Broker::retire(Segment& segment, std::optional<std::uint32_t> by) {
  SegmentState before = segment.state;
  for (auto& [grant, open] : opens_)
    if (open.region == segment.region && grant != by && (!open.late || open.said) && !open.opening)
      segment.pending.insert(grant);
  segment.state = SegmentState::retired;
  Status committed = state_.commit([&]() -> Status {
    return segment.pending.empty() ? state_.erase_segment(segment.id) : state_.save(segment);
  });
  if (!committed) {
    segment.state = before;
    segment.pending.clear();
    return committed;
  }
  segment.file.reset();
  drop_file(segment_name(segment.id));
  std::uint32_t number = segment.region;
  if (segment.pending.empty())
    segments_.erase(segment.id);
  else
    segment.patience = loop_.after(drop_ns, [this, id = segment.id] { not_dropped(id, false); });
  setup_.control->bump_membership(number);
  if (Region* region = region_of(number)) bump_region(*region, by);
  return {};
}

void Broker::acknowledge(Segment& segment, std::uint32_t grant) {
  if (segment.pending.erase(grant) == 0) return;
  bool last = segment.pending.empty();
  Status saved = state_.commit(
      [&]() -> Status { return last ? state_.erase_segment(segment.id) : state_.save(segment); });
  if (!saved)
    log::error("broker", "segment {} stays in the state: {}", segment.id, saved.error().to_string());
  if (!last) return;
  loop_.cancel(segment.patience);
  segments_.erase(segment.id);
}

// A retired segment's time is over: who has not dropped it is not waited for.
void Broker::not_dropped(SegmentId id, bool writers) {
  Segment& segment = segments_.at(id);
  Region* region = region_of(segment.region);
  bool writer_late = false;
  segment.patience = 0;
  if (!writers)
    segment.patience = loop_.after(writer_drop_ns - drop_ns, [this, id] { not_dropped(id, true); });
  for (std::uint32_t grant : std::set(segment.pending)) {  // passing over may erase the segment
    Open* open = open_of(grant);
    if (open == nullptr || (open->writable && !writers)) continue;
    writer_late = writer_late || open->writable;
    pass_over(*open);
  }
  // What such a writer publishes late must not be in the index that the others use.
  if (!writer_late || region == nullptr || region->geometry.mode == table::Mode::exclusive) return;
  region->disowned = true;
  if (auto saved = state_.save(*region); !saved)
    log::error("broker", "a renewal stays out of the state: {}", saved.error().to_string());
  replace_index(*region);
}

Reaction Broker::dropped(Session& session, const protocol::Dropped& request) {
  Open& open = *BAILEY_TRY(own_open(session, request.grant, false));
  for (SegmentId id : request.segments)
    if (auto found = segments_.find(id);
        found != segments_.end() && found->second.state == SegmentState::retired)
      acknowledge(found->second, open.grant);
  return Outcome{protocol::Done{}, {}};
}

// Forgets a segment that no reader was ever given.
void Broker::drop_segment(SegmentId id) {
  auto found = segments_.find(id);
  if (found == segments_.end()) return;
  if (!found->second.file) {
    found->second.state = SegmentState::retired;  // segment_made does the rest
    return;
  }
  segments_.erase(found);
  if (auto erased = state_.erase_segment(id); !erased)
    log::error("broker", "segment {} stays in the state: {}", id, erased.error().to_string());
  drop_file(segment_name(id));
}

Reaction Broker::fresh_writer(Session& session, const protocol::FreshWriter& request) {
  Open& open = *BAILEY_TRY(own_open(session, request.grant, true));
  // An honest writer needs one after 2^32 writes; there are 2^31 for all, for ever.
  std::uint64_t now = monotonic_ns();
  if (open.fresh_ns != 0 && now - open.fresh_ns < fresh_writer_ns)
    return fail(Code::quota, By::broker,
                fmt::format("{} asks for more than one new writer id a minute", who(session)),
                "a writer needs a new one after 2^32 writes");
  open.fresh_ns = now;
  if (next_writer_ >= 0x7fff'ffffu)
    return fail(Code::quota, By::broker, "all 2^31 writer ids of the pool were given out",
                "format a new pool");
  std::uint32_t before = std::exchange(open.writer, next_writer_);
  Status committed = state_.commit([&]() -> Status {
    BAILEY_TRY(state_.set_meta("next_writer", std::to_string(next_writer_ + 1)));
    BAILEY_TRY(state_.inherit_writer_key(open.region, before, open.writer));
    return state_.save(open);
  });
  if (!committed) {
    open.writer = before;
    return std::unexpected(std::move(committed).error());
  }
  ++next_writer_;
  setup_.control->bump_membership(open.region);
  return Outcome{protocol::Writer{open.writer}, {}};
}

}  // namespace bailey::broker
