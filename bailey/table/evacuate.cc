// Moving records: out of segments whose writer is gone, and together within one's own.
//
// A moved record keeps its version: it is the same record at another place. The slot is replaced by CAS like
// in any update, so whoever replaces or deletes the record meanwhile wins, and the move finds nothing left to
// do.
#include <algorithm>
#include <string>

#include "bailey/table/writer.h"

namespace bailey::table {

using medium::load_acquire;
using medium::load_relaxed;
using medium::store_release;

// The slot that leads to a complete record at `place`, final or tentative; null where none does.
Result<Writer::Referrer> Writer::referrer(const std::byte* record, std::uint64_t block_bytes, Word place) {
  const auto* words = reinterpret_cast<const Word*>(record);
  Home home;
  if (view_.sealer() != nullptr) {
    if (!check_sealed_lengths(view_.sealer(), load_relaxed(words + 1), block_bytes)) return Referrer{};
    home = home_of(crypto::KeyHash{load_relaxed(words + 2), load_relaxed(words + 3)}, geometry_);
  } else {
    auto lengths = check_lengths(load_relaxed(words + 1), block_bytes);
    if (!lengths) return Referrer{};  // not a record: what can't be read can't be referred to
    std::string key(lengths->key, '\0');
    medium::copy_out(key.data(), record + BAILEY_RECORD_HEADER_BYTES, lengths->key);
    home = home_of(key, geometry_);
  }
  Index index(view_.index(), geometry_);
  Walk walk(index, home.bucket);
  for (Word* slot; (slot = walk.slot()) != nullptr; walk.next()) {
    Word value = load_acquire(slot);
    if (value != 0 && place_of(value) == place) return Referrer{slot, value};
  }
  if (walk.corrupt())
    return fail(Code::corrupt, By::peer, "corrupt index: a chain is a circle or leads out of the index");
  return Referrer{};
}

namespace {

// Bytes of the proof behind a record of a signed region, for a copy of it: what is none is moved as one
// without a path, so that who reads it is told.
std::uint64_t proof_to_move(const pool::Sealer* sealer, const Block& from, const Lengths& lengths) {
  if (proof_bytes_least(sealer) == 0) return 0;
  const std::uint64_t before = sealed_record_bytes(lengths.key, lengths.value);
  pool::Proof proof;
  return proof_bytes(load_proof(from.record + before, from.bytes - before, proof) ? proof.path.length : 0);
}

// Bytes of a record behind its two words.
std::uint64_t body_bytes(const Lengths& lengths, bool sealed) {
  return (sealed ? sealed_record_bytes(lengths.key, lengths.value)
                 : record_bytes(lengths.key, lengths.value)) -
         BAILEY_RECORD_HEADER_BYTES;
}

void copy_record(const std::byte* from, Word word, Word lengths, std::byte* to, std::uint64_t bytes) {
  auto* to_words = reinterpret_cast<Word*>(to);
  std::atomic_thread_fence(std::memory_order_release);
  medium::store_relaxed(to_words + 1, lengths);
  for (std::uint64_t i = 0; i < bytes / 8; ++i)
    medium::store_relaxed(to_words + 2 + i, load_relaxed(reinterpret_cast<const Word*>(from) + 2 + i));
  store_release(to_words, word);
}

}  // namespace

// Moves one record into a block of one's own, if a slot still leads to it. Error: quota where there is no
// block.
Status Writer::move_record(const Block& from, Word place) {
  for (unsigned attempt = 0; attempt < attempts_max; ++attempt) {
    Word word = load_acquire(from.word());
    if (busy(word)) return {};
    Referrer from_slot = BAILEY_TRY(referrer(from.record, from.bytes, place));
    if (from_slot.slot == nullptr) return {};
    if (tentative(from_slot.value)) {
      // Its inserter died before it was final, or is another writer's business: either way it never was.
      medium::cas(from_slot.slot, from_slot.value, 0);
      continue;
    }
    const Word raw = load_relaxed(from.lengths());
    const bool sealed = view_.sealer() != nullptr;
    auto lengths =
        sealed ? check_sealed_lengths(view_.sealer(), raw, from.bytes) : check_lengths(raw, from.bytes);
    if (!lengths) return {};
    const std::uint64_t proof = proof_to_move(view_.sealer(), from, *lengths);
    OwnBlock to = BAILEY_TRY(allocate(record_bytes_in(view_, lengths->key, lengths->value) + proof));
    // A sealed record moves as it is, under the key that it has, and with its proof. Sealed anew under a
    // newer one its version would be that key's nonce a second time, where its writer made two records of one
    // version.
    copy_record(from.record, word, sealed ? raw : make_lengths(lengths->key, lengths->value), to.record,
                body_bytes(*lengths, sealed) + proof);
    Word desired = make_slot(tag_of(from_slot.value), segment_of(to.place), offset_of(to.place));
    bool replaced = false;
    if (shared_) {
      announce(from_slot.value);
      replaced = load_acquire(from_slot.slot) == from_slot.value && load_acquire(from.word()) == word &&
                 medium::cas(from_slot.slot, from_slot.value, desired);
      withdraw_announcement();
    } else {
      store_release(from_slot.slot, desired);
      replaced = true;
    }
    if (!replaced) {
      heap_.cancel(to);
      ++counters_.retries;
      continue;
    }
    ++counters_.records_moved;
    if (!view_.current()) [[unlikely]] {
      unsettled_.push_back(place);
      return fail(Code::contended);
    }
    (void)heap_.release(place);
    return {};
  }
  return fail(Code::contended);
}

namespace {

// Calls visit(block, place) for each complete record of a segment whose writer is gone, until it returns an
// error.
template <class Visit>
Status for_each_record(const pool::Extent& extent, pool::SegmentId id, Visit&& visit) {
  for (std::uint32_t page = 0; page < extent.pages; ++page) {
    Word word = load_acquire(page_words(extent) + page);
    unsigned cls = page_class(word);
    std::uint64_t start = extent.data_offset + (std::uint64_t{page} << BAILEY_PAGE_SHIFT);
    std::uint32_t count = cls == BAILEY_CLASS_RUN         ? 1
                          : cls == 0 || cls > class_count ? 0
                                                          : blocks_in_page(cls);
    std::uint64_t step = count > 1 ? class_bytes[cls] : 0;
    for (std::uint32_t i = 0; i < count; ++i) {
      Word place = make_slot(0, id, start + i * step);
      Block block;
      if (locate(extent, place, block) != Place::ok || busy(load_acquire(block.word()))) continue;
      BAILEY_TRY(visit(block, place));
    }
  }
  return {};
}

}  // namespace

Result<std::uint64_t> Writer::live_bytes(pool::SegmentId id) {
  auto extent = view_.find(id);
  if (!extent) return std::unexpected(std::move(extent).error());
  std::uint64_t live = 0;
  BAILEY_TRY(for_each_record(**extent, id, [&](const Block& block, Word place) -> Status {
    Referrer from = BAILEY_TRY(referrer(block.record, block.bytes, place));
    if (from.slot != nullptr) live += block.bytes;
    return {};
  }));
  return live;
}

// Empties a segment of a writer that is gone and gives it back. What was moved stays moved, also where not
// all could be.
Result<Writer::Emptied> Writer::evacuate(pool::SegmentId id) {
  auto extent = view_.find(id);
  if (!extent) return std::unexpected(std::move(extent).error());
  pool::Extent from = **extent;
  // Only now, with the segment mapped, does "frozen" say something about this use of its number: before, it
  // could have been given back and taken by a writer that lives.
  BAILEY_TRY(refresh_members());
  if (std::find(frozen_.begin(), frozen_.end(), id) == frozen_.end()) return Emptied::not_now;
  auto moved =
      for_each_record(from, id, [&](const Block& block, Word place) { return move_record(block, place); });
  if (!moved) {
    if (moved.error().code == Code::quota) return Emptied::no_room;
    if (moved.error().code == Code::contended) return Emptied::not_now;
    return std::unexpected(std::move(moved).error());
  }
  for (Word place : BAILEY_TRY(announced()))
    if (segment_of(place) == id) return Emptied::not_now;
  auto retired = view_.retire(id);
  if (!retired && retired.error().code != Code::not_found) return std::unexpected(std::move(retired).error());
  ++counters_.segments_retired;
  return Emptied::yes;
}

// Empties frozen segments of which at most half is live; where `pressed`, any; the emptiest first. Looks at
// `segments_most` of them at most.
Status Writer::evacuate_sparse(unsigned segments_most, bool pressed) {
  BAILEY_TRY(refresh_members());
  struct Candidate {
    pool::SegmentId id;
    std::uint64_t live;
  };
  std::vector<Candidate> candidates;
  std::size_t looks = std::min<std::size_t>(segments_most, frozen_.size());
  for (std::size_t i = 0; i < looks; ++i) {
    pool::SegmentId id = frozen_[frozen_next_++ % frozen_.size()];
    auto live = live_bytes(id);
    if (!live && live.error().code == Code::not_found) continue;  // somebody else gave it back
    if (!live) return std::unexpected(std::move(live).error());
    std::uint64_t data = std::uint64_t{view_.extent(id).pages} * BAILEY_PAGE_BYTES;
    if (pressed || *live <= data / 2) candidates.push_back({id, *live});
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.live < b.live; });
  // Whoever has no segment yet takes one first, to have where to move to: for nothing, where it does not give
  // more than that back. A janitor would move the same records every time that it comes.
  if (!pressed && heap_.segments() == 0 && !candidates.empty()) {
    std::uint64_t live = 0, data = 0;
    for (const Candidate& candidate : candidates) {
      live += candidate.live;
      data = std::max(data, std::uint64_t{view_.extent(candidate.id).pages} * BAILEY_PAGE_BYTES);
    }
    if ((live + data - 1) / data >= candidates.size()) return {};
    if (live > 0) {
      BAILEY_TRY(grow(1));
      ++counters_.segments_created;
    }
  }
  for (const Candidate& candidate : candidates) {
    auto emptied = evacuate(candidate.id);
    if (!emptied && emptied.error().code != Code::not_found)
      return std::unexpected(std::move(emptied).error());
    if (pressed && emptied && *emptied == Emptied::no_room) break;
  }
  return {};
}

}  // namespace bailey::table
