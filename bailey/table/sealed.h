// Sealed records: how the records of an encrypted table lie in their blocks, and how they are made and
// opened.
//
// A sealed record has the words of any other (record.h) and is found, read, validated and moved like it. Its
// lengths name the generation of the key that it is sealed under, and behind them come the keyed hash of its
// key, the tag, and key and value as one text. Writers find a key's record by the hash, and open it only
// where its contents matter. Whoever reads copies the text first, validates the copy, and opens only that:
// what does not open was not changing while it was read.
#pragma once

#include <algorithm>
#include <cstring>
#include <string_view>

#include "bailey/pool/sealer.h"
#include "bailey/table/home.h"
#include "bailey/table/record.h"

namespace bailey::table {

constexpr std::uint64_t sealed_record_bytes(std::size_t key_bytes, std::size_t value_bytes) {
  return BAILEY_RECORD_HEADER_BYTES + BAILEY_SEALED_HEADER_BYTES + medium::padded(key_bytes + value_bytes);
}
constexpr crypto::Generation generation_of(Word lengths) {
  return static_cast<crypto::Generation>(lengths & 0xffff);
}
constexpr Word make_sealed_lengths(std::size_t key_bytes, std::size_t value_bytes,
                                   crypto::Generation generation) {
  return make_lengths(key_bytes, value_bytes) | generation;
}
// Lengths of a sealed record that fit into a block and into the limits, or nothing.
inline std::optional<Lengths> check_sealed_lengths(Word lengths, std::uint64_t block_bytes) {
  Lengths checked{key_length(lengths), value_length(lengths)};
  if (generation_of(lengths) == 0 || checked.key > key_bytes_max || checked.value > value_bytes_max ||
      sealed_record_bytes(checked.key, checked.value) > block_bytes)
    return std::nullopt;
  return checked;
}

inline bool has_hash(const std::byte* record, const crypto::KeyHash& hash) {
  const auto* words = reinterpret_cast<const Word*>(record + BAILEY_RECORD_HEADER_BYTES);
  return medium::load_relaxed(words) == hash.first && medium::load_relaxed(words + 1) == hash.second;
}

// A copy of a sealed record's text, in the sealer's room.
struct SealedCopy {
  pool::Bound bound;
  crypto::Tag tag;
  MutableBytes text;

  // To be validated before anything else is done with it.
  [[gnu::always_inline]] SealedCopy(pool::Sealer& sealer, const std::byte* record, Word word, Word lengths) {
    std::uint64_t head[4];
    static_assert(sizeof head == BAILEY_SEALED_HEADER_BYTES &&
                  sizeof head == sizeof(crypto::KeyHash) + sizeof(crypto::Tag));
    record += BAILEY_RECORD_HEADER_BYTES;
    medium::copy_out(head, record, sizeof head);
    bound = {{head[0], head[1]}, version_of(word), lengths};
    std::memcpy(tag.data(), head + 2, sizeof tag);
    const std::size_t bytes = key_length(lengths) + value_length(lengths);
    text = {sealer.room(bytes), bytes};
    medium::copy_out(text.data(), record + BAILEY_SEALED_HEADER_BYTES, bytes);
  }

