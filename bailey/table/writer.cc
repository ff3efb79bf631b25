#include "bailey/table/writer.h"
#include "bailey/table/home.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>

#include "bailey/table/write_at_once.h"

namespace bailey::table {

using medium::load_acquire;
using medium::store_release;

namespace {

// How long an inserter waits for a tentative slot that has precedence, in loads, before it clears it. Around
// 50 us: far more than a running inserter needs, and nothing against a scheduler's time slice.
constexpr unsigned precedence_loads = 2000;
// Dead writers' segments are emptied at the pace at which new ones are taken: this many are looked at for
// each.
constexpr unsigned segments_emptied_per_new = 4;
// How long a writer waits for room that others are about to give back: twice as long as a broker waits for
// those.
constexpr unsigned room_waits = 1000;
constexpr timespec room_wait{0, 2'000'000};
// Pages emptied by moving one's own records before an allocation gives up.
constexpr unsigned compactions_most = 64;

void pause() { __builtin_ia32_pause(); }

std::unexpected<Error> contended() {
  return fail(Code::contended, By::peer,
              fmt::format("gave up after {} attempts against other writers", attempts_max), "try again");
}

// A segment was refused, and what others or one's own records leave may make room for it; `contended`: others
// are at it.
bool wants_room(const Error& error) {
  return error.code == Code::quota || error.code == Code::no_space || error.code == Code::contended;
}

std::unexpected<Error> corrupt_index() {
  return fail(Code::corrupt, By::peer, "corrupt index: a chain is a circle or leads out of the index",
              "bailey region check tells what is readable");
}

}  // namespace

Writer::Writer(pool::View& view, const Geometry& geometry, Counters& counters)
    : view_(view),
      geometry_(geometry),
      counters_(counters),
      shared_(geometry.mode == Mode::shared),
      heap_(view, shared_),
      frozen_next_(view.writer()) {
  view_.set_owner(this);
}

// ---- versions and announcements

bool Writer::renew_counter() {
  if (keep_failure(view_.renew_writer_id())) return false;
  counter_ = 0;
  return true;
}

// The slot led to this record and no longer does: whose garbage is it?
void Writer::unlinked(Word slot) {
  if (!heap_.release(slot) && shared_) {
    bailey_desk* desk = heap_.desk();
    Word head = medium::load_relaxed(&desk->hints_head);
    medium::store_relaxed(&desk->hints[head % BAILEY_HINTS], place_of(slot));
    store_release(&desk->hints_head, head + 1);
  }
}

Status Writer::refresh() {
  withdraw_announcement();
  return view_.attend();
}

void Writer::attended(bool left, bool late) {
  late_ = late;
  std::vector<Word> unsettled = std::exchange(unsettled_, {});
  if (!left) {
    for (Word slot : unsettled) unlinked(slot);
    return;
  }
  heap_.leave();
  announced_now_ = 0;
  bytes_at_last_sweep_ = 0;
}

// ---- searching

// What a slot's record is to what is wanted, and of which version.
Seen Writer::examine(const Word* slot, Word seen, const Wanted& wanted, std::uint64_t& version) {
  ReadRecord read;
  Seen what = table::examine(view_, slot, seen, wanted, read, [](std::size_t) { return nullptr; }, failure_);
  version = version_of(read.word);
  return what;
}

// The slot that holds the key's record, announced in shared mode; null where there is none.
bool Writer::search(const Wanted& wanted, Hit& hit) {
  const Home& home = wanted.home;
  unsigned attempts = 0;
  Candidates walk(Index(view_.index(), geometry_), home);
  while (Word* slot = walk.slot()) {
    Word seen = load_acquire(slot);
    if (seen >> BAILEY_SLOT_TAG_SHIFT != home.tag) {
      walk.next();
      continue;
    }
    view_.step(pool::Step::slot_loaded);
    Seen what = Seen::changed;
    std::uint64_t version = 0;
    if (shared_) announce(seen);
    if (!shared_ || load_acquire(slot) == seen) what = examine(slot, seen, wanted, version);
    switch (what) {
      case Seen::match:
        hit = {slot, seen, version};
        return true;
      case Seen::failed:
        return false;
      case Seen::unheard:
        hit = {};  // the view is not current: the caller looks, and searches anew
        return true;
      case Seen::forged:
        ++counters_.forged_entries;
        [[fallthrough]];
      case Seen::other_key:
        walk.next();
        break;
      case Seen::changed:
        ++counters_.retries;
        if (++attempts > attempts_max) {
          failure_ = contended().error();
          return false;
        }
        break;
    }
  }
  hit = {};
  if (!walk.corrupt()) return true;
  failure_ = corrupt_index().error();
  return false;
}

void Writer::prefetch_bucket(const Home& home) const {
  medium::prefetch_to_write(Index(view_.index(), geometry_).primary(home.bucket));
}

void Writer::prefetch_record(const Home& home) const {
  if (const Word* slot = Candidates(Index(view_.index(), geometry_), home).first())
    table::prefetch_record(view_, medium::load_relaxed(slot), 1);
}

// ---- writing

void Writer::fill(const OwnBlock& block, const Home& home, std::string_view key, std::string_view value,
                  std::uint64_t version) {
  if (view_.sealer() == nullptr) [[likely]]
    fill_record(block.record, key, value, version);
  else
    fill_sealed_record(*view_.sealer(), block.record, key, home.hash, value, version,
                       view_.sealer()->signatures() == nullptr ? nullptr : &proof_);
}

bool Writer::prepare(OwnBlock& block, const Home& home, std::string_view key, std::string_view value,
                     const Presigned* presigned, std::uint64_t& version) {
  if (counter_ == 0xffff'ffff && !renew_counter()) return false;
  version = std::uint64_t{view_.writer()} << 32 | ++counter_;
  std::uint64_t bytes;
  if (view_.sealer() == nullptr) [[likely]] {
    bytes = record_bytes(key.size(), value.size());
  } else {
    bytes = sealed_record_bytes(key.size(), value.size());
    if (view_.sealer()->signatures() != nullptr) [[unlikely]] {
      if (!prove(key, value, presigned, version)) return false;
      bytes += proof_bytes(proof_.path.length);
    }
  }
  if (heap_.limbo() >= limbo_batch && keep_failure(collect())) return false;
  if (!heap_.allocate(bytes, block)) {
    auto found = allocate_after_reclaim(bytes);
    if (found) block = *found;
    if (keep_failure(std::move(found))) return false;
  }
  fill(block, home, key, value, version);
  view_.step(pool::Step::record_written);
  return true;
}

Writer::Outcome Writer::replace(const Hit& hit, Word desired) {
  view_.step(pool::Step::before_publish);
  if (shared_) {
    if (!medium::cas(hit.slot, hit.seen, desired)) return Outcome::again;
  } else {
    store_release(hit.slot, desired);
  }
  view_.step(pool::Step::published);
  return Outcome::done;
}

bool Writer::write(Write& write, const Presigned* presigned) {
  const Home home = home_in(view_, write.key, geometry_);
  // A writer that is to leave its segments must not announce on a desk there, which the search does; of a
  // forked child's memory nothing may be touched at all.
  if (!take_desk()) return false;
  const Op op = write.op;
  // A sealed record is opened only where it matters to whom it tells what: any other write of the key
  // replaces also one that does not open.
  const Wanted wanted{write.key, home, op == Op::put_if_version};
  OwnBlock block;
  write.version = 0;
  for (unsigned attempt = 0;; ++attempt) {
    if (attempt > 0) [[unlikely]] {
      if (attempt == attempts_max) {
        failure_ = contended().error();
        break;
      }
      ++counters_.retries;
      for (unsigned i = 0; i < attempt * 16; ++i) pause();
    }
    Hit hit;
    if (!search(wanted, hit)) break;
    if (!view_.current()) [[unlikely]] {
      if (!begin_anew(block)) break;
      continue;
    }
    if (hit.slot != nullptr
            ? op == Op::insert || (op == Op::put_if_version && write.expected_version != hit.version)
            : op == Op::update || op == Op::erase ||
                  (op == Op::put_if_version && write.expected_version != 0)) [[unlikely]] {
      failure_ = fail(hit.slot == nullptr ? Code::not_found
                      : op == Op::insert  ? Code::exists
                                          : Code::version_mismatch)
                     .error();
      break;
    }
    if (op != Op::erase && block.record == nullptr) {
      std::uint64_t moved = counters_.records_moved;
      if (!prepare(block, home, write.key, write.value, presigned, write.version)) {
        // Refused perhaps because the broker did not wait for this session any more.
        if (view_.current() || failure_.code != Code::contended || !begin_anew(block)) break;
        continue;
      }
      // Allocation may have moved records to reclaim space, this one among them, and has used the desk for
      // it.
      if (counters_.records_moved != moved ||
          (shared_ && hit.slot != nullptr && announced_now_ != place_of(hit.seen)))
        continue;
    }
    Word final_value =
        op == Op::erase ? 0 : make_slot(home.tag, segment_of(block.place), offset_of(block.place));
    Outcome outcome = hit.slot != nullptr ? replace(hit, final_value) : insert(home, final_value, write.key);
    if (outcome == Outcome::failed) break;
    if (outcome == Outcome::again) continue;
    withdraw_announcement();
    if (!view_.current()) [[unlikely]] {
      if (!stands(hit.seen)) return false;
    } else if (hit.slot != nullptr) {
      unlinked(hit.seen);
    }
    if (pool::Sealer* sealer = view_.sealer())
      sealer->remember(home.hash, op == Op::erase ? hit.version + 1 : write.version);
    return true;
  }
  // Nothing changed: the block goes back, and nobody is held up by our desk.
  if (block.record != nullptr) heap_.cancel(block);
  withdraw_announcement();
  return false;
}

// In the middle of a write, before it is published: the view is brought up to date, and what was prepared in
// a segment that was left meanwhile is forgotten.
bool Writer::begin_anew(OwnBlock& block) {
  if (keep_failure(refresh())) return false;
  if (!heap_.owns(block.place)) block = {};
  // Nothing is sealed under an old key once a new one was heard of.
  if (block.record != nullptr && view_.sealer() != nullptr) {
    heap_.cancel(block);
    block = {};
  }
  return take_desk();
}

// Published, and the view was not current afterwards. If the grant ended meanwhile the caller hears that;
// whether others saw the write is open then.
bool Writer::stands(Word replaced) {
  if (replaced != 0) unsettled_.push_back(replaced);
  if (keep_failure(view_.attend())) return false;
  if (!late_) return true;
  failure_ = fail(Code::timed_out, By::broker,
                  "the process was stopped in the middle of a write for longer than the others wait, and "
                  "they went on "
                  "without it; whether the write happened is open",
                  "read the key and write again if it is not there")
                 .error();
  return false;
}

Writer::Outcome Writer::insert(const Home& home, Word slot_value, std::string_view key) {
  const Index index(view_.index(), geometry_);
  Candidates walk(index, {home.bucket, 0});
  Word* empty = walk.slot();
  // A forged slot may look empty and not be.
  while (empty != nullptr && load_acquire(empty) != 0) {
    walk.next();
    empty = walk.slot();
  }
  if (empty == nullptr)
    return keep_failure(index.extend(home.bucket, view_)) ? Outcome::failed : Outcome::again;
  if (!shared_) {
    view_.step(pool::Step::before_publish);
    store_release(empty, slot_value);
    view_.step(pool::Step::published);
    return Outcome::done;
  }
  Word tentative_value = slot_value | BAILEY_SLOT_TENTATIVE;
  if (!medium::cas(empty, 0, tentative_value)) return Outcome::again;
  view_.step(pool::Step::tentative_placed);
  Outcome settled = settle(home, empty, walk.position(), tentative_value, key);
  if (settled != Outcome::done) {
    medium::cas(empty, tentative_value, 0);  // it may be cleared already
    return settled;
  }
  view_.step(pool::Step::before_publish);
  if (!medium::cas(empty, tentative_value, slot_value)) return Outcome::again;
  view_.step(pool::Step::published);
  return Outcome::done;
}

// Looks through the chain after the own tentative slot stands in it. done: nobody else has the key or
// precedence.
Writer::Outcome Writer::settle(const Home& home, Word* own_slot, unsigned own_position, Word tentative_value,
                               std::string_view key) {
  Index index(view_.index(), geometry_);
  unsigned attempts = 0;
  Walk walk(index, home.bucket);
  while (Word* slot = walk.slot()) {
    Word seen = load_acquire(slot);
    if (slot == own_slot || seen == 0 || tag_of(seen) != home.tag) {
      walk.next();
      continue;
    }
    if (tentative(seen)) {
      if (walk.position() < own_position) {
        medium::cas(own_slot, tentative_value, 0);
        for (unsigned i = 0; i < precedence_loads && load_acquire(slot) == seen; ++i) pause();
        medium::cas(slot, seen, 0);
        return Outcome::again;
      }
      medium::cas(slot, seen, 0);
      ++attempts;  // look at the slot again: it may have become final meanwhile
    } else {
      announce(seen);
      std::uint64_t version;
      const Wanted wanted{key, home, false};
      Seen what = load_acquire(slot) == seen ? examine(slot, seen, wanted, version) : Seen::changed;
      switch (what) {
        case Seen::match:
          return Outcome::again;
        case Seen::failed:
          return Outcome::failed;
        case Seen::unheard:  // of none that is not opened
        case Seen::changed:
          ++attempts;
          break;
        case Seen::forged:
          ++counters_.forged_entries;
          [[fallthrough]];
        case Seen::other_key:
          walk.next();
          break;
      }
    }
    if (attempts > attempts_max) {
      failure_ = contended().error();
      return Outcome::failed;
    }
  }
  if (!walk.corrupt()) return Outcome::done;
  failure_ = corrupt_index().error();
  return Outcome::failed;
}

// ---- space

// Brings the view up to date and sees to it that there is a desk.
bool Writer::take_desk() {
  for (unsigned attempt = 0; attempt < room_waits; ++attempt) {
    if (!view_.current() && keep_failure(refresh())) return false;
    if (heap_.desk() != nullptr || !keep_failure(open_desk())) return true;
    // What others gave back was to be attended to first.
    if (view_.current() || failure_.code != Code::contended) return false;
  }
  return false;
}

// Takes a segment. Room may be about to come back, when others have dropped what was given back: then it
// waits, but not where it has to attend itself, since they may wait for that. Error: contended where it
// should attend, or nobody gave room in time; else those of Backing::create.
Status Writer::grow(std::uint64_t bytes) {
  for (unsigned waited = 0;; ++waited) {
    auto grown = heap_.grow(bytes);
    if (grown || grown.error().code != Code::contended) return grown;
    view_.rest(room_wait);
    if (waited == room_waits || !view_.current()) return grown;
  }
}

Status Writer::open_desk() {
  auto grown = heap_.grow(1);
  if (!grown && wants_room(grown.error())) {
    // Perhaps the dead hold it all, and some of their segments are garbage from end to end.
    BAILEY_TRY(evacuate_sparse(~0u, true));
    grown = grow(1);
  }
  if (!grown) return grown;
  ++counters_.segments_created;
  return evacuate_sparse(segments_emptied_per_new, false);
}

// For moves: from what is free, without reclaiming.
Result<OwnBlock> Writer::allocate(std::uint64_t bytes) {
  OwnBlock block;
  if (heap_.allocate(bytes, block)) return block;
  return fail(Code::quota);
}

Result<OwnBlock> Writer::allocate_after_reclaim(std::uint64_t bytes) {
  OwnBlock block;
  BAILEY_TRY(reclaim(false));
  if (heap_.allocate(bytes, block)) return block;
  auto grown = heap_.grow(bytes);
  if (grown) {
    ++counters_.segments_created;
    // The block first: what is moved could fill the segment.
    if (!heap_.allocate(bytes, block))
      return fail(Code::corrupt, By::broker,
                  "a new segment has no room for the record that it was asked for");
    if (auto evacuated = evacuate_sparse(segments_emptied_per_new, false); !evacuated) {
      heap_.cancel(block);
      return std::unexpected(std::move(evacuated).error());
    }
    return block;
  }
  if (!wants_room(grown.error())) return std::unexpected(std::move(grown).error());
  BAILEY_TRY(reclaim(true));
  for (unsigned round = 0; round < compactions_most; ++round) {
    if (heap_.allocate(bytes, block)) return block;
    if (!BAILEY_TRY(compact_own(bytes))) break;
  }
  // Evacuation may have made room for the segment that was refused.
  BAILEY_TRY(grow(bytes));
  ++counters_.segments_created;
  if (heap_.allocate(bytes, block)) return block;
  return fail(Code::corrupt, By::broker, "a new segment has no room for the record that it was asked for");
}

// Looks for free blocks in one's own segments. `pressed`: all that can be done, however long it takes.
Status Writer::reclaim(bool pressed) {
  if (shared_) {
    BAILEY_TRY(collect());
    BAILEY_TRY(read_hints());
    // A sweep costs a look at every record that one owns: worth it when that doubled since the last one.
    if (pressed || heap_.bytes_live() > 2 * bytes_at_last_sweep_ + BAILEY_PAGE_BYTES) sweep();
    BAILEY_TRY(collect());
  }
  heap_.trim();
  return pressed ? evacuate_sparse(~0u, true) : Status{};
}

// Frees what waits in limbo and nobody announces.
Status Writer::collect() {
  if (heap_.limbo() == 0) return {};
  auto places = BAILEY_TRY(announced());
  heap_.drain(places);
  return {};
}

Status Writer::refresh_members() {
  std::uint64_t membership = view_.membership();
  if (membership == membership_) return {};
  auto desks = BAILEY_TRY(view_.desks());
  auto frozen = BAILEY_TRY(view_.frozen());
  std::vector<Peer> peers;
  for (const pool::Desk& desk : desks) {
    auto extent = view_.find(desk.segment);
    if (!extent) {
      if (extent.error().code == Code::not_found) continue;  // it died meanwhile; membership will say so
      return std::unexpected(std::move(extent).error());
    }
    Peer peer;
    peer.desk = desk;
    peer.at = reinterpret_cast<const bailey_desk*>((*extent)->base + BAILEY_SEGMENT_DESK_OFFSET);
    for (const Peer& known : peers_)
      if (known.desk.writer == desk.writer && known.desk.segment == desk.segment)
        peer.hints_read = known.hints_read;
    peers.push_back(peer);
  }
  peers_ = std::move(peers);
  frozen_ = std::move(frozen);
  membership_ = membership;
  return {};
}

// All places that live peers announce, sorted. Sequentially after whatever the caller unlinked before.
Result<std::vector<Word>> Writer::announced() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  BAILEY_TRY(refresh_members());
  std::vector<Word> places;
  for (const Peer& peer : peers_)
    for (const Word& word : peer.at->announced)
      if (Word place = load_acquire(&word); place != 0) places.push_back(place_of(place));
  std::sort(places.begin(), places.end());
  return places;
}

// Peers say which of our records they replaced. A hint is foreign: it is only a reason to look.
Status Writer::read_hints() {
  BAILEY_TRY(refresh_members());
  for (Peer& peer : peers_) {
    Word head = load_acquire(&peer.at->hints_head);
    if (head - peer.hints_read > BAILEY_HINTS)
      peer.hints_read = head - BAILEY_HINTS;  // the sweep finds what was lost
    for (; peer.hints_read != head; ++peer.hints_read) {
      Word place = place_of(load_acquire(&peer.at->hints[peer.hints_read % BAILEY_HINTS]));
      if (!heap_.owns(place)) continue;
      if (busy(medium::load_relaxed(reinterpret_cast<Word*>(heap_.at(place).record)))) continue;
      if (!BAILEY_TRY(referenced(place)) && view_.current()) (void)heap_.release(place);
    }
  }
  return {};
}

// Whether a slot of the index leads to one's own complete record.
Result<bool> Writer::referenced(Word place) {
  OwnBlock own = heap_.at(place);
  auto found = BAILEY_TRY(referrer(own.record, own.bytes, place));
  return found.slot != nullptr;
}

// The truth about garbage: which of one's own records no slot leads to.
void Writer::sweep() {
  ++counters_.sweeps;
  heap_.for_each_complete([this](Word place) {
    auto live = referenced(place);
    if (live && !*live && view_.current()) (void)heap_.release(place);
  });
  bytes_at_last_sweep_ = heap_.bytes_live();
}

// Moves one's own records together to empty a page, or neighbouring pages for a record that needs several.
// False: there is nothing that could be emptied.
Result<bool> Writer::compact_own(std::uint64_t bytes) {
  bool one_page = class_of(bytes) != BAILEY_CLASS_RUN || bytes <= BAILEY_PAGE_BYTES;
  auto pages = static_cast<std::uint32_t>((bytes + BAILEY_PAGE_BYTES - 1) / BAILEY_PAGE_BYTES);
  auto chosen = heap_.sparsest_pages(one_page ? 1 : pages);
  if (!chosen) return false;
  bool moved_all = true;
  for (Word place : *chosen) {
    OwnBlock own = heap_.at(place);
    Block from;
    from.record = own.record;
    from.bytes = own.bytes;
    moved_all = move_record(from, place).has_value();
    if (!moved_all) break;
  }
  if (shared_) BAILEY_TRY(collect());
  heap_.trim();
  return moved_all;
}

Result<std::size_t> Writer::maintain() {
  if (!view_.current()) BAILEY_TRY(refresh());
  std::uint64_t before = counters_.segments_retired;
  if (shared_) {
    BAILEY_TRY(collect());
    BAILEY_TRY(read_hints());
    if (heap_.segments() > 0) sweep();
    BAILEY_TRY(collect());
  }
  BAILEY_TRY(evacuate_sparse(~0u, false));
  heap_.trim();
  for (pool::SegmentId id : heap_.empty_segments()) {
    BAILEY_TRY(view_.retire(id));
    heap_.forget(id);
    ++counters_.segments_retired;
  }
  return counters_.segments_retired - before;
}

}  // namespace bailey::table
