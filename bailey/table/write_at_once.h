// The usual case of a write, inlined into each operation so that it is as short as the operation allows: a
// processor that has all of it and the start of the next one in its window waits for the memory of both at
// once.
//
// The key's record is the first candidate of its bucket (or, in exclusive mode, the bucket has a slot for a
// new one), and the heap has a block at hand. The same steps in the same order as in Writer::write, which
// does all else.
#pragma once

#include "bailey/table/sealed.h"
#include "bailey/table/writer.h"

namespace bailey::table {

// Blocks in limbo before desks are read: the cost of a read is shared by so many.
inline constexpr std::size_t limbo_batch = 64;

template <bool sealed>
[[gnu::always_inline]] inline Writer::Outcome Writer::write_at_once(Op op, std::string_view key,
                                                                    std::string_view value,
                                                                    std::uint64_t expected_version, Home home,
                                                                    std::uint64_t& version) {
  if (!view_.current() || heap_.desk() == nullptr || op == Op::erase) [[unlikely]]
    return Outcome::again;
  // The record whose version is compared has to be opened; what is to be signed takes far longer than all
  // else.
  if (sealed && (op == Op::put_if_version || view_.sealer()->signatures() != nullptr)) return Outcome::again;
  const Index index(view_.index(), geometry_);
  Word* slot = Candidates(index, home).first();
  Word seen = 0;
  unsigned cls = 0;
  if (slot != nullptr) {
    seen = medium::load_acquire(slot);
    if (seen >> BAILEY_SLOT_TAG_SHIFT != home.tag || op == Op::insert) [[unlikely]]
      return Outcome::again;
    view_.step(pool::Step::slot_loaded);
    if (shared_) {
      announce(seen);
      if (medium::load_acquire(slot) != seen) [[unlikely]]
        return Outcome::again;
    }
    Sighted record;
    if (!(sealed ? sight_sealed(view_, seen, key.size(), home.hash, record)
                 : sight(view_, seen, key, record))) [[unlikely]]
      return Outcome::again;
    view_.step(pool::Step::record_copied);
    if (!record.still(slot, seen) ||
        (op == Op::put_if_version && expected_version != version_of(record.word))) [[unlikely]]
      return Outcome::again;
    cls = record.cls;
  } else {
    // No candidate in the bucket and no other bucket behind it: the key is absent, and stays so while nobody
    // else writes.
    const bailey_bucket* bucket = index.primary(home.bucket);
    slot = Candidates(index, {home.bucket, 0}).first();
    if (shared_ || op == Op::update || (op == Op::put_if_version && expected_version != 0) ||
        medium::load_acquire(&bucket->link) != 0 || slot == nullptr || medium::load_acquire(slot) != 0)
        [[unlikely]]
      return Outcome::again;
  }
  if (!view_.current() || counter_ == 0xffff'ffff || heap_.limbo() >= limbo_batch) [[unlikely]]
    return Outcome::again;
  const OwnBlock block = heap_.allocate_at_once(sealed ? sealed_record_bytes(key.size(), value.size())
                                                       : record_bytes(key.size(), value.size()));
  if (block.record == nullptr) [[unlikely]]
    return Outcome::again;
  version = std::uint64_t{view_.writer()} << 32 | ++counter_;
  if constexpr (sealed)
    fill_sealed_record(*view_.sealer(), block.record, key, home.hash, value, version);
  else
    fill_record(block.record, key, value, version);
  view_.step(pool::Step::record_written);
  const Word desired = make_slot(home.tag, segment_of(block.place), offset_of(block.place));
  view_.step(pool::Step::before_publish);
  if (!shared_) {
    medium::store_release(slot, desired);
  } else if (!medium::cas(slot, seen, desired)) [[unlikely]] {
    heap_.cancel(block);
    return Outcome::again;
  }
  view_.step(pool::Step::published);
  withdraw_announcement();
  if (!view_.current()) [[unlikely]]
    return stands(seen) ? Outcome::done : Outcome::failed;
  if constexpr (sealed) view_.sealer()->remember(home.hash, version);
  if (seen != 0 && !heap_.release_at_once(seen, cls)) [[unlikely]]
    unlinked(seen);
  return Outcome::done;
}

}  // namespace bailey::table