  pool::Sealer::Opened open(pool::Sealer& sealer, Error& failure) {
    return sealer.open(text, generation_of(bound.lengths), bound, tag, failure);
  }
  // Once it is open.
  std::string_view key() const { return as_text(text.first(key_length(bound.lengths))); }
  std::string_view value() const { return as_text(text.subspan(key_length(bound.lengths))); }
};

// Opens a copy that was validated. match: it is a record that some writer meant.
Seen open_copy(pool::View& view, SealedCopy& copy, Error& failure);

// read_record() of a sealed record.
template <class Sink>
inline Seen read_sealed_record(pool::View& view, const Word* slot, Word slot_seen, const Block& block,
                               const Wanted& wanted, ReadRecord& read, Sink&& sink, Error& failure) {
  read.word = medium::load_acquire(block.word());
  const Word raw = medium::load_relaxed(block.lengths());
  if (busy(read.word)) return Seen::changed;
  auto lengths = check_sealed_lengths(raw, block.bytes);
  if (!lengths) return still(slot, slot_seen, block, read.word) ? Seen::forged : Seen::changed;
  if (lengths->key != wanted.key.size() || !has_hash(block.record, wanted.home.hash))
    return still(slot, slot_seen, block, read.word) ? Seen::other_key : Seen::changed;
  read.value_bytes = lengths->value;
  if (!wanted.opens) {
    view.step(pool::Step::record_copied);
    return still(slot, slot_seen, block, read.word) ? Seen::match : Seen::changed;
  }
  SealedCopy copy(*view.sealer(), block.record, read.word, raw);
  view.step(pool::Step::record_copied);
  if (!still(slot, slot_seen, block, read.word)) return Seen::changed;
  if (Seen opened = open_copy(view, copy, failure); opened != Seen::match) return opened;
  if (copy.key() != wanted.key) return Seen::other_key;
  void* to = sink(lengths->value);
  if (to != nullptr && lengths->value != 0) std::memcpy(to, copy.value().data(), lengths->value);
  return Seen::match;
}

// sight() of a sealed record, recognised by its hash.
[[gnu::always_inline]] inline bool sight_sealed(const pool::View& view, Word slot_seen, std::size_t key_bytes,
                                                const crypto::KeyHash& hash, Sighted& sighted) {
  if (!sight_block(view, slot_seen, sighted)) [[unlikely]]
    return false;
  return !busy(sighted.word) && key_length(sighted.lengths) == key_bytes &&
         check_sealed_lengths(sighted.lengths, class_bytes[sighted.cls]).has_value() &&
         has_hash(reinterpret_cast<const std::byte*>(sighted.words), hash);
}

// Writes what is sealed into an owner's block, whose record word is busy.
inline void store_sealed(std::byte* record, const pool::Bound& bound, const crypto::Tag& tag, Bytes text) {
  auto* words = reinterpret_cast<Word*>(record);
  std::atomic_thread_fence(std::memory_order_release);
  std::uint64_t half[2];
  std::memcpy(half, tag.data(), sizeof half);
  medium::store_relaxed(words + 1, bound.lengths);
  medium::store_relaxed(words + 2, bound.hash.first);
  medium::store_relaxed(words + 3, bound.hash.second);
  medium::store_relaxed(words + 4, half[0]);
  medium::store_relaxed(words + 5, half[1]);
  medium::copy_in(record + BAILEY_RECORD_HEADER_BYTES + BAILEY_SEALED_HEADER_BYTES, text.data(), text.size());
  medium::store_release(words, record_word(bound.version));
}

// fill_record(), sealed under the newest key.
inline void fill_sealed_record(pool::Sealer& sealer, std::byte* record, std::string_view key,
                               const crypto::KeyHash& hash, std::string_view value, std::uint64_t version) {
  const MutableBytes text{sealer.room(key.size() + value.size()), key.size() + value.size()};
  std::ranges::copy(as_bytes(value), std::ranges::copy(as_bytes(key), text.begin()).out);
  const pool::Bound bound{hash, version, make_sealed_lengths(key.size(), value.size(), sealer.generation())};
  crypto::Tag tag;
  sealer.seal(text, bound, tag);
  store_sealed(record, bound, tag, text);
}

// Where a key's record belongs in the table that a view leads to.
[[gnu::always_inline]] inline Home home_in(const pool::View& view, std::string_view key,
                                           const Geometry& geometry) {
  const pool::Sealer* sealer = view.sealer();
  if (sealer == nullptr) [[likely]]
    return home_of(key, geometry);
  return home_of(sealer->hash(key), geometry);
}
inline std::uint64_t record_bytes_in(const pool::View& view, std::size_t key_bytes, std::size_t value_bytes) {
  return view.sealer() == nullptr ? record_bytes(key_bytes, value_bytes)
                                  : sealed_record_bytes(key_bytes, value_bytes);
}

}  // namespace bailey::table
