#include "bailey/pool/plain.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "bailey/medium/access.h"

namespace bailey::pool {
namespace {

using medium::load_acquire;
using medium::store_release;
using medium::Word;

constexpr Word plain_magic = 0x314e4c5059454c42;  // "BLEYPLN1"

// At the buffer's start. Offsets, never pointers: processes map it where they like.
struct Header {
  Word magic;
  Word index_offset, index_bytes;
  Word segments_offset, segment_bytes, segments_max;
  Word shared_index;
  Word writers;     // ids given out
  Word membership;  // see Backing
  Word grant;       // one for all; grows with every retired segment and with revocation
  Word revoked;
  Word leaves;  // how often all writers were told to leave their segments
  Word uses;    // segments that were ever created
};

// A segment slot's entry: state (2 bits) | desk (1) | use (13) | run (16) | writer (32). A segment larger
// than one slot has its entry at the first and `claimed` ones behind it. The use tells a segment from those
// that had its number before, also from one of the same writer: whoever is slow to give back an old one would
// else give back what lives. (It comes again after 8,192 segments.)
enum State : Word { free_slot = 0, claimed = 1, open = 2, frozen = 3 };
constexpr Word use_bits = 13;
constexpr Word entry(State state, bool desk, Word use, Word run, Word writer) {
  return Word{state} << 62 | Word{desk} << 61 | (use & ((Word{1} << use_bits) - 1)) << 48 | run << 32 |
         writer;
}
constexpr State state_of(Word value) { return static_cast<State>(value >> 62); }
constexpr bool desk_of(Word value) { return (value >> 61 & 1) != 0; }
constexpr Word run_of(Word value) { return value >> 32 & 0xffff; }
constexpr std::uint32_t writer_of(Word value) { return static_cast<std::uint32_t>(value); }
// What stays the same while a segment lives: use, run and writer.
constexpr Word identity_of(Word value) { return value & ((Word{1} << 61) - 1); }
constexpr Word frozen_form(Word value) { return identity_of(value) | Word{frozen} << 62; }

struct Layout {
  std::byte* base;
  Header* header() const { return reinterpret_cast<Header*>(base); }
  Word* entry(Word slot) const { return reinterpret_cast<Word*>(base + 4096) + slot; }
  Extent extent(Word slot, Word run) const {
    Extent shape = Extent::shape(run * header()->segment_bytes);
    shape.base = base + header()->segments_offset + slot * header()->segment_bytes;
    return shape;
  }
};

void freeze(const Layout& layout, std::uint32_t writer) {
  for (Word slot = 0; slot < layout.header()->segments_max; ++slot) {
    Word value = load_acquire(layout.entry(slot));
    if (writer_of(value) == writer && state_of(value) == open)
      store_release(layout.entry(slot), frozen_form(value));
  }
  __atomic_fetch_add(&layout.header()->membership, 1, __ATOMIC_SEQ_CST);
}

class PlainBacking : public Backing {
 public:
  PlainBacking(std::byte* base, std::uint32_t writer)
      : layout_{base}, writer_(writer), leaves_(load_acquire(&layout_.header()->leaves)) {}

  Result<Extent> map(SegmentId id) override {
    if (id == 0 || id > layout_.header()->segments_max) return fail(Code::not_found);
    Word value = load_acquire(layout_.entry(id - 1));
    if (state_of(value) == free_slot || state_of(value) == claimed) return fail(Code::not_found);
    known_[id] = identity_of(value);
    return layout_.extent(id - 1, run_of(value));
  }
  void unmap(SegmentId id, const Extent&) override { known_.erase(id); }

  Result<OwnSegment> create(std::uint64_t record_bytes) override {
    Header* header = layout_.header();
    Word run = 1;
    while (true) {
      Extent shape = Extent::shape(run * header->segment_bytes);
      if (std::uint64_t{shape.pages} * BAILEY_PAGE_BYTES >= record_bytes && shape.pages > 0) break;
      if (++run > header->segments_max) return fail(Code::too_large);
    }
    for (Word slot = 0; slot + run <= header->segments_max; ++slot) {
      Word taken = 0;
      while (taken < run && medium::cas(layout_.entry(slot + taken), 0, plain_claim())) ++taken;
      if (taken < run) {
        while (taken > 0) store_release(layout_.entry(slot + --taken), 0);
        continue;
      }
      Extent extent = layout_.extent(slot, run);
      forget(extent);
      const Word use = __atomic_fetch_add(&header->uses, 1, __ATOMIC_RELAXED);
      const Word value = pool::entry(open, !has_desk_, use, run, writer_);
      store_release(layout_.entry(slot), value);
      has_desk_ = true;
      known_[static_cast<SegmentId>(slot + 1)] = identity_of(value);
      __atomic_fetch_add(&header->membership, 1, __ATOMIC_SEQ_CST);
      return OwnSegment{static_cast<SegmentId>(slot + 1), extent};
    }
    return fail(Code::quota, By::library,
                fmt::format("all {} segments of the region are in use", header->segments_max));
  }

