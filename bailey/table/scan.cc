// Scan: bucket by bucket, in the order of the index.
//
// Slots do not move while their record lives, so a record that is there throughout is met when its bucket is.
#include <fmt/format.h>

#include "bailey/pool/passage.h"
#include "bailey/table/examine.h"
#include "bailey/table/state.h"

namespace bailey::table {

using medium::load_acquire;

namespace {

// Reads the whole record that a slot leads to, of whatever key.
Seen read_item(pool::View& view, const Word* slot, Word seen, const Block& block, Item& item) {
  Word word = load_acquire(block.word());
  Word raw = medium::load_relaxed(block.lengths());
  if (busy(word)) return Seen::changed;
  auto lengths = check_lengths(raw, block.bytes);
  if (!lengths) return still(slot, seen, block, word) ? Seen::forged : Seen::changed;
  item.key.resize(lengths->key);
  item.value.resize(lengths->value);
  medium::copy_out(item.key.data(), block.key(), lengths->key);
  medium::copy_out(item.value.data(), block.value(lengths->key), lengths->value);
  item.version = version_of(word);
  view.step(pool::Step::record_copied);
  return still(slot, seen, block, word) ? Seen::match : Seen::changed;
}

// The same of a sealed record.
Seen read_sealed_item(pool::View& view, const Word* slot, Word seen, const Block& block, Item& item,
                      Error& failure) {
  Word word = load_acquire(block.word());
  Word raw = medium::load_relaxed(block.lengths());
  if (busy(word)) return Seen::changed;
  if (!check_sealed_lengths(view.sealer(), raw, block.bytes))
    return still(slot, seen, block, word) ? Seen::forged : Seen::changed;
  SealedCopy copy(*view.sealer(), block.record, block.bytes, word, raw);
  view.step(pool::Step::record_copied);
  if (!still(slot, seen, block, word)) return Seen::changed;
  if (Seen opened = copy.open(view, failure); opened != Seen::match) return opened;
  item.key = copy.key_text();
  item.value = copy.value_text();
  item.version = version_of(word);
  return Seen::match;
}

}  // namespace

Status Table::scan(Cursor& cursor, std::size_t items_max, std::vector<Item>& items) {
  State& state = *state_;
  pool::View& view = *state.view;
  if (view.closed()) [[unlikely]] {
    if (pool::meets_window(std::as_bytes(std::span(&items, 1)))) return pool::argument_in_window();
    const Bytes room{reinterpret_cast<const std::byte*>(items.data()), items.capacity() * sizeof(Item)};
    return pool::in_gate(view, {std::as_bytes(std::span(&cursor, 1)), room},
                         [&] { return scan(cursor, items_max, items); });
  }
  if (!view.current()) BAILEY_TRY(view.attend());
  const std::size_t before = items.size();
  unsigned attempts = 0;
  while (!cursor.done && items.size() - before < items_max) {
    if (cursor.bucket >= state.geometry.buckets) {
      cursor.done = true;
      break;
    }
    const std::size_t bucket_start = items.size();
    std::optional<Error> damaged;
    Index index(view.index(), state.geometry);
    Walk walk(index, cursor.bucket);
    while (Word* slot = walk.slot()) {
      Word seen = load_acquire(slot);
      if (seen == 0 || tentative(seen)) {
        walk.next();
        continue;
      }
      Seen what = Seen::changed;
      Item item;
      auto extent = view.find(segment_of(seen));
      if (!extent && extent.error().code != Code::not_found)
        return std::unexpected(std::move(extent).error());
      Block block;
      Place place = extent ? locate(**extent, seen, block) : Place::forged;
      if (place == Place::ok)
        what = view.sealer() == nullptr ? read_item(view, slot, seen, block, item)
                                        : read_sealed_item(view, slot, seen, block, item, state.failure);
      else if (place == Place::forged && load_acquire(slot) == seen)
        what = Seen::forged;
      if (what == Seen::changed) {
        ++state.counters.retries;
        if (++attempts > attempts_max)
          return fail(Code::contended, By::peer,
                      fmt::format("scan gave up after {} attempts against writers", attempts_max),
                      "go on from the same cursor");
        continue;
      }
      attempts = 0;
      if (what == Seen::unheard) break;
      if (what == Seen::failed) {
        if (!damaged) damaged = std::exchange(state.failure, Error{});
      } else if (what == Seen::match) {
        // A slot may lead to a record that does not belong here only if somebody forged it.
        Home home = home_in(view, item.key, state.geometry);
        if (home.bucket == cursor.bucket && home.tag == tag_of(seen))
          items.push_back(std::move(item));
        else
          ++state.counters.forged_entries;
      } else {
        ++state.counters.forged_entries;
      }
      walk.next();
    }
    if (walk.corrupt() && view.current())
      return fail(Code::corrupt, By::peer, "corrupt index: a chain is a circle or leads out of the index",
                  "bailey region check tells what is readable");
    if (!view.current()) {
      // The bucket was read under a layout or a grant that ended meanwhile: read it again.
      items.resize(bucket_start);
      BAILEY_TRY(view.attend());
      continue;
    }
    ++cursor.bucket;
    if (damaged) {
      damaged->remedy = "go on from the same cursor: it stands behind the record";
      return std::unexpected(std::move(*damaged));
    }
  }
  return {};
}

}  // namespace bailey::table
