// What the record that a slot leads to is to a key: of a plain table (record.h) or an encrypted one
// (sealed.h).
#pragma once

#include "bailey/table/record.h"
#include "bailey/table/sealed.h"

namespace bailey::table {

// From the slot on. `failure` says why where it is Seen::failed. `sink(bytes)` is read_record()'s.
template <class Sink>
inline Seen examine(pool::View& view, const Word* slot, Word slot_seen, const Wanted& wanted,
                    ReadRecord& read, Sink&& sink, Error& failure) {
  const pool::Extent& extent = view.extent(segment_of(slot_seen));
  if (extent.base == nullptr) [[unlikely]]
    if (Seen mapped = map_segment(view, slot, slot_seen, failure); mapped != Seen::match) return mapped;
  Block block;
  Place place = locate(extent, slot_seen, block);
  if (place == Place::ok) [[likely]] {
    if (view.sealer() == nullptr) [[likely]]
      return read_record(view, slot, slot_seen, block, wanted.key, read, sink);
    return read_sealed_record(view, slot, slot_seen, block, wanted, read, sink, failure);
  }
  return place == Place::forged && medium::load_acquire(slot) == slot_seen ? Seen::forged : Seen::changed;
}

}  // namespace bailey::table