  Status retire(SegmentId id) override {
    Word value = load_acquire(layout_.entry(id - 1));
    Word run = run_of(value);
    auto known = known_.find(id);
    if (known == known_.end() || known->second != identity_of(value)) return fail(Code::not_found);
    if (state_of(value) < open || !medium::cas(layout_.entry(id - 1), value, plain_claim()))
      return fail(Code::not_found);
    // Everybody forgets the mapping before the slots can have another shape.
    __atomic_fetch_add(&layout_.header()->grant, 1, __ATOMIC_SEQ_CST);
    for (Word i = run; i > 0; --i) store_release(layout_.entry(id - 1 + i - 1), 0);
    __atomic_fetch_add(&layout_.header()->membership, 1, __ATOMIC_SEQ_CST);
    return {};
  }

  Result<std::vector<Desk>> desks() override {
    std::vector<Desk> found;
    for (Word slot = 0; slot < layout_.header()->segments_max; ++slot) {
      Word value = load_acquire(layout_.entry(slot));
      if (state_of(value) == open && desk_of(value) && writer_of(value) != writer_)
        found.push_back({writer_of(value), static_cast<SegmentId>(slot + 1)});
    }
    return found;
  }
  Result<std::vector<SegmentId>> frozen() override {
    std::vector<SegmentId> found;
    for (Word slot = 0; slot < layout_.header()->segments_max; ++slot)
      if (state_of(load_acquire(layout_.entry(slot))) == pool::frozen)
        found.push_back(static_cast<SegmentId>(slot + 1));
    return found;
  }
  std::uint64_t membership() const override {
    return __atomic_load_n(&layout_.header()->membership, __ATOMIC_SEQ_CST);
  }
  Result<Attention> attend() override {
    Attention attention;
    attention.expected_grant = __atomic_load_n(&layout_.header()->grant, __ATOMIC_SEQ_CST);
    if (load_acquire(&layout_.header()->revoked) != 0)
      return fail(Code::revoked, By::library, "the plain pool was revoked");
    if (Word leaves = load_acquire(&layout_.header()->leaves);
        writer_ != 0 && std::exchange(leaves_, leaves) != leaves) {
      freeze(layout_, writer_);
      attention.left = true;
      has_desk_ = false;
    }
    for (Word slot = 0; slot < layout_.header()->segments_max; ++slot) {
      Word value = load_acquire(layout_.entry(slot));
      if (state_of(value) != open || writer_of(value) != writer_ || writer_ == 0)
        attention.gone.push_back(static_cast<SegmentId>(slot + 1));
    }
    return attention;
  }
  Result<std::uint32_t> fresh_writer_id() override {
    return static_cast<std::uint32_t>(__atomic_add_fetch(&layout_.header()->writers, 1, __ATOMIC_RELAXED));
  }

 private:
  Word plain_claim() const { return pool::entry(claimed, false, 0, 0, writer_); }

  // A segment that is used again keeps its page words' counters: what a slow reader still holds of the old
  // use must not validate. The desk starts clean.
  static void forget(const Extent& extent) {
    auto* words = reinterpret_cast<Word*>(extent.base + BAILEY_SEGMENT_PAGE_WORDS_OFFSET);
    for (std::uint32_t page = 0; page < extent.pages; ++page) {
      Word word = load_acquire(words + page);
      if (word != 0)
        store_release(words + page, ((word >> BAILEY_PAGE_WORD_COUNTER_SHIFT) + 1)
                                        << BAILEY_PAGE_WORD_COUNTER_SHIFT);
    }
    auto* desk = reinterpret_cast<Word*>(extent.base + BAILEY_SEGMENT_DESK_OFFSET);
    for (std::size_t i = 0; i < sizeof(bailey_desk) / sizeof(Word); ++i) store_release(desk + i, 0);
  }

