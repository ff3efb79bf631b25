// Taking over from a broker that died: the state says what there is, the keeper or the pool's folder has it.
//
// What was decided stands. What was under way is taken back, or goes on where its session can: a session
// keeps reading and writing meanwhile, comes back by itself, and attends to its grants once, since nobody
// knows what it was told.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "bailey/base/log.h"
#include "bailey/broker/broker.h"

namespace bailey::broker {

// A file that the state names. Error not_found where nobody has it.
Result<Fd> Broker::found_again(const std::string& name) {
  if (setup_.place.kind == medium::Kind::file) return medium::open_file(setup_.place, name);
  auto held = setup_.held->find(name);
  if (held == setup_.held->end())
    return fail(Code::not_found, By::broker, fmt::format("the keeper does not have {}", name));
  return held->second.duplicate();
}

Status Broker::recover_regions() {
  for (Region& region : BAILEY_TRY(state_.regions())) {
    if (region.index.generation != 0) {
      Fd file = BAILEY_TRY(found_again(index_name(region.number, region.index.generation)));
      if (BAILEY_TRY(file_bytes(file.get())) != region.index_bytes)
        return fail(
            Code::corrupt, By::broker,
            fmt::format("the index of region {} has another size than the {} bytes that it was made with",
                        region.name, region.index_bytes),
            "somebody truncated it behind the broker's back; restore the pool from a copy");
      region.index.file = std::move(file);
      // The shared one is ours to write and theirs; of an exclusive one nothing but a reader is kept.
      if (region.geometry.mode == table::Mode::shared)
        region.index.reader = BAILEY_TRY(medium::reopen_read_only(region.index.file.get()));
      else
        region.index.file = BAILEY_TRY(medium::reopen_read_only(region.index.file.get()));
    }
    region.holders_known = false;
    last_region_ = std::max(last_region_ % (BAILEY_REGIONS_MAX - 1), region.number);
    regions_.emplace(region.number, std::move(region));
  }
  return check_root();
}

Status Broker::recover_segments() {
  for (Segment& segment : BAILEY_TRY(state_.segments())) {
    Region* region = region_of(segment.region);
    if (region == nullptr) {
      BAILEY_TRY(state_.erase_segment(segment.id));  // its region was dropped a moment before the end
      continue;
    }
    if (segment.state != SegmentState::retired) {
      Fd file = BAILEY_TRY(found_again(segment_name(segment.id)));
      bool cut = BAILEY_TRY(file_bytes(file.get())) != segment.bytes;
      // In a folder there are no seals. While this keeper lives only its writer can have done that: it costs
      // that segment, never the pool.
      if (cut && (!setup_.first || segment.state == SegmentState::mapping)) {
        log::error("broker",
                   "segment {} of region {} was cut behind the broker's back: what was in it is lost",
                   segment.id, region->name);
        BAILEY_TRY(state_.erase_segment(segment.id));
        continue;
      }
      if (cut)
        return fail(Code::corrupt, By::broker,
                    fmt::format("segment {} of region {} has another size than its {} bytes", segment.id,
                                region->name, segment.bytes),
                    "somebody truncated it behind the broker's back; restore the pool from a copy");
      bailey_segment_header header;
      if (::pread(file.get(), &header, sizeof header, 0) == sizeof header &&
          segment.state != SegmentState::mapping && setup_.place.kind == medium::Kind::file &&
          (header.magic != BAILEY_SEGMENT_MAGIC || header.version != BAILEY_SEGMENT_VERSION ||
           header.layout != BAILEY_LAYOUT || header.segment != segment.id))
        return fail(
            Code::corrupt, By::broker,
            fmt::format("segment {} of region {} has a damaged header, or is of another version (version {}, "
                        "layout {}; this build knows {} and {})",
                        segment.id, region->name, header.version, header.layout, BAILEY_SEGMENT_VERSION,
                        BAILEY_LAYOUT),
            "use the version that made the pool, or restore it from a copy");
      if (segment.state != SegmentState::mapping) file = BAILEY_TRY(medium::reopen_read_only(file.get()));
      segment.file = std::move(file);
    }
    last_segment_ = std::max(last_segment_, segment.id);
    segments_.emplace(segment.id, std::move(segment));
  }
  return {};
}

// Sessions whose process lives go on; the others end, and with them what they had open.
Status Broker::recover_sessions() {
  std::vector<std::uint64_t> dead;
  for (Session& session : BAILEY_TRY(state_.sessions())) {
    std::uint64_t number = session.number;
    auto held = setup_.held->find(fmt::format("process-{}", number));
    if (held != setup_.held->end()) session.pidfd = BAILEY_TRY(held->second.duplicate());
    session.janitor = session.pidfd && session.uid == ::geteuid() && is_child_of_keeper(session.pid);
    Session& added = sessions_.emplace(number, std::move(session)).first->second;
    pollfd process{added.pidfd.get(), POLLIN, 0};
    if (!added.pidfd || ::poll(&process, 1, 0) != 0)
      dead.push_back(number);
    else
      BAILEY_TRY(watch_process(added));
    refresh_rights(added);
  }
  std::vector<std::pair<std::uint32_t, std::string>> lost_grants;
  for (Open& open : BAILEY_TRY(state_.opens())) {
    Session* session = session_of(open.session);
    Region* region = region_of(open.region);
    std::uint32_t grant = open.grant;
    if (session == nullptr) {
      BAILEY_TRY(state_.erase_open(grant));
      continue;
    }
    session->opens.insert(grant);
    if (open.pending_generation != 0)
      if (auto file = found_again(index_name(open.region, open.pending_generation)))
        open.next = {open.pending_generation, std::move(*file), {}};
    bool lost = open.pending_generation != 0 && !open.next.file;
    Open& added = opens_.emplace(grant, std::move(open)).first->second;
    if (region == nullptr || lost || !added.revoked.empty()) {
      bump(added);
      close_open(grant);
      continue;
    }
    auto decision = still_granted(*session, *region, added);
    if (decision)
      added.quotas = decision->quotas;
    else if (!session->janitor)
      lost_grants.emplace_back(grant, decision.error().message);
    // What it was told last it may not have heard. A reader's mappings may be of numbers that were given out
    // again since; a writer without a desk has no segments that it may write, whatever it thinks.
    added.late = added.late || !added.writable;
    added.leave = added.writable && (added.late || added.desk == 0);
    bump(added);
  }
  for (std::uint64_t number : dead) end_session(number, "its process died while the broker was away");
  // The last broker committed a policy without them, and died before it took them back.
  for (auto& [grant, why] : lost_grants)
    if (Open* open = open_of(grant))
      revoke(*open,
             fmt::format("the grant on region {} was taken back: {}", region_of(open->region)->name, why));
  // Frozen by a death that the last broker had no time to write down, or given to nobody that is left.
  std::vector<SegmentId> orphans;
  for (auto& [id, segment] : segments_)
    if ((segment.state == SegmentState::open || segment.state == SegmentState::mapping) &&
        !opens_.contains(segment.grant))
      orphans.push_back(id);
  for (SegmentId id : orphans) BAILEY_TRY(freeze_segments(segments_.at(id).grant));
  std::vector<SegmentId> retired;
  for (auto& [id, segment] : segments_)
    if (segment.state == SegmentState::retired) retired.push_back(id);
  for (SegmentId id : retired) {
    auto pending = segments_.at(id).pending;
    for (std::uint32_t grant : pending)
      if (auto found = segments_.find(id);
          found != segments_.end() && (!opens_.contains(grant) || opens_.at(grant).late))
        acknowledge(found->second, grant);
    if (auto found = segments_.find(id); found != segments_.end())
      found->second.patience = loop_.after(drop_ns, [this, id] { not_dropped(id, false); });
  }
  for (auto& [number, region] : regions_)
    if (region.writer != 0 && !opens_.contains(region.writer - 1)) region.writer = 0;
  return {};
}

// What was made and never came into the state.
void Broker::drop_unnamed() {
  std::set<std::string> named;
  for (auto& [id, segment] : segments_)
    if (segment.state != SegmentState::retired) named.insert(segment_name(id));
  for (auto& [number, region] : regions_)
    if (region.index.generation != 0) named.insert(index_name(number, region.index.generation));
  for (auto& [grant, open] : opens_)
    if (open.pending_generation != 0) named.insert(index_name(open.region, open.pending_generation));
  for (auto& [number, session] : sessions_) named.insert(fmt::format("process-{}", number));
  for (auto& [name, fd] : *setup_.held)
    if (!named.contains(name))
      if (auto dropped = hold_.drop(name); !dropped) log::error("broker", "{}", dropped.error().to_string());
  if (setup_.place.kind == medium::Kind::file) {
    std::vector<std::string> unnamed;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(setup_.place.folder, ignored)) {
      std::string name = entry.path().filename();
      if ((name.starts_with("segment-") || name.starts_with("index-")) && !named.contains(name))
        unnamed.push_back(name);
    }
    for (const std::string& name : unnamed) drop_file(name);
  }
  setup_.held->clear();  // each has its owner now
}

}  // namespace bailey::broker
