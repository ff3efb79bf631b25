// Records: where a slot leads, and how a record is read while its owner may reuse it.
//
// The reader's protocol (get): load the slot S, the page word P and the record word W; copy; then, in this
// order, load S, W and P again. If all are as before, the copy is what S pointed to at the moment of the
// second load of S:
//  - P did not change, so the record word's place was a record word all the time, written by the owner's
//  protocol only
//    (an owner marks every record word of a page busy before it gives the page to a class);
//  - W did not change and is not busy, and a version is never written twice with different contents, so the
//  block held
//    one record from the first load of W to the last;
//  - S led to the block in between, and an owner writes no block that a slot leads to; so that record was
//  published.
// Without the second load of S a reader could return a record that was prepared and never published.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "bailey/medium/access.h"
#include "bailey/pool/view.h"
#include "bailey/table/classes.h"
#include "bailey/table/index.h"

namespace bailey::table {

// ---- words

constexpr Word record_word(std::uint64_t version) { return version << 1; }
constexpr bool busy(Word word) { return (word & 1) != 0 || word == 0; }
constexpr std::uint64_t version_of(Word word) { return word >> 1; }

constexpr Word make_lengths(std::size_t key_bytes, std::size_t value_bytes) {
  return Word{value_bytes} << 32 | Word{key_bytes} << 16;
}
constexpr std::size_t key_length(Word lengths) { return lengths >> 16 & 0xffff; }
constexpr std::size_t value_length(Word lengths) { return lengths >> 32; }
constexpr std::uint64_t record_bytes(std::size_t key_bytes, std::size_t value_bytes) {
  return BAILEY_RECORD_HEADER_BYTES + medium::padded(key_bytes) + medium::padded(value_bytes);
}

constexpr unsigned page_class(Word page_word) { return page_word >> BAILEY_PAGE_WORD_CLASS_SHIFT & 0xff; }
constexpr std::uint32_t page_run(Word page_word) { return page_word & 0xffff; }
constexpr Word make_page_word(Word counter, unsigned cls, std::uint32_t run) {
  return counter << BAILEY_PAGE_WORD_COUNTER_SHIFT | Word{cls} << BAILEY_PAGE_WORD_CLASS_SHIFT | run;
}
inline Word* page_words(const pool::Extent& extent) {
  return reinterpret_cast<Word*>(extent.base + BAILEY_SEGMENT_PAGE_WORDS_OFFSET);
}

// ---- finding

// A block that a slot leads to, within the bounds of its segment.
struct Block {
  std::byte* record = nullptr;
  std::uint64_t bytes = 0;
  const Word* page_word = nullptr;
  Word page_seen = 0;

