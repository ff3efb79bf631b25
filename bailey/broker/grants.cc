// Grants: what a session has open, how it hears of changes, and how it is taken back.
#include <fmt/format.h>

#include "bailey/base/log.h"
#include "bailey/broker/broker.h"

namespace bailey::broker {

Region* Broker::region_of(std::uint32_t number) {
  auto found = regions_.find(number);
  return found == regions_.end() ? nullptr : &found->second;
}
Region* Broker::find_region(std::string_view name) {
  for (auto& [number, region] : regions_)
    if (region.name == name) return &region;
  return nullptr;
}
Open* Broker::open_of(std::uint32_t grant) {
  auto found = opens_.find(grant);
  return found == opens_.end() ? nullptr : &found->second;
}
Session* Broker::session_of(std::uint64_t number) {
  auto found = sessions_.find(number);
  return found == sessions_.end() ? nullptr : &found->second;
}

// What a request may act on: the session's own, answered, not taken back.
Result<Open*> Broker::own_open(Session& session, std::uint32_t grant, bool writable) {
  Open* open = open_of(grant);
  if (open == nullptr || open->session != session.number || open->opening)
    return fail(Code::revoked, By::broker,
                fmt::format("grant {} is not open in session {}", grant, session.number),
                "open the region again");
  if (!open->revoked.empty())
    return fail(Code::revoked, By::broker, open->revoked, "ask an admin for the grant");
  if (writable && !open->writable)
    return fail(Code::denied, By::broker,
                fmt::format("region {} is open for reading only in session {}", region_of(open->region)->name,
                            session.number),
                "open it for writing, with a grant of rights \"rw\"");
  if (writable && open->late && !open->said)
    return fail(
        Code::contended, By::broker,
        fmt::format("session {} did not answer in time, and others went on without it", session.number),
        "attend to the grant first, then try again");
  return open;
}

std::optional<std::uint32_t> Broker::free_grant() const {
  std::uint32_t expected = 0;
  for (const auto& [grant, open] : opens_) {
    if (grant != expected) break;
    ++expected;
  }
  if (expected >= BAILEY_GRANT_WORDS) return std::nullopt;
  return expected;
}

void Broker::bump(Open& open) { setup_.control->bump_grant(open.grant); }

void Broker::bump_region(const Region& region, std::optional<std::uint32_t> but) {
  for (auto& [grant, open] : opens_)
    if (open.region == region.number && open.revoked.empty() && grant != but) bump(open);
}

// The word is not what the session was told: what is new?
Reaction Broker::attend(Session& session, std::uint64_t number, const protocol::Attend& request) {
  auto found = own_open(session, request.grant, false);
  if (!found) {
    // It has heard that it was revoked, which is all that there was to wait for.
    if (Open* open = open_of(request.grant);
        open != nullptr && open->session == session.number && !open->opening)
      close_open(request.grant);
    return std::unexpected(std::move(found).error());
  }
  Open& open = **found;
  Region& region = *region_of(open.region);
  if (request.heard != open.told) {
    open.generation = open.heard_generation;
  } else {
    open.heard_generation = open.generation;
    if (open.said) open.leave = false;
    if (open.said && std::exchange(open.late, false)) BAILEY_TRY(state_.save(open));
  }
  open.said = false;
  // What a writer says with Attend: it is between two operations, and writes nothing until it is answered.
  bool leaves_index = open.leave && region.geometry.mode == table::Mode::exclusive;
  if (open.writable && open.pending_generation == 0 && (region.replacing || leaves_index)) {
    if (!region.replacing) region.replacing = std::make_unique<Region::Replacing>();
    region.replacing->held[open.grant] = number;
    region.replacing->waiting.erase(open.grant);
    writers_attended(region.number);
    return std::nullopt;
  }
  return BAILEY_TRY(attention(open, region));
}

// What is new to a session. Nobody has to wait for it any more.
Result<Outcome> Broker::attention(Open& open, Region& region) {
  if (open.leave) {
    BAILEY_TRY(freeze_segments(open.grant));
    setup_.control->bump_membership(region.number);
  }
  protocol::Attention attention;
  attention.leave = open.leave;
  // Before what it stands for is looked at: a change after this moves the word again.
  attention.grant_value = open.told = setup_.control->grant(open.grant);
  std::vector<int> fds;
  bool shared = region.geometry.mode == table::Mode::shared;
  if (open.generation != region.index.generation && (shared || !open.writable)) {
    attention.new_index = true;
    attention.index_bytes = region.index_bytes;
    fds.push_back(shared && !open.writable ? region.index.reader.get() : region.index.file.get());
    open.generation = region.index.generation;
  }
  // An exclusive index has no other writer, and is copied once that one waits: nothing of it is lost.
  attention.late = open.late && (shared || !open.writable);
  if (open.leave && !shared && open.next.generation != 0) {
    attention.new_index = true;
    attention.index_bytes = region.index_bytes;
    fds.push_back(open.next.file.get());
  }
  attention.key = BAILEY_TRY(key_of(region));
  open.said = true;
  for (auto& [id, segment] : segments_)
    if (segment.state == SegmentState::retired && segment.pending.contains(open.grant)) {
      if (attention.gone.size() == protocol::gone_max) {
        bump(open);  // the rest another time
        break;
      }
      attention.gone.push_back(id);
    }
  return Outcome{std::move(attention), std::move(fds)};
}

// Ends an open region, whatever its state: its segments freeze, its numbers are free.
void Broker::close_open(std::uint32_t grant) {
  Open* open = open_of(grant);
  if (open == nullptr) return;
  Region* region = region_of(open->region);
  Status closed = freeze_segments(grant);
  for (auto segment = segments_.begin(); segment != segments_.end();) {
    Segment& now = (segment++)->second;  // acknowledging may erase it
    if (now.state == SegmentState::retired) acknowledge(now, grant);
  }
  bool was_writer = region != nullptr && region->writer == 1 + grant;
  if (was_writer) region->writer = 0;
  if (closed)
    closed = state_.commit([&]() -> Status {
      if (was_writer) BAILEY_TRY(state_.save(*region));
      return state_.erase_open(grant);
    });
  // It ended all the same; the next broker finds its process dead and does this again.
  if (!closed) log::error("broker", "grant {} stays in the state: {}", grant, closed.error().to_string());
  if (open->next.generation != 0) drop_file(index_name(open->region, open->next.generation));
  loop_.cancel(open->cut_off);
  bool writable = open->writable;
  if (Session* session = session_of(open->session)) session->opens.erase(grant);
  opens_.erase(grant);
  if (region != nullptr && writable) setup_.control->bump_membership(region->number);
  if (region != nullptr && region->replacing) {
    region->replacing->waiting.erase(grant);
    region->replacing->held.erase(grant);
    writers_attended(region->number);
  }
  settled(grant, {});
}

// What it wrote stays readable and changes no more; what it had not confirmed is dropped.
Status Broker::freeze_segments(std::uint32_t grant) {
  std::vector<SegmentId> frozen, unconfirmed;
  for (auto& [id, segment] : segments_) {
    if (segment.grant != grant) continue;
    if (segment.state == SegmentState::open) frozen.push_back(id);
    if (segment.state == SegmentState::mapping) unconfirmed.push_back(id);
  }
  Status done;
  Open* open = open_of(grant);
  if (!frozen.empty())
    done = state_.commit([&]() -> Status {
      for (SegmentId id : frozen) {
        Segment& segment = segments_.at(id);
        segment.state = SegmentState::frozen;
        BAILEY_TRY(state_.save(segment));
      }
      if (open == nullptr || std::exchange(open->desk, 0) == 0) return {};
      return state_.save(*open);
    });
  for (SegmentId id : unconfirmed) drop_segment(id);
  return done;
}

// Taken back: committed, then the word moves. The session is cut off if it does not hear of it in time.
void Broker::revoke(Open& open, const std::string& why) {
  if (!open.revoked.empty()) return;
  std::uint32_t grant = open.grant;
  Region* region = region_of(open.region);
  bool exclusive_writer = region != nullptr && region->writer == 1 + grant;
  bool disowned = region != nullptr && open.writable && !open.opening &&
                  (open.pending_generation == 0 || open.leave || region->disowned);
  open.revoked = why;
  if (exclusive_writer) region->writer = 0;
  if (disowned) region->disowned = true;
  Status committed = state_.commit([&]() -> Status {
    if (region != nullptr) BAILEY_TRY(state_.save(*region));
    return state_.save(open);
  });
  if (committed) committed = freeze_segments(grant);
  if (!committed)
    log::error("broker", "a revocation stays out of the state: {}", committed.error().to_string());
  if (Session* session = session_of(open.session))
    note("revoked", session, {{"region", region != nullptr ? region->name : ""}, {"why", why}});
  bump(open);
  if (region != nullptr && open.writable) setup_.control->bump_membership(region->number);
  open.cut_off = loop_.after(attend_ns, [this, grant] { close_open(grant); });
  if (disowned) replace_index(*region);
}

// It may be idle, or stopped, or up to no good: the others go on. What it has mapped may be anything by now,
// which it hears when it attends; what it writes meanwhile is in no file that others use.
void Broker::pass_over(Open& open) {
  // One that was told and has not confirmed it yet works again, and is waited for like any other.
  if ((open.late && !open.said) || !open.revoked.empty()) return;
  Region& region = *region_of(open.region);
  open.late = true;
  open.said = false;
  if (auto saved = state_.save(open); !saved)
    log::error("broker", "grant {} is not late in the state: {}", open.grant, saved.error().to_string());
  for (auto segment = segments_.begin(); segment != segments_.end();) {
    Segment& now = (segment++)->second;  // acknowledging may erase it
    if (now.state == SegmentState::retired) acknowledge(now, open.grant);
  }
  if (open.writable && region.geometry.mode == table::Mode::shared) {
    open.leave = true;
    if (auto frozen = freeze_segments(open.grant); !frozen)
      log::error("broker", "segments stay open in the state: {}", frozen.error().to_string());
    setup_.control->bump_membership(region.number);
  }
  bump(open);
  note("passed over", session_of(open.session), {{"region", region.name}, {"writable", open.writable}});
}

// A revoked session has heard of it or is cut off, or a region's writers have left what they wrote into:
// whoever waited for that goes on.
void Broker::settled(std::optional<std::uint32_t> grant, std::optional<std::uint32_t> region) {
  for (std::size_t i = 0; i < applying_.size();) {
    if (grant) applying_[i].waiting.erase(*grant);
    if (region) applying_[i].renewed.erase(*region);
    if (!applying_[i].waiting.empty() || !applying_[i].renewed.empty()) {
      ++i;
      continue;
    }
    Applying done = std::move(applying_[i]);
    applying_.erase(applying_.begin() + static_cast<std::ptrdiff_t>(i));
    reply(done.session, done.number, Outcome{protocol::Text{std::move(done.text)}, {}});
  }
}

}  // namespace bailey::broker
