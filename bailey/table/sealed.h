// Sealed records: how the records of an encrypted table lie in their blocks, and how they are made and
// opened.
//
// A sealed record has the words of any other (record.h) and is found, read, validated and moved like it. Its
// lengths name the generation of the key that it is sealed under, and behind them come the keyed hash of its
// key, the tags, and value and key, each sealed for itself. Whoever knows a key takes its hash, of 128 bits,
// for the key; the key itself is for scans. Writers open a record only where its contents matter to them.
//
// Whoever reads copies the sealed bytes to private memory, validates the copy, and opens only that: what does
// not open was not changing while it was read, and nothing is checked in one place and used from another.
#pragma once

#include <cstring>
#include <string_view>

#include "bailey/pool/sealer.h"
#include "bailey/table/home.h"
#include "bailey/table/record.h"
#include "bailey/table/signed.h"

namespace bailey::table {

constexpr std::uint64_t sealed_record_bytes(std::size_t key_bytes, std::size_t value_bytes) {
  return record_bytes(key_bytes, value_bytes) + BAILEY_SEALED_HEADER_BYTES;
}
constexpr crypto::Generation generation_of(Word lengths) {
  return static_cast<crypto::Generation>(lengths & 0xffff);
}
constexpr Word make_sealed_lengths(std::size_t key_bytes, std::size_t value_bytes,
                                   crypto::Generation generation) {
  return make_lengths(key_bytes, value_bytes) | generation;
}
// Lengths of a sealed record that fit into a block and into the limits, or nothing. `sealer`: the region's;
// null where it is not known, which leaves out that there may have to be a proof.
inline std::optional<Lengths> check_sealed_lengths(const pool::Sealer* sealer, Word lengths,
                                                   std::uint64_t block_bytes) {
  const std::uint64_t more = BAILEY_SEALED_HEADER_BYTES + proof_bytes_least(sealer);
  if (generation_of(lengths) == 0 || block_bytes < more) return std::nullopt;
  return check_lengths(lengths, block_bytes - more);
}

// What stands before the sealed bytes; fetched once.
struct SealedHead {
  pool::Bound bound;
  crypto::Tag value_tag, key_tag;

  SealedHead() = default;
  [[gnu::always_inline]] SealedHead(const std::byte* record, Word word, Word lengths) {
    std::uint64_t words[BAILEY_SEALED_HEADER_BYTES / 8];
    static_assert(sizeof words == sizeof(crypto::KeyHash) + 2 * sizeof(crypto::Tag));
    medium::copy_out(words, record + BAILEY_RECORD_HEADER_BYTES, sizeof words);
    bound = {{words[0], words[1]}, version_of(word), lengths};
    std::memcpy(value_tag.data(), words + 2, sizeof value_tag);
    std::memcpy(key_tag.data(), words + 4, sizeof key_tag);
  }
  std::size_t key_bytes() const { return key_length(bound.lengths); }
  std::size_t value_bytes() const { return value_length(bound.lengths); }
};

inline const std::byte* sealed_value(const std::byte* record) {
  return record + BAILEY_RECORD_HEADER_BYTES + BAILEY_SEALED_HEADER_BYTES;
}
inline const std::byte* sealed_key(const std::byte* record, std::size_t value_bytes) {
  return sealed_value(record) + medium::padded(value_bytes);
}
inline bool has_hash(const std::byte* record, const crypto::KeyHash& hash) {
  const auto* words = reinterpret_cast<const Word*>(record + BAILEY_RECORD_HEADER_BYTES);
  return medium::load_relaxed(words) == hash.first && medium::load_relaxed(words + 1) == hash.second;
}

// Opens what was copied and validated: `sealed` to `out`, which may be the same. match: it is what some
// holder of the key sealed; in a signed region approve() then says whether it is its writer's. unheard,
// failed: see Seen; `failure` says why.
Seen open_part(pool::View& view, pool::Sealer::Part part, const SealedHead& head, Bytes sealed,
               std::byte* out, Error& failure);
inline Seen open_value(pool::View& view, const SealedHead& head, const std::byte* sealed, std::byte* out,
                       Error& failure) {
  return open_part(view, pool::Sealer::Part::value, head, {sealed, head.value_bytes()}, out, failure);
}

// A whole record, copied into the sealer's room, and opened there.
struct SealedCopy {
  SealedHead head;
  std::byte* value;
  std::byte* key;
  bool proved = false;  // there is a proof
  pool::Proof proof;

