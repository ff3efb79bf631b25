#include "bailey/table/writer.h"

#include <fmt/format.h>

#include <algorithm>

namespace bailey::table {

using medium::load_acquire;
using medium::store_release;

namespace {

// How long an inserter waits for a tentative slot that has precedence, in loads, before it clears it. Around
// 50 us: far more than a running inserter needs, and nothing against a scheduler's time slice.
constexpr unsigned precedence_loads = 2000;
// Blocks in limbo before desks are read: the cost of a read is shared by this many.
constexpr std::size_t limbo_batch = 64;
// Dead writers' segments are emptied at the pace at which new ones are taken: this many are looked at for
// each.
constexpr unsigned segments_emptied_per_new = 4;
// Pages emptied by moving one's own records before an allocation gives up.
constexpr unsigned compactions_most = 64;

void pause() { __builtin_ia32_pause(); }

std::unexpected<Error> contended() {
  return fail(Code::contended, By::peer,
              fmt::format("gave up after {} attempts against other writers", attempts_max), "try again");
}

}  // namespace

Writer::Writer(pool::View& view, const Geometry& geometry, Counters& counters)
    : view_(view),
      geometry_(geometry),
      counters_(counters),
      shared_(geometry.mode == Mode::shared),
      heap_(view, shared_) {}

// ---- versions and announcements
// -------------------------------------------------------------------------------

Result<std::uint64_t> Writer::next_version() {
  if (counter_ == 0xffff'ffff) {
    BAILEY_TRY(view_.renew_writer_id());
    counter_ = 0;
  }
  ++counter_;
  return std::uint64_t{view_.writer()} << 32 | counter_;
}

void Writer::announce(Word slot) {
  announced_now_ = place_of(slot);
  medium::store_then_fence(&heap_.desk()->announced[0], announced_now_);
}

void Writer::withdraw_announcement() {
  if (announced_now_ == 0) return;
  announced_now_ = 0;
  store_release(&heap_.desk()->announced[0], 0);
}

// The slot led to this record and no longer does: whose garbage is it?
void Writer::unlinked(Word slot) {
  if (heap_.owns(slot)) {
    heap_.release(slot);
  } else if (shared_) {
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

// ---- searching
// ------------------------------------------------------------------------------------------------

// What a slot's record is to `key`; never copies its value.
Result<Seen> Writer::examine(Word* slot, Word seen, std::string_view key, std::uint64_t* version) {
  auto extent = view_.find(segment_of(seen));
  if (!extent) {
    if (extent.error().code != Code::not_found) return std::unexpected(std::move(extent).error());
    return load_acquire(slot) == seen ? Seen::forged : Seen::changed;
  }
  Block block;
  switch (locate(**extent, seen, block)) {
    case Place::stale:
      return Seen::changed;
    case Place::forged:
      return load_acquire(slot) == seen ? Seen::forged : Seen::changed;
    case Place::ok:
      break;
  }
  ReadRecord read;
  Seen outcome = read_record(view_, slot, seen, block, key, read, [](std::size_t) { return nullptr; });
  if (version != nullptr) *version = version_of(read.word);
  return outcome;
}

Result<Writer::Search> Writer::search(const Home& home, std::string_view key) {
  Index index(view_.index(), geometry_);
  Search found;
  unsigned attempts = 0;
  Walk walk(index, home.bucket);
  while (Word* slot = walk.slot()) {
    Word seen = load_acquire(slot);
    if (seen == 0 && found.empty == nullptr) {
      found.empty = slot;
      found.empty_position = walk.position();
    }
    if (seen >> BAILEY_SLOT_TAG_SHIFT != home.tag) {  // also says no to a tentative one
      walk.next();
      continue;
    }
    view_.step(pool::Step::slot_loaded);
    if (shared_) {
      announce(seen);
      if (load_acquire(slot) != seen) {
        ++counters_.retries;
        if (++attempts > attempts_max) return contended();
        continue;
      }
    }
    std::uint64_t version = 0;
    switch (BAILEY_TRY(examine(slot, seen, key, &version))) {
      case Seen::match:
        found.hit = {slot, seen, version};
        return found;
      case Seen::other_key:
        walk.next();
        break;
      case Seen::forged:
        ++counters_.forged_entries;
        walk.next();
        break;
      case Seen::changed:
        ++counters_.retries;
        if (++attempts > attempts_max) return contended();
        break;
    }
  }
  if (walk.corrupt())
    return fail(Code::corrupt, By::peer, "corrupt index: a chain is a circle or leads out of the index",
                "bailey region check tells what is readable");
  return found;
}

void Writer::prefetch_bucket(const Home& home) const {
  medium::prefetch_to_write(Index(view_.index(), geometry_).primary(home.bucket));
}

void Writer::prefetch_record(const Home& home) const {
  bailey_bucket* bucket = Index(view_.index(), geometry_).primary(home.bucket);
  for (Word& slot : bucket->slots) {
    Word seen = medium::load_relaxed(&slot);
    if (seen >> BAILEY_SLOT_TAG_SHIFT != home.tag) continue;
    const pool::Extent& extent = view_.extent(segment_of(seen));
    if (extent.base != nullptr && offset_of(seen) < extent.bytes())
      medium::prefetch(extent.base + offset_of(seen));
    return;
  }
}

// ---- writing
// --------------------------------------------------------------------------------------------------

// Fills a block; complete, but no slot leads to it yet.
Status Writer::prepare(OwnBlock& block, std::string_view key, std::string_view value,
                       std::uint64_t& version) {
  if (block.record != nullptr) return {};
  std::uint64_t bytes = record_bytes(key.size(), value.size());
  version = BAILEY_TRY(next_version());
  block = BAILEY_TRY(allocate(bytes));
  auto* words = reinterpret_cast<Word*>(block.record);
  // The word is busy since the block was freed; what follows must not be seen before that.
  std::atomic_thread_fence(std::memory_order_release);
  medium::store_relaxed(words + 1, make_lengths(key.size(), value.size()));
  std::byte* key_at = block.record + BAILEY_RECORD_HEADER_BYTES;
  medium::copy_in(key_at, key.data(), key.size());
  medium::copy_in(key_at + medium::padded(key.size()), value.data(), value.size());
  store_release(words, record_word(version));
  view_.step(pool::Step::record_written);
  return {};
}

Result<std::uint64_t> Writer::write(Op op, std::string_view key, std::string_view value,
                                    std::uint64_t expected_version) {
  if (!view_.current()) BAILEY_TRY(refresh());
  BAILEY_TRY(open_desk());
  Home home = home_of(key, geometry_);
  if (op != Op::erase) heap_.prefetch(record_bytes(key.size(), value.size()));
  OwnBlock block;
  std::uint64_t version = 0;
  // The outcome of an operation that changes nothing; the block goes back and nobody is held up by our desk.
  auto settle_without = [&](Code code) -> Result<std::uint64_t> {
    if (block.record != nullptr) heap_.cancel(block);
    withdraw_announcement();
    return fail(code);
  };
  auto give_up = [&](Error error) -> Result<std::uint64_t> {
    if (block.record != nullptr) heap_.cancel(block);
    withdraw_announcement();
    return std::unexpected(std::move(error));
  };
  for (unsigned attempt = 0; attempt < attempts_max; ++attempt) {
    if (attempt > 0) {
      ++counters_.retries;
      for (unsigned i = 0; i < attempt * 16; ++i) pause();
    }
    auto searched = search(home, key);
    if (!searched) return give_up(std::move(searched).error());
    const Hit hit = searched->hit;
    bool writes = false;
    Code refusal{};
    if (hit.slot != nullptr) {
      writes = op == Op::put || op == Op::update || op == Op::erase ||
               (op == Op::put_if_version && expected_version == hit.version);
      refusal = op == Op::insert ? Code::exists : Code::version_mismatch;
    } else {
      writes = op == Op::put || op == Op::insert || (op == Op::put_if_version && expected_version == 0);
      refusal = Code::not_found;
    }
    if (!view_.current()) {
      if (auto fresh = refresh(); !fresh) return give_up(std::move(fresh).error());
      continue;
    }
    if (!writes) return settle_without(refusal);
    if (op != Op::erase) {
      std::uint64_t moved = counters_.records_moved;
      if (auto prepared = prepare(block, key, value, version); !prepared)
        return give_up(std::move(prepared).error());
      // Allocation may have moved records to reclaim space, this one among them, and has used the desk for
      // it.
      if (counters_.records_moved != moved) continue;
    }
    Word final_value =
        op == Op::erase ? 0 : make_slot(home.tag, segment_of(block.place), offset_of(block.place));
    auto outcome =
        hit.slot != nullptr ? replace(hit, final_value) : insert(home, *searched, final_value, key);
    if (!outcome) return give_up(std::move(outcome).error());
    if (*outcome == Outcome::again) continue;
    withdraw_announcement();
    // Published. If the grant ended meanwhile the caller hears that; whether others saw the write is open
    // then.
    if (!view_.current()) BAILEY_TRY(view_.attend());
    return version;
  }
  return give_up(contended().error());
}

Result<Writer::Outcome> Writer::replace(const Hit& hit, Word desired) {
  view_.step(pool::Step::before_publish);
  if (shared_) {
    if (!medium::cas(hit.slot, hit.seen, desired)) return Outcome::again;
  } else {
    store_release(hit.slot, desired);
  }
  view_.step(pool::Step::published);
  unlinked(hit.seen);
  return Outcome::done;
}

Result<Writer::Outcome> Writer::insert(const Home& home, Search& search, Word slot_value,
                                       std::string_view key) {
  if (search.empty == nullptr) {
    Index index(view_.index(), geometry_);
    BAILEY_TRY(index.extend(home.bucket, view_));
    return Outcome::again;
  }
  if (!shared_) {
    view_.step(pool::Step::before_publish);
    store_release(search.empty, slot_value);
    view_.step(pool::Step::published);
    return Outcome::done;
  }
  Word tentative_value = slot_value | BAILEY_SLOT_TENTATIVE;
  if (!medium::cas(search.empty, 0, tentative_value)) return Outcome::again;
  view_.step(pool::Step::tentative_placed);
  auto settled = settle(home, search.empty, search.empty_position, tentative_value, key);
  if (!settled || *settled == Outcome::again) {
    medium::cas(search.empty, tentative_value, 0);  // it may be cleared already
    return settled;
  }
  view_.step(pool::Step::before_publish);
  if (!medium::cas(search.empty, tentative_value, slot_value)) return Outcome::again;
  view_.step(pool::Step::published);
  return Outcome::done;
}

// Looks through the chain after the own tentative slot stands in it. done: nobody else has the key or
// precedence.
Result<Writer::Outcome> Writer::settle(const Home& home, Word* own_slot, unsigned own_position,
                                       Word tentative_value, std::string_view key) {
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
      if (load_acquire(slot) == seen) {
        switch (BAILEY_TRY(examine(slot, seen, key, nullptr))) {
          case Seen::match:
            return Outcome::again;
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
      } else {
        ++attempts;
      }
    }
    if (attempts > attempts_max) return contended();
  }
  if (walk.corrupt())
    return fail(Code::corrupt, By::peer, "corrupt index: a chain is a circle or leads out of the index");
  return Outcome::done;
}

// ---- space
// ----------------------------------------------------------------------------------------------------

Status Writer::open_desk() {
  if (heap_.desk() != nullptr) return {};
  auto grown = heap_.grow(1);
  if (!grown) return grown;
  ++counters_.segments_created;
  return evacuate_sparse(segments_emptied_per_new, false);
}

Result<OwnBlock> Writer::allocate(std::uint64_t bytes) {
  if (heap_.limbo() >= limbo_batch && !moving_) BAILEY_TRY(collect());
  if (auto block = heap_.allocate(bytes)) return *block;
  if (moving_) return fail(Code::quota);
  BAILEY_TRY(reclaim(false));
  if (auto block = heap_.allocate(bytes)) return *block;
  auto grown = heap_.grow(bytes);
  if (grown) {
    ++counters_.segments_created;
    BAILEY_TRY(evacuate_sparse(segments_emptied_per_new, false));
    if (auto block = heap_.allocate(bytes)) return *block;
  } else if (grown.error().code != Code::quota && grown.error().code != Code::no_space) {
    return std::unexpected(std::move(grown).error());
  }
  BAILEY_TRY(reclaim(true));
  for (unsigned round = 0; round < compactions_most; ++round) {
    if (auto block = heap_.allocate(bytes)) return *block;
    if (!BAILEY_TRY(compact_own(bytes))) break;
  }
  // Evacuation may have made room for the segment that was refused.
  if (!grown) grown = heap_.grow(bytes);
  if (grown) {
    if (auto block = heap_.allocate(bytes)) return *block;
    return fail(Code::quota, By::library, "no block was free after all space was reclaimed");
  }
  return std::unexpected(std::move(grown).error());
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
  std::uint64_t membership = view_.backing().membership();
  if (membership == membership_) return {};
  auto desks = BAILEY_TRY(view_.backing().desks());
  auto frozen = BAILEY_TRY(view_.backing().frozen());
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
      if (!BAILEY_TRY(referenced(place))) heap_.release(place);
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
    if (live && !*live) heap_.release(place);
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
  moving_ = true;
  bool moved_all = true;
  for (Word place : *chosen) {
    OwnBlock own = heap_.at(place);
    Block from;
    from.record = own.record;
    from.bytes = own.bytes;
    moved_all = move_record(from, place).has_value();
    if (!moved_all) break;
  }
  moving_ = false;
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
  BAILEY_TRY(evacuate_sparse(~0u, true));
  heap_.trim();
  for (pool::SegmentId id : heap_.empty_segments()) {
    BAILEY_TRY(view_.retire(id));
    heap_.forget(id);
    ++counters_.segments_retired;
  }
  return counters_.segments_retired - before;
}

}  // namespace bailey::table