  Layout layout_;
  std::uint32_t writer_;
  Word leaves_;  // that this view has heard of
  bool has_desk_ = false;
  // What a segment was when it was mapped or created.
  std::unordered_map<SegmentId, Word> known_;
};

std::uint64_t segments_offset(const PlainOptions& options, std::uint64_t segments) {
  return round_up(round_up(4096 + segments * sizeof(Word), 4096) + options.index_bytes, 4096);
}

}  // namespace

std::uint64_t PlainPool::bytes_for(const PlainOptions& options, unsigned segments) {
  return segments_offset(options, segments) + segments * options.segment_bytes;
}

Result<PlainPool> PlainPool::format(MutableBytes buffer, const PlainOptions& options) {
  std::uint64_t segments = buffer.size() / options.segment_bytes;
  while (segments > 0 && bytes_for(options, static_cast<unsigned>(segments)) > buffer.size()) --segments;
  segments = std::min<std::uint64_t>(segments, 65535);
  if (segments == 0 || options.segment_bytes % BAILEY_PAGE_BYTES != 0 ||
      Extent::shape(options.segment_bytes).pages == 0)
    return fail(Code::invalid_argument, By::library,
                fmt::format("a plain pool of {} bytes has no room for an index of {} and a segment of {}",
                            buffer.size(), options.index_bytes, options.segment_bytes));
  Header header{};
  header.magic = plain_magic;
  header.index_offset = round_up(4096 + segments * sizeof(Word), 4096);
  header.index_bytes = options.index_bytes;
  header.segments_offset = segments_offset(options, segments);
  header.segment_bytes = options.segment_bytes;
  header.segments_max = segments;
  header.shared_index = options.shared_index;
  header.grant = 1;
  std::memcpy(buffer.data(), &header, sizeof header);
  return PlainPool(buffer.data());
}

Result<std::unique_ptr<View>> PlainPool::view(bool writable) {
  Layout layout{base_};
  ViewParts parts;
  parts.index = index().data();
  parts.index_bytes = index().size();
  parts.writable = writable;
  parts.index_writable = writable;
  if (writable)
    parts.writer =
        static_cast<std::uint32_t>(__atomic_add_fetch(&layout.header()->writers, 1, __ATOMIC_RELAXED));
  parts.grant_word = &layout.header()->grant;
  parts.expected_grant = load_acquire(parts.grant_word);
  return std::make_unique<View>(parts, std::make_unique<PlainBacking>(base_, parts.writer));
}

void PlainPool::writer_died(std::uint32_t writer) {
  Layout layout{base_};
  freeze(layout, writer);
  // Claims that belong to no segment were left by a death between claim and publication.
  for (Word slot = 0; slot < layout.header()->segments_max; ++slot) {
    Word value = load_acquire(layout.entry(slot));
    if (state_of(value) == frozen || state_of(value) == open) {
      slot += run_of(value) - 1;
      continue;
    }
    if (state_of(value) == claimed && writer_of(value) == writer) store_release(layout.entry(slot), 0);
  }
  __atomic_fetch_add(&layout.header()->membership, 1, __ATOMIC_SEQ_CST);
}

void PlainPool::leave() {
  Header* header = Layout{base_}.header();
  __atomic_fetch_add(&header->leaves, 1, __ATOMIC_SEQ_CST);
  __atomic_fetch_add(&header->grant, 1, __ATOMIC_SEQ_CST);
}

void PlainPool::revoke() {
  Header* header = Layout{base_}.header();
  store_release(&header->revoked, 1);
  __atomic_fetch_add(&header->grant, 1, __ATOMIC_SEQ_CST);
}

MutableBytes PlainPool::index() const {
  Header* header = Layout{base_}.header();
  return {base_ + header->index_offset, header->index_bytes};
}

unsigned PlainPool::segments_in_use() const {
  Layout layout{base_};
  unsigned count = 0;
  for (Word slot = 0; slot < layout.header()->segments_max; ++slot)
    count += load_acquire(layout.entry(slot)) != 0 ? 1 : 0;
  return count;
}

unsigned PlainPool::segments_max() const {
  return static_cast<unsigned>(Layout{base_}.header()->segments_max);
}

}  // namespace bailey::pool