  Word* word() const { return reinterpret_cast<Word*>(record); }
  Word* lengths() const { return reinterpret_cast<Word*>(record) + 1; }
  std::byte* key() const { return record + BAILEY_RECORD_HEADER_BYTES; }
  std::byte* value(std::size_t key_bytes) const { return key() + medium::padded(key_bytes); }
};

enum class Place : std::uint8_t {
  ok,
  stale,   // the page holds no records now: the slot is about to be seen changed
  forged,  // out of bounds, or not the start of a block
};

// `extent` is the mapping of the slot's segment.
inline Place locate(const pool::Extent& extent, Word slot, Block& block) {
  std::uint64_t offset = offset_of(slot);
  std::uint64_t in_data = offset - extent.data_offset;
  std::uint64_t page = in_data >> BAILEY_PAGE_SHIFT;
  if (offset < extent.data_offset || page >= extent.pages) return Place::forged;
  block.page_word = page_words(extent) + page;
  block.page_seen = medium::load_acquire(block.page_word);
  block.record = extent.base + offset;
  unsigned cls = page_class(block.page_seen);
  auto in_page = static_cast<std::uint32_t>(in_data & (BAILEY_PAGE_BYTES - 1));
  if (cls == BAILEY_CLASS_FREE) return Place::stale;
  if (cls == BAILEY_CLASS_RUN) {
    std::uint32_t run = page_run(block.page_seen);
    if (in_page != 0 || run == 0 || page + run > extent.pages) return Place::forged;
    block.bytes = std::uint64_t{run} * BAILEY_PAGE_BYTES;
    return Place::ok;
  }
  if (cls > class_count || !starts_block(cls, in_page)) return Place::forged;
  block.bytes = class_bytes[cls];
  return Place::ok;
}

// ---- reading

enum class Seen : std::uint8_t {
  match,      // the key's record, validated
  other_key,  // a whole record of another key
  changed,    // replaced or being written: look at the slot again
  forged,     // nothing that a writer following the protocol leaves
  failed,     // its segment could not be mapped, or it does not open; the caller knows the error
  unheard,    // sealed under a key that the view has not heard of: attend, and look again
};

// What is looked for.
struct Wanted {
  std::string_view key;
  const Home& home;
  bool opens = true;  // whether a sealed record is opened, and not only recognised
};

struct Lengths {
  std::size_t key = 0;
  std::size_t value = 0;
};
// Lengths that fit into a block and into the limits, or nothing.
inline std::optional<Lengths> check_lengths(Word lengths, std::uint64_t block_bytes) {
  Lengths checked{key_length(lengths), value_length(lengths)};
  if (checked.key > key_bytes_max || checked.value > value_bytes_max ||
      record_bytes(checked.key, checked.value) > block_bytes)
    return std::nullopt;
  return checked;
}

// The second half of the protocol above: whether nothing changed since `slot_seen`, `word_seen` and
// block.page_seen.
inline bool still(const Word* slot, Word slot_seen, const Block& block, Word word_seen) {
  std::atomic_thread_fence(std::memory_order_acquire);
  return medium::load_acquire(slot) == slot_seen && medium::load_acquire(block.word()) == word_seen &&
         medium::load_acquire(block.page_word) == block.page_seen;
}

struct ReadRecord {
  Word word = 0;
  std::size_t value_bytes = 0;
};

// Reads the record that `slot_seen` leads to if it is of `key`. `sink(bytes)` says where the value goes;
// null: it is not copied.
template <class Sink>
inline Seen read_record(pool::View& view, const Word* slot, Word slot_seen, const Block& block,
                        std::string_view key, ReadRecord& read, Sink&& sink) {
  read.word = medium::load_acquire(block.word());
  Word raw = medium::load_relaxed(block.lengths());
  if (busy(read.word)) return Seen::changed;
  auto lengths = check_lengths(raw, block.bytes);
  if (!lengths) return still(slot, slot_seen, block, read.word) ? Seen::forged : Seen::changed;
  if (lengths->key != key.size() || !medium::equal(block.key(), key))
    return still(slot, slot_seen, block, read.word) ? Seen::other_key : Seen::changed;
  read.value_bytes = lengths->value;
  void* to = sink(lengths->value);
  if (to != nullptr) medium::copy_out(to, block.value(lengths->key), lengths->value);
  view.step(pool::Step::record_copied);
  return still(slot, slot_seen, block, read.word) ? Seen::match : Seen::changed;
}

// Maps the segment that a slot leads to: match where that is done, else what the slot is.
Seen map_segment(pool::View& view, const Word* slot, Word slot_seen, Error& failure);

// examine() for the usual case, in two halves and in a straight line, so that a processor has the next lookup
// under way before this one ends: the record is the key's, shares its page, and nobody changes it. The same
// loads and checks in the same order. Where a half says no, ask examine(), which knows why.
struct Sighted {
  const Word* words;  // of the record
  Word word;
  const Word* page_word;
  Word page_seen;
  Word lengths;
  unsigned cls;
  std::size_t value_bytes;

