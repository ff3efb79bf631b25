// Heap: a writer's own segments, pages and blocks.
//
// All that decides which block is free is in the writer's private memory; shared memory holds only what
// readers need (page words, record words). A peer that scribbles on the index can't make an owner overwrite
// its own live data by lying about what is free, only by hiding it.
//
// A block's life: allocate() gives it busy; the writer fills it and publishes it; release() marks it busy
// again once no slot leads to it. With peers that write the same index a released block waits in limbo until
// no peer announces its place (see writer.h), else it is free at once.
//
// Invariants
//  1. A page's record words are busy (or were never written) before its page word names a class.
//  2. A page word's counter grows with each change of class, also across a segment's reuse.
//
// Thread safety: one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "bailey/pool/view.h"
#include "bailey/table/record.h"

namespace bailey::table {

// A block of one's own: where it is and what it holds.
struct OwnBlock {
  Word place = 0;  // segment and offset as in a slot
  std::byte* record = nullptr;
  std::uint64_t bytes = 0;
  unsigned cls = 0;
};

class Heap {
 public:
  explicit Heap(pool::View& view, bool peers_write) : view_(view), peers_write_(peers_write) {}

  // A free block for a record of `bytes`, its record word busy. False where the segments at hand have none:
  // the caller reclaims (limbo, sweep, trim, compaction) or calls grow().
  bool allocate(std::uint64_t bytes, OwnBlock& block);
  // The same in the usual case: a block that was freed before, or the next one of the page that is carved.
  // Null record: allocate() knows more.
  [[gnu::always_inline]] OwnBlock allocate_at_once(std::uint64_t bytes) {
    const unsigned cls = class_of(bytes);
    if (cls == BAILEY_CLASS_RUN) [[unlikely]]
      return {};
    Class& list = classes_[cls];
    Word place;
    if (!list.free.empty()) {
      place = list.free.back();
      list.free.pop_back();
    } else if (list.carve_next != list.carve_end) {
      place = list.carve_next;
      list.carve_next += class_bytes[cls] / BAILEY_BLOCK_UNIT;
    } else {
      return {};
    }
    bytes_live_ += class_bytes[cls];
    return {place, view_.extent(segment_of(place)).base + offset_of(place), class_bytes[cls], cls};
  }
  // Takes another segment, with room for a record of `bytes`. Error: those of Backing::create.
  Status grow(std::uint64_t bytes);
  // Gives back a block that was allocated and never published.
  void cancel(const OwnBlock& block);
  // Gives back a block that no slot leads to any more. False where the place is not a block of these
  // segments.
  bool release(Word place);

  // The same in the usual case: the caller knows from the page word that a block of class `cls` that is no
  // run starts there. False: release() knows more.
  [[gnu::always_inline]] bool release_at_once(Word place, unsigned cls) {
    std::vector<Word>& freed = peers_write_ ? limbo_ : classes_[cls].free;
    if (segment_index_[segment_of(place)] == 0 || reserving_ || freed.size() == freed.capacity())
      return false;
    auto* word = reinterpret_cast<Word*>(view_.extent(segment_of(place)).base + offset_of(place));
    const Word held = medium::load_relaxed(word);
    if (busy(held)) return false;
    medium::store_release(word, held | 1);
    bytes_live_ -= class_bytes[cls];
    freed.push_back(place_of(place));
    return true;
  }

  // Whether a place is in one of these segments, at the start of a block.
  bool owns(Word place) const;
  // The block at a place that is owned, as it is now.
  OwnBlock at(Word place) const;

  // Blocks that wait until no peer announces them.
  std::size_t limbo() const { return limbo_.size(); }
  // Frees those whose place is not in `announced` (sorted).
  void drain(const std::vector<Word>& announced);

  // Turns pages of which every block is free into free pages. How many.
  std::size_t trim();
  // The `count` neighbouring pages that are cheapest to empty and can be: their live blocks fit into free
  // blocks of the same classes and free pages elsewhere. Returns the places of the live blocks; the free ones
  // are withdrawn and the pages reserved until the next trim(), so that moving the live ones empties the
  // pages. Nothing where there are none.
  std::optional<std::vector<Word>> sparsest_pages(std::uint32_t count);

  // Calls `visit` with the place of every block that holds a complete record and is neither free nor in
  // limbo.
  void for_each_complete(const std::function<void(Word)>& visit);

  // Segments of which every page is free, but the first, whose desk is in use. The caller may retire() them.
  std::vector<pool::SegmentId> empty_segments() const;
  void forget(pool::SegmentId id);
  // Forgets all segments, which belong to nobody now, and with them the desk. Writes nothing.
  void leave();

  // Where this writer's desk is; null before the first segment.
  bailey_desk* desk() const {
    if (segments_.empty()) return nullptr;
    return reinterpret_cast<bailey_desk*>(segments_.front().extent.base + BAILEY_SEGMENT_DESK_OFFSET);
  }
  std::uint64_t bytes_owned() const { return bytes_owned_; }
  std::uint64_t bytes_live() const { return bytes_live_; }  // in blocks that are published or prepared
  std::size_t segments() const { return segments_.size(); }

 private:
  struct Page {
    std::uint8_t cls = BAILEY_CLASS_FREE;
    bool used = false;       // records were here before: their words need marking
    bool continued = false;  // inside a run
    bool reserved = false;   // being emptied: not to be taken
    std::uint32_t run = 0;
    std::uint32_t free = 0;  // blocks of it in the class's list; meaningful during trim
  };
  struct Segment {
    pool::SegmentId id = 0;
    pool::Extent extent;
    std::vector<Page> pages;
    std::uint32_t free_pages = 0;
    std::uint32_t search_from = 0;  // no free page below
  };
  struct Class {
    std::vector<Word> free;  // last in, first out: the block freed last is likeliest in the cache
    Word carve_next = 0;     // places of the page that is carved: next, and one past the last
    Word carve_end = 0;
  };
  struct PageOf {
    Segment* segment = nullptr;
    std::uint32_t page = 0;
  };

  Segment* find(pool::SegmentId id) const;
  PageOf page_of(Word place) const;
  bool starts(const PageOf& where, Word place) const;
  static OwnBlock block(const PageOf& where, Word place);
  void set_page(Segment& segment, std::uint32_t page, unsigned cls, std::uint32_t run);
  std::optional<Word> take_page(unsigned cls);
  bool allocate_run(std::uint64_t bytes, OwnBlock& block);
  std::vector<Word> withdraw(Segment& segment, std::uint32_t first, std::uint32_t count);
  std::optional<std::uint64_t> cost_to_empty(const Segment& segment, std::uint32_t first, std::uint32_t count,
                                             std::uint32_t free_pages) const;
  std::uint32_t count_free();
  bool carving(const Segment& segment, std::uint32_t page) const;
  Word page_place(const Segment& segment, std::uint32_t page) const;
  void free_block(const PageOf& where, Word place);

  pool::View& view_;
  bool peers_write_;
  std::vector<Segment> segments_;  // in order of creation; the first has the desk
  std::vector<std::uint16_t> segment_index_ =
      std::vector<std::uint16_t>(65536, 0);  // 1 + position, by number
  Class classes_[class_count + 1];
  std::vector<Word> limbo_;
  std::vector<Word> withdrawn_;
  bool reserving_ = false;  // whether a page is reserved
  std::uint64_t bytes_owned_ = 0;
  std::uint64_t bytes_live_ = 0;
};

}  // namespace bailey::table
