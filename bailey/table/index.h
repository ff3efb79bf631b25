// The index: buckets of seven slots, chained where a bucket overflows.
//
// Slots do not move while their record lives: a key is in one slot from its insertion to its deletion, an
// update replaces the slot's value in place. A reader that walks a chain once and finds nothing may therefore
// say "not found": a key that was there all the time would have been seen.
//
// Thread safety: plain functions over shared words.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>

#include "bailey/abi/segment.h"
#include "bailey/crypto/key_hash.h"
#include "bailey/medium/access.h"
#include "bailey/pool/view.h"
#include "bailey/table/table.h"

namespace bailey::table {

using medium::Word;

// ---- slot words

inline constexpr Word slot_place_mask = (Word{1} << BAILEY_SLOT_TAG_SHIFT) - 1;  // segment and offset

constexpr Word make_slot(Word tag, pool::SegmentId segment, std::uint64_t offset) {
  return tag << BAILEY_SLOT_TAG_SHIFT | Word{segment} << BAILEY_SLOT_SEGMENT_SHIFT |
         offset / BAILEY_BLOCK_UNIT;
}
constexpr Word tag_of(Word slot) { return slot >> BAILEY_SLOT_TAG_SHIFT & BAILEY_SLOT_TAG_MASK; }
constexpr bool tentative(Word slot) { return (slot & BAILEY_SLOT_TENTATIVE) != 0; }
constexpr pool::SegmentId segment_of(Word slot) {
  return static_cast<pool::SegmentId>(slot >> BAILEY_SLOT_SEGMENT_SHIFT);
}
constexpr std::uint64_t offset_of(Word slot) { return (slot & 0xffff'ffff) * BAILEY_BLOCK_UNIT; }
constexpr Word place_of(Word slot) { return slot & slot_place_mask; }

// ---- hashing

// Where a key belongs: its bucket and the tag that its slot carries (never 0, so that no slot is 0). See
// home.h.
struct Home {
  std::uint64_t bucket;
  Word tag;
  crypto::KeyHash hash = {};  // of an encrypted table
};

// ---- chains

// The index in memory. Pointers are computed from the trusted geometry; links are checked against it.
class Index {
 public:
  Index(std::byte* base, const Geometry& geometry) : base_(base), geometry_(&geometry) {}

  bailey_bucket* primary(std::uint64_t number) const { return buckets() + number; }

  // The bucket that a link leads to; nothing where it leads nowhere (0) or out of the index.
  bailey_bucket* follow(Word link) const {
    return link - 1 < geometry_->overflow_buckets ? buckets() + geometry_->buckets + (link - 1) : nullptr;
  }

  // Adds a bucket to the chain that ends in `last`, or returns the one that somebody else added meanwhile. A
  // bucket that a dead writer claimed for this chain and never linked is found again and used: nothing leaks.
  // Error: index_full; corrupt where the chain is a circle.
  Result<bailey_bucket*> extend(std::uint64_t primary_number, pool::View& view) const;

 private:
  bailey_bucket* buckets() const {
    return reinterpret_cast<bailey_bucket*>(base_ + BAILEY_INDEX_BUCKETS_OFFSET);
  }
  std::uint32_t* claims() const {
    return reinterpret_cast<std::uint32_t*>(buckets() + geometry_->buckets + geometry_->overflow_buckets);
  }
  std::byte* base_;
  const Geometry* geometry_;
};

// A walk along one chain, slot by slot. Bounded: after chain_buckets_max buckets it ends and `corrupt()` says
// so.
class Walk {
 public:
  Walk(const Index& index, std::uint64_t primary_number)
      : index_(index), bucket_(index.primary(primary_number)) {}

  // The current slot, or null at the end.
  Word* slot() const { return bucket_ != nullptr ? &bucket_->slots[at_] : nullptr; }
  unsigned position() const { return (visited_ - 1) * BAILEY_BUCKET_SLOTS + at_; }
  void next() {
    if (++at_ < BAILEY_BUCKET_SLOTS) return;
    at_ = 0;
    Word link = medium::load_acquire(&bucket_->link);
    if (link == 0) {
      bucket_ = nullptr;
      return;
    }
    bucket_ = index_.follow(link);
    if (bucket_ == nullptr || ++visited_ > chain_buckets_max) {
      bucket_ = nullptr;
      corrupt_ = true;
    }
  }
  bool corrupt() const { return corrupt_; }

 private:
  const Index& index_;
  bailey_bucket* bucket_;
  unsigned at_ = 0;
  unsigned visited_ = 1;
  bool corrupt_ = false;
};

// A walk along one chain over the slots that carry a tag, or over the empty ones (tag 0). Bounded like Walk.
//
// A slot that is returned carried the tag when its bucket was looked at: load it and look again. Whatever
// carries the tag throughout is returned.
class Candidates {
 public:
  // Inlined by force, as each operation is one straight function: see write_at_once.h.
  [[gnu::always_inline]] Candidates(const Index& index, const Home& home)
      : index_(index), bucket_(index.primary(home.bucket)), tag_(static_cast<std::uint16_t>(home.tag)) {
    look();
  }

  // The first of the first bucket, or null.
  Word* first() const { return left_ != 0 ? &bucket_->slots[std::countr_zero(left_)] : nullptr; }
  // The current slot, or null at the end.
  Word* slot() {
    while (left_ == 0) [[unlikely]]
      if (!follow()) return nullptr;
    return &bucket_->slots[std::countr_zero(left_)];
  }
  unsigned position() const {
    return (visited_ - 1) * BAILEY_BUCKET_SLOTS + static_cast<unsigned>(std::countr_zero(left_));
  }
  void next() { left_ &= left_ - 1; }
  bool corrupt() const { return corrupt_; }

 private:
  [[gnu::always_inline]] void look() {
    left_ = medium::words_with_high_16(bucket_->slots, tag_) & ((1u << BAILEY_BUCKET_SLOTS) - 1);
  }
  bool follow() {
    Word link = medium::load_acquire(&bucket_->link);
    if (link == 0 || corrupt_) return false;
    bailey_bucket* next = index_.follow(link);
    if (next == nullptr || ++visited_ > chain_buckets_max) {
      corrupt_ = true;
      return false;
    }
    bucket_ = next;
    look();
    return true;
  }

  Index index_;
  bailey_bucket* bucket_;
  unsigned left_ = 0;  // slots of the bucket that are still to be returned
  unsigned visited_ = 1;
  std::uint16_t tag_;
  bool corrupt_ = false;
};

}  // namespace bailey::table
