#include "bailey/table/heap.h"

#include <algorithm>

namespace bailey::table {

using medium::load_relaxed;
using medium::store_release;

// ---- places

inline Heap::Segment* Heap::find(pool::SegmentId id) const {
  std::uint16_t position = segment_index_[id];
  return position == 0 ? nullptr : const_cast<Segment*>(&segments_[position - 1u]);
}

[[gnu::always_inline]] inline Heap::PageOf Heap::page_of(Word place) const {
  Segment* segment = find(segment_of(place));
  if (segment == nullptr) return {};
  std::uint64_t offset = offset_of(place);
  if (offset < segment->extent.data_offset) return {};
  std::uint64_t page = (offset - segment->extent.data_offset) >> BAILEY_PAGE_SHIFT;
  if (page >= segment->pages.size()) return {};
  return {segment, static_cast<std::uint32_t>(page)};
}

Word Heap::page_place(const Segment& segment, std::uint32_t page) const {
  return make_slot(0, segment.id, segment.extent.data_offset + (std::uint64_t{page} << BAILEY_PAGE_SHIFT));
}

[[gnu::always_inline]] inline OwnBlock Heap::block(const PageOf& where, Word place) {
  const Page& page = where.segment->pages[where.page];
  OwnBlock own;
  own.place = place;
  own.record = where.segment->extent.base + offset_of(place);
  own.cls = page.cls;
  own.bytes =
      page.cls == BAILEY_CLASS_RUN ? std::uint64_t{page.run} * BAILEY_PAGE_BYTES : class_bytes[page.cls];
  return own;
}

[[gnu::always_inline]] inline bool Heap::starts(const PageOf& where, Word place) const {
  if (where.segment == nullptr) return false;
  const Page& about = where.segment->pages[where.page];
  auto in_page = static_cast<std::uint32_t>((offset_of(place) - where.segment->extent.data_offset) &
                                            (BAILEY_PAGE_BYTES - 1));
  if (about.cls == BAILEY_CLASS_FREE || about.continued) return false;
  return about.cls == BAILEY_CLASS_RUN ? in_page == 0 : starts_block(about.cls, in_page);
}

bool Heap::owns(Word place) const { return starts(page_of(place), place); }

OwnBlock Heap::at(Word place) const { return block(page_of(place), place); }

// ---- pages

// Order matters to readers of stale slots: first the page belongs to no class, then every place that is going
// to be a record word is busy, then the page has its class (invariants 1 and 2).
void Heap::set_page(Segment& segment, std::uint32_t page, unsigned cls, std::uint32_t run) {
  Page& about = segment.pages[page];
  Word* word = page_words(segment.extent) + page;
  Word counter = load_relaxed(word) >> BAILEY_PAGE_WORD_COUNTER_SHIFT;
  store_release(word, make_page_word(counter + 1, BAILEY_CLASS_FREE, 0));
  std::atomic_thread_fence(std::memory_order_release);
  if (cls != BAILEY_CLASS_FREE && about.used) {
    std::byte* start =
        segment.extent.base + segment.extent.data_offset + (std::uint64_t{page} << BAILEY_PAGE_SHIFT);
    std::uint32_t step = cls == BAILEY_CLASS_RUN ? BAILEY_PAGE_BYTES : class_bytes[cls];
    std::uint32_t count = cls == BAILEY_CLASS_RUN ? 1 : blocks_in_page(cls);
    for (std::uint32_t i = 0; i < count; ++i)
      medium::store_relaxed(reinterpret_cast<Word*>(start + std::uint64_t{i} * step), 1);
  }
  if (cls != BAILEY_CLASS_FREE) {
    store_release(word, make_page_word(counter + 2, cls, run));
    about.used = true;
    --segment.free_pages;
  } else {
    ++segment.free_pages;
    segment.search_from = std::min(segment.search_from, page);
  }
  about.cls = static_cast<std::uint8_t>(cls);
  about.run = run;
  about.continued = false;
}

std::optional<Word> Heap::take_page(unsigned cls) {
  // The newest segments first: the older ones get a chance to empty.
  for (auto segment = segments_.rbegin(); segment != segments_.rend(); ++segment) {
    if (segment->free_pages == 0) continue;
    for (std::uint32_t page = segment->search_from; page < segment->pages.size(); ++page) {
      const Page& about = segment->pages[page];
      if (about.cls != BAILEY_CLASS_FREE || about.continued || about.reserved) continue;
      segment->search_from = page + 1;
      set_page(*segment, page, cls, 0);
      return page_place(*segment, page);
    }
    segment->search_from = static_cast<std::uint32_t>(segment->pages.size());
  }
  return std::nullopt;
}

bool Heap::allocate_run(std::uint64_t bytes, OwnBlock& own) {
  auto run = static_cast<std::uint32_t>((bytes + BAILEY_PAGE_BYTES - 1) / BAILEY_PAGE_BYTES);
  for (Segment& segment : segments_) {
    if (segment.free_pages < run) continue;
    std::uint32_t length = 0;
    for (std::uint32_t page = 0; page < segment.pages.size(); ++page) {
      const Page& about = segment.pages[page];
      length = about.cls == BAILEY_CLASS_FREE && !about.continued && !about.reserved ? length + 1 : 0;
      if (length < run) continue;
      std::uint32_t first = page + 1 - run;
      // The pages behind the first belong to no class; their former record words can't be reached.
      for (std::uint32_t i = 1; i < run; ++i) {
        Page& behind = segment.pages[first + i];
        Word* word = page_words(segment.extent) + first + i;
        Word counter = load_relaxed(word) >> BAILEY_PAGE_WORD_COUNTER_SHIFT;
        store_release(word, make_page_word(counter + 1, BAILEY_CLASS_FREE, 0));
        behind.continued = true;
        behind.used = true;
        --segment.free_pages;
      }
      std::atomic_thread_fence(std::memory_order_release);
      set_page(segment, first, BAILEY_CLASS_RUN, run);
      own = block({&segment, first}, page_place(segment, first));
      medium::store_relaxed(reinterpret_cast<Word*>(own.record), 1);
      bytes_live_ += own.bytes;
      return true;
    }
  }
  return false;
}

// ---- blocks

bool Heap::allocate(std::uint64_t bytes, OwnBlock& own) {
  unsigned cls = class_of(bytes);
  if (cls == BAILEY_CLASS_RUN) return allocate_run(bytes, own);
  own = allocate_at_once(bytes);
  if (own.record != nullptr) return true;
  auto page = take_page(cls);
  if (!page) return false;
  classes_[cls].carve_next = *page;
  classes_[cls].carve_end =
      *page + std::uint64_t{blocks_in_page(cls)} * (class_bytes[cls] / BAILEY_BLOCK_UNIT);
  own = allocate_at_once(bytes);
  return true;
}

Status Heap::grow(std::uint64_t bytes) {
  pool::OwnSegment own = BAILEY_TRY(view_.create(bytes));
  Segment segment;
  segment.id = own.id;
  segment.extent = own.extent;
  segment.pages.resize(own.extent.pages);
  segment.free_pages = own.extent.pages;
  // A plain pool hands out segments that were used before; files are always new, and all their words 0.
  for (std::uint32_t page = 0; page < own.extent.pages; ++page)
    segment.pages[page].used = load_relaxed(page_words(own.extent) + page) != 0;
  segments_.push_back(std::move(segment));
  segment_index_[own.id] = static_cast<std::uint16_t>(segments_.size());
  bytes_owned_ += own.extent.bytes();
  return {};
}

void Heap::free_block(const PageOf& where, Word place) {
  auto [segment, page] = where;
  Page& about = segment->pages[page];
  if (about.cls != BAILEY_CLASS_RUN) {
    (about.reserved ? withdrawn_ : classes_[about.cls].free).push_back(place);
    return;
  }
  std::uint32_t run = about.run;
  set_page(*segment, page, BAILEY_CLASS_FREE, 0);
  for (std::uint32_t i = 1; i < run; ++i) {
    segment->pages[page + i].continued = false;
    ++segment->free_pages;
  }
}

void Heap::cancel(const OwnBlock& own) {
  auto* word = reinterpret_cast<Word*>(own.record);
  bytes_live_ -= own.bytes;
  store_release(word, load_relaxed(word) | 1);
  free_block(page_of(own.place), own.place);
}

bool Heap::release(Word slot) {
  const Word place = place_of(slot);
  const PageOf where = page_of(place);
  if (!starts(where, place)) return false;
  const OwnBlock own = block(where, place);
  auto* word = reinterpret_cast<Word*>(own.record);
  // A peer can make two slots lead to one record; the block is free once.
  if (busy(load_relaxed(word))) return true;
  bytes_live_ -= own.bytes;
  store_release(word, load_relaxed(word) | 1);
  if (peers_write_)
    limbo_.push_back(place);
  else
    free_block(where, place);
  return true;
}

void Heap::drain(const std::vector<Word>& announced) {
  std::size_t kept = 0;
  for (Word place : limbo_) {
    if (std::binary_search(announced.begin(), announced.end(), place))
      limbo_[kept++] = place;
    else
      free_block(page_of(place), place);
  }
  limbo_.resize(kept);
}

// ---- reclaiming pages

bool Heap::carving(const Segment& segment, std::uint32_t page) const {
  unsigned cls = segment.pages[page].cls;
  if (cls == BAILEY_CLASS_FREE || cls == BAILEY_CLASS_RUN) return false;
  const Class& list = classes_[cls];
  if (list.carve_next == list.carve_end) return false;
  PageOf carved = page_of(list.carve_next);
  return carved.segment == &segment && carved.page == page;
}

// Counts each page's free blocks; returns how many pages are free.
std::uint32_t Heap::count_free() {
  std::uint32_t free_pages = 0;
  for (Segment& segment : segments_) {
    free_pages += segment.free_pages;
    for (Page& page : segment.pages) page.free = 0;
  }
  for (Class& list : classes_)
    for (Word place : list.free) {
      PageOf where = page_of(place);
      ++where.segment->pages[where.page].free;
    }
  return free_pages;
}

// Takes the free blocks of some pages out of the lists and returns their live ones (complete, not in limbo).
std::vector<Word> Heap::withdraw(Segment& segment, std::uint32_t first, std::uint32_t count) {
  reserving_ = true;
  std::vector<Word> live;
  for (std::uint32_t page = first; page < first + count; ++page) {
    unsigned cls = segment.pages[page].cls;
    segment.pages[page].reserved = true;
    if (cls == BAILEY_CLASS_FREE) continue;
    std::erase_if(classes_[cls].free, [&](Word place) {
      PageOf where = page_of(place);
      if (where.segment != &segment || where.page != page) return false;
      withdrawn_.push_back(place);
      return true;
    });
    Word place = page_place(segment, page);
    for (std::uint32_t i = 0; i < blocks_in_page(cls); ++i, place += class_bytes[cls] / BAILEY_BLOCK_UNIT)
      if (!busy(load_relaxed(reinterpret_cast<Word*>(block({&segment, page}, place).record))))
        live.push_back(place);
  }
  return live;
}

std::size_t Heap::trim() {
  reserving_ = false;
  for (Segment& segment : segments_)
    for (std::uint32_t page = 0; page < segment.pages.size(); ++page) {
      if (!segment.pages[page].reserved) continue;
      segment.pages[page].reserved = false;
      segment.search_from = std::min(segment.search_from, page);
    }
  for (Word place : std::exchange(withdrawn_, {})) free_block(page_of(place), place);
  count_free();
  std::size_t trimmed = 0;
  bool any = false;
  for (Segment& segment : segments_)
    for (std::uint32_t page = 0; page < segment.pages.size(); ++page) {
      Page& about = segment.pages[page];
      if (about.cls == BAILEY_CLASS_FREE || about.cls == BAILEY_CLASS_RUN || carving(segment, page)) continue;
      if (about.free == blocks_in_page(about.cls)) any = true;
    }
  if (!any) return 0;
  auto whole = [&](Word place) {
    PageOf where = page_of(place);
    const Page& about = where.segment->pages[where.page];
    return about.free == blocks_in_page(about.cls) && !carving(*where.segment, where.page);
  };
  for (Class& list : classes_) std::erase_if(list.free, whole);
  for (Segment& segment : segments_)
    for (std::uint32_t page = 0; page < segment.pages.size(); ++page) {
      Page& about = segment.pages[page];
      if (about.cls == BAILEY_CLASS_FREE || about.cls == BAILEY_CLASS_RUN || carving(segment, page)) continue;
      if (about.free != blocks_in_page(about.cls)) continue;
      set_page(segment, page, BAILEY_CLASS_FREE, 0);
      ++trimmed;
    }
  return trimmed;
}

// Bytes that would have to move to empty some neighbouring pages; nothing where they can't be emptied or are
// empty.
std::optional<std::uint64_t> Heap::cost_to_empty(const Segment& segment, std::uint32_t first,
                                                 std::uint32_t count, std::uint32_t free_pages) const {
  struct Need {
    unsigned cls = 0;
    std::uint64_t live = 0;
    std::uint64_t free_inside = 0;
  };
  std::vector<Need> needs;
  std::uint64_t cost = 0;
  bool any = false;
  for (std::uint32_t page = first; page < first + count; ++page) {
    const Page& about = segment.pages[page];
    if (about.continued || about.cls == BAILEY_CLASS_RUN || carving(segment, page)) return std::nullopt;
    if (about.cls == BAILEY_CLASS_FREE) {
      --free_pages;
      continue;
    }
    any = true;
    auto need =
        std::find_if(needs.begin(), needs.end(), [&](const Need& known) { return known.cls == about.cls; });
    if (need == needs.end()) need = needs.insert(needs.end(), Need{about.cls, 0, 0});
    std::uint32_t live = blocks_in_page(about.cls) - about.free;
    need->live += live;
    need->free_inside += about.free;
    cost += std::uint64_t{live} * class_bytes[about.cls];
  }
  if (!any) return std::nullopt;
  for (const Need& need : needs) {
    std::uint64_t elsewhere = classes_[need.cls].free.size() - need.free_inside;
    if (need.live <= elsewhere) continue;
    std::uint64_t pages = (need.live - elsewhere + blocks_in_page(need.cls) - 1) / blocks_in_page(need.cls);
    if (pages > free_pages) return std::nullopt;
    free_pages -= static_cast<std::uint32_t>(pages);
  }
  return cost;
}

std::optional<std::vector<Word>> Heap::sparsest_pages(std::uint32_t count) {
  std::uint32_t free_pages = count_free();
  Segment* best = nullptr;
  std::uint32_t best_first = 0;
  std::uint64_t best_cost = ~std::uint64_t{0};
  for (Segment& segment : segments_)
    for (std::uint32_t first = 0; first + count <= segment.pages.size(); ++first) {
      auto cost = cost_to_empty(segment, first, count, free_pages);
      if (!cost || *cost >= best_cost) continue;
      best = &segment;
      best_first = first;
      best_cost = *cost;
    }
  if (best == nullptr) return std::nullopt;
  return withdraw(*best, best_first, count);
}

void Heap::for_each_complete(const std::function<void(Word)>& visit) {
  for (std::size_t s = 0; s < segments_.size(); ++s)
    for (std::uint32_t page = 0; page < segments_[s].pages.size(); ++page) {
      const Page& about = segments_[s].pages[page];
      if (about.cls == BAILEY_CLASS_FREE) continue;
      std::uint32_t count = about.cls == BAILEY_CLASS_RUN ? 1 : blocks_in_page(about.cls);
      std::uint32_t step = about.cls == BAILEY_CLASS_RUN ? 0 : class_bytes[about.cls] / BAILEY_BLOCK_UNIT;
      Word place = page_place(segments_[s], page);
      for (std::uint32_t i = 0; i < count; ++i, place += step)
        if (!busy(load_relaxed(reinterpret_cast<Word*>(block({&segments_[s], page}, place).record))))
          visit(place);
    }
}

std::vector<pool::SegmentId> Heap::empty_segments() const {
  std::vector<pool::SegmentId> empty;
  for (std::size_t s = 1; s < segments_.size(); ++s)
    if (segments_[s].free_pages == segments_[s].pages.size()) empty.push_back(segments_[s].id);
  return empty;
}

void Heap::forget(pool::SegmentId id) {
  std::size_t position = segment_index_[id] - 1u;
  bytes_owned_ -= segments_[position].extent.bytes();
  segments_.erase(segments_.begin() + static_cast<std::ptrdiff_t>(position));
  segment_index_[id] = 0;
  for (std::size_t s = position; s < segments_.size(); ++s)
    segment_index_[segments_[s].id] = static_cast<std::uint16_t>(s + 1);
}

void Heap::leave() {
  for (const Segment& segment : segments_) segment_index_[segment.id] = 0;
  segments_.clear();
  for (Class& list : classes_) list = Class{};
  limbo_.clear();
  withdrawn_.clear();
  reserving_ = false;
  bytes_owned_ = 0;
  bytes_live_ = 0;
}

}  // namespace bailey::table