  // To be validated before anything else is done with it.
  SealedCopy(pool::Sealer& sealer, const std::byte* record, std::uint64_t block_bytes, Word word,
             Word lengths);
  Seen open(pool::View& view, Error& failure);
  std::string_view key_text() const { return as_text({key, head.key_bytes()}); }
  std::string_view value_text() const { return as_text({value, head.value_bytes()}); }
};

// read_record() of a sealed record.
template <class Sink>
inline Seen read_sealed_record(pool::View& view, const Word* slot, Word slot_seen, const Block& block,
                               const Wanted& wanted, ReadRecord& read, Sink&& sink, Error& failure) {
  read.word = medium::load_acquire(block.word());
  const Word raw = medium::load_relaxed(block.lengths());
  if (busy(read.word)) return Seen::changed;
  pool::Sealer& sealer = *view.sealer();
  auto lengths = check_sealed_lengths(&sealer, raw, block.bytes);
  if (!lengths) return still(slot, slot_seen, block, read.word) ? Seen::forged : Seen::changed;
  if (lengths->key != wanted.key.size() || !has_hash(block.record, wanted.home.hash))
    return still(slot, slot_seen, block, read.word) ? Seen::other_key : Seen::changed;
  read.value_bytes = lengths->value;
  if (!wanted.opens) {
    view.step(pool::Step::record_copied);
    return still(slot, slot_seen, block, read.word) ? Seen::match : Seen::changed;
  }
  const SealedHead head(block.record, read.word, raw);
  std::byte* copy = sealer.room(lengths->value);
  medium::copy_out(copy, sealed_value(block.record), lengths->value);
  pool::Proof proof;
  bool proved = false;
  if (sealer.signatures() != nullptr) [[unlikely]] {
    const std::uint64_t before = sealed_record_bytes(lengths->key, lengths->value);
    proved = load_proof(block.record + before, block.bytes - before, proof);
  }
  view.step(pool::Step::record_copied);
  if (!still(slot, slot_seen, block, read.word) || head.bound.hash != wanted.home.hash) return Seen::changed;
  void* to = sink(lengths->value);
  std::byte* const value = to != nullptr ? static_cast<std::byte*>(to) : copy;
  const Seen opened = open_value(view, head, copy, value, failure);
  if (opened != Seen::match || sealer.signatures() == nullptr) [[likely]]
    return opened;
  return approve(view, head.bound.hash, head.bound.version, wanted.key, {value, lengths->value},
                 proved ? &proof : nullptr, failure);
}

// sight() of a sealed record that is not signed, recognised by its hash.
[[gnu::always_inline]] inline bool sight_sealed(const pool::View& view, Word slot_seen, std::size_t key_bytes,
                                                const crypto::KeyHash& hash, Sighted& sighted) {
  if (!sight_block(view, slot_seen, sighted)) [[unlikely]]
    return false;
  return !busy(sighted.word) && key_length(sighted.lengths) == key_bytes &&
         check_sealed_lengths(nullptr, sighted.lengths, class_bytes[sighted.cls]).has_value() &&
         has_hash(reinterpret_cast<const std::byte*>(sighted.words), hash);
}

// Writes what is sealed into an owner's block, whose record word is busy. `proof`: of a signed region.
[[gnu::always_inline]] inline void store_sealed(std::byte* record, const SealedHead& head,
                                                const std::byte* value, const std::byte* key,
                                                const pool::Proof* proof) {
  auto* words = reinterpret_cast<Word*>(record);
  // As in fill_record().
  std::atomic_thread_fence(std::memory_order_release);
  medium::store_relaxed(words + 1, head.bound.lengths);
  record += BAILEY_RECORD_HEADER_BYTES;
  medium::copy_in(record, &head.bound.hash, sizeof head.bound.hash);
  medium::copy_in(record + 16, head.value_tag.data(), sizeof head.value_tag);
  medium::copy_in(record + 32, head.key_tag.data(), sizeof head.key_tag);
  record += BAILEY_SEALED_HEADER_BYTES;
  medium::copy_in(record, value, head.value_bytes());
  record += medium::padded(head.value_bytes());
  medium::copy_in(record, key, head.key_bytes());
  if (proof != nullptr) store_proof(record + medium::padded(head.key_bytes()), *proof);
  medium::store_release(words, record_word(head.bound.version));
}

// fill_record(), sealed under the newest key. In private memory first: the tag is made of what is read there.
inline void fill_sealed_record(pool::Sealer& sealer, std::byte* record, std::string_view key,
                               const crypto::KeyHash& hash, std::string_view value, std::uint64_t version,
                               const pool::Proof* proof = nullptr) {
  SealedHead head;
  head.bound = {hash, version, make_sealed_lengths(key.size(), value.size(), sealer.generation())};
  std::byte* sealed_to = sealer.room(value.size() + key.size());
  std::byte* key_to = sealed_to + value.size();
  sealer.seal(as_bytes(value), sealed_to, pool::Sealer::Part::value, head.bound, head.value_tag);
  sealer.seal(as_bytes(key), key_to, pool::Sealer::Part::key, head.bound, head.key_tag);
  store_sealed(record, head, sealed_to, key_to, proof);
}

// Where a key's record belongs in the table that a view leads to.
[[gnu::always_inline]] inline Home home_in(const pool::View& view, std::string_view key,
                                           const Geometry& geometry) {
  const pool::Sealer* sealer = view.sealer();
  if (sealer == nullptr) [[likely]]
    return home_of(key, geometry);
  const Home home = home_of(sealer->hash(key), geometry);
  sealer->prefetch(home.hash);
  return home;
}
inline std::uint64_t record_bytes_in(const pool::View& view, std::size_t key_bytes, std::size_t value_bytes) {
  return view.sealer() == nullptr ? record_bytes(key_bytes, value_bytes)
                                  : sealed_record_bytes(key_bytes, value_bytes);
}

}  // namespace bailey::table