  const std::byte* value(std::size_t key_bytes) const {
    return reinterpret_cast<const std::byte*>(words) + BAILEY_RECORD_HEADER_BYTES + medium::padded(key_bytes);
  }
  [[gnu::always_inline]] bool still(const Word* slot, Word slot_seen) const {
    std::atomic_thread_fence(std::memory_order_acquire);
    return medium::load_acquire(slot) == slot_seen && medium::load_acquire(words) == word &&
           medium::load_acquire(page_word) == page_seen;
  }
};
// Whether `slot_seen` leads to a block that shares its page; what its words are.
[[gnu::always_inline]] inline bool sight_block(const pool::View& view, Word slot_seen, Sighted& sighted) {
  // Without a mapping it has no pages.
  const pool::Extent& extent = view.extent(segment_of(slot_seen));
  const std::uint64_t offset = offset_of(slot_seen);
  const std::uint64_t in_data = offset - extent.data_offset;
  if (in_data >> BAILEY_PAGE_SHIFT >= extent.pages) [[unlikely]]
    return false;
  sighted.page_word = page_words(extent) + (in_data >> BAILEY_PAGE_SHIFT);
  sighted.page_seen = medium::load_acquire(sighted.page_word);
  const unsigned cls = page_class(sighted.page_seen);
  sighted.cls = cls;
  if (cls > class_count || !starts_block(cls, static_cast<std::uint32_t>(in_data & (BAILEY_PAGE_BYTES - 1))))
      [[unlikely]]
    return false;
  const std::byte* record = extent.base + offset;
  sighted.words = reinterpret_cast<const Word*>(record);
  sighted.word = medium::load_acquire(sighted.words);
  sighted.lengths = medium::load_relaxed(sighted.words + 1);
  sighted.value_bytes = value_length(sighted.lengths);
  return true;
}
// Whether it leads to a complete record of `key`, which has at most key_bytes_max bytes.
[[gnu::always_inline]] inline bool sight(const pool::View& view, Word slot_seen, std::string_view key,
                                         Sighted& sighted) {
  if (!sight_block(view, slot_seen, sighted)) [[unlikely]]
    return false;
  return !busy(sighted.word) && key_length(sighted.lengths) == key.size() &&
         record_bytes(key.size(), sighted.value_bytes) <= class_bytes[sighted.cls] &&
         medium::equal(reinterpret_cast<const std::byte*>(sighted.words) + BAILEY_RECORD_HEADER_BYTES, key);
}

// Fills an owner's block, whose record word is busy; complete, but no slot leads to it yet.
[[gnu::always_inline]] inline void fill_record(std::byte* record, std::string_view key,
                                               std::string_view value, std::uint64_t version) {
  auto* words = reinterpret_cast<Word*>(record);
  // The word is busy since the block was freed; what follows must not be seen before that.
  std::atomic_thread_fence(std::memory_order_release);
  medium::store_relaxed(words + 1, make_lengths(key.size(), value.size()));
  record += BAILEY_RECORD_HEADER_BYTES;
  medium::copy_in(record, key.data(), key.size());
  medium::copy_in(record + medium::padded(key.size()), value.data(), value.size());
  medium::store_release(words, record_word(version));
}

// Fetches what reading the record that a slot leads to touches, if it has `bytes` bytes.
inline void prefetch_record(const pool::View& view, Word slot_seen, std::uint64_t bytes) {
  const pool::Extent& extent = view.extent(segment_of(slot_seen));
  const std::uint64_t offset = offset_of(slot_seen);
  const std::uint64_t page = (offset - extent.data_offset) >> BAILEY_PAGE_SHIFT;
  if (page >= extent.pages) [[unlikely]]
    return;
  medium::prefetch(page_words(extent) + page);
  // A prefetch does not fault: it may go past the segment's end.
  const std::byte* const end = extent.base + offset + bytes;
  const std::byte* at = extent.base + offset / cache_line_bytes * cache_line_bytes;
  do medium::prefetch(at);
  while ((at += cache_line_bytes) < end);
}

}  // namespace bailey::table
