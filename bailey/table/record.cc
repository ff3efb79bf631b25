#include "bailey/table/record.h"

namespace bailey::table {

using medium::load_acquire;

Seen map_segment(pool::View& view, const Word* slot, Word slot_seen, Error& failure) {
  auto mapped = view.find(segment_of(slot_seen));
  if (mapped) return Seen::match;
  if (mapped.error().code == Code::not_found)
    return load_acquire(slot) == slot_seen ? Seen::forged : Seen::changed;
  failure = std::move(mapped).error();
  return Seen::failed;
}

}  // namespace bailey::table
