// View: how a structure reaches the memory of its region.
//
// A structure (table, and later memfile, graph, channel) is handed a View and knows nothing else: not which
// files there are, who gave them, nor which rungs of protection are on. Gates, encryption, flushes and delays
// happen here. A view has segments (number 1..65535, each a mapping, mostly read-only), an index (one
// mapping), a grant word, and a Backing that is asked for what is missing.
//
// Invariants
//  1. Whatever is loaded through a view may have been written by a hostile party: callers get words, and
//  check.
//  2. Only segments that this view created and has not left are writable, plus the index where the region's
//  mode
//     shares it.
//  3. An operation's last load is `current()`; if it says no, the operation calls `attend()` and, where that
//     succeeds, starts anew (reads) or stands (writes already published; see attend).
//  4. An operation's first load is `alive()`, a writing one's `current()`: in a forked child it says no,
//  since the child has not the
//     writable mappings (MADV_DONTFORK) and would fault on the first touch. The operation then returns what
//     `attend()` says: `forked`. Destructors touch no memory of the pool for the same reason.
//  5. Where a gate guards the pages (rung `pkey`) the view is closed() but within a Passage. The gate is
//  closed
//     too while the backing is asked, which may wait; a backing that touches the pages opens one of its own.
//
// Thread safety: one thread at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "bailey/abi/segment.h"
#include "bailey/base/bytes.h"
#include "bailey/base/error.h"

struct timespec;
namespace bailey::guard {
class Pin;
}

namespace bailey::pool {

class Sealer;

using SegmentId = std::uint16_t;

// A mapped segment. `pages` and `data_offset` come from the broker (or from the size of the file that it
// sealed), never from the segment's header.
struct Extent {
  std::byte* base = nullptr;
  std::uint32_t pages = 0;
  std::uint32_t data_offset = 0;

  std::uint64_t bytes() const { return data_offset + std::uint64_t{pages} * BAILEY_PAGE_BYTES; }
  // Shape of a segment file of `bytes`: as many whole pages as fit after header, desk and page words.
  // base stays null; pages is 0 where it is too small.
  static Extent shape(std::uint64_t bytes);
};

// A segment that the caller may write.
struct OwnSegment {
  SegmentId id = 0;
  Extent extent;
};

// The desk (abi/segment.h) of a live writer of the region.
struct Desk {
  std::uint32_t writer = 0;
  SegmentId segment = 0;
};

// What a view asks for when it lacks something: the broker's client, or a plain buffer in tests and
// benchmarks. Calls may take milliseconds; errors are unavailable (broker away), quota, no_space, revoked,
// io.
class Backing {
 public:
  virtual ~Backing() = default;

  // A mapping of somebody's segment, open or frozen. not_found where the number is not in use.
  virtual Result<Extent> map(SegmentId id) = 0;
  // Forgets a mapping that map() gave.
  virtual void unmap(SegmentId id, const Extent& extent) = 0;
  // A new segment with room for a record of `record_bytes`, writable by this view alone, zeroed and sealed.
  virtual Result<OwnSegment> create(std::uint64_t record_bytes) = 0;
  // Gives back a segment that nothing refers to any more: one's own, or a frozen one. Numbers are used again:
  // what is given back is the segment that this backing created or mapped under the number, or nothing
  // (not_found). A broker reuses no number while a session may have it mapped.
  virtual Status retire(SegmentId id) = 0;
  // The desks of all live writers of the region but this one, and of stopped ones; not of dead ones.
  virtual Result<std::vector<Desk>> desks() = 0;
  // Segments whose writer is dead or gone; they change no more.
  virtual Result<std::vector<SegmentId>> frozen() = 0;
  // A number that changes whenever desks() or frozen() would.
  virtual std::uint64_t membership() const = 0;
  // The grant word differs from what the view expects. Error: revoked. Otherwise fills in what changed.
  struct Attention {
    std::uint64_t expected_grant = 0;
    std::byte* index = nullptr;   // the index to use from now on (mapped by the backing)
    std::vector<SegmentId> gone;  // segments that were retired: the view drops its mappings
    // The view's own segments are frozen, and among `gone`: what lives in them is read like another's, and
    // nothing is written into them any more.
    bool left = false;
    // Nobody waited for this view: what it published in a shared index since it last was current may be lost.
    bool late = false;
  };
  virtual Result<Attention> attend() = 0;
  // A writer id that nobody had before, for when the counter of 32 bits is used up.
  virtual Result<std::uint32_t> fresh_writer_id() = 0;
};

// Named moments inside operations, where tests stop, kill or delay the caller.
enum class Step : std::uint8_t {
  slot_loaded,       // reader and writer: a slot matched, its record is not yet read
  record_copied,     // reader: copied, not yet validated
  record_written,    // writer: complete in its block, not yet published
  tentative_placed,  // insertion: others can see the tentative slot
  before_publish,    // writer: the next instruction is the CAS or store
  published,         // writer: the slot is replaced, the old block not yet freed
  bucket_claimed,    // an overflow bucket is claimed, not yet linked
};
class StepHook {
 public:
  virtual ~StepHook() = default;
  virtual void at(Step step) = 0;
};

// The structure behind a view that writes: it keeps private books of its own segments.
class Owner {
 public:
  virtual ~Owner() = default;
  // The view is up to date again. `left`: it has no own segments any more.
  virtual void attended(bool left, bool late) = 0;
};

struct ViewParts {
  std::byte* index = nullptr;
  std::uint64_t index_bytes = 0;
  bool index_writable = false;
  bool writable = false;  // whether create() may be called
  bool coherent = true;   // a medium where other parties' stores are seen without flushes
  std::uint32_t writer = 0;
  const std::uint64_t* grant_word = nullptr;
  std::uint64_t expected_grant = 0;
  // Not 0 in the process that opened the view; it lies on a page that the kernel wipes in a forked child
  // (MADV_WIPEONFORK). Null: the view's mappings are all inherited, and a child may go on with it.
  const std::uint64_t* alive_word = nullptr;
  // By which gates to the index and the segments are opened; the backing's. Null: they are open to all.
  guard::Pin* pin = nullptr;
};

class View {
 public:
  View(ViewParts parts, std::unique_ptr<Backing> backing);
  View(const View&) = delete;
  ~View();

  bool writable() const { return parts_.writable; }
  bool coherent() const { return parts_.coherent; }
  std::uint32_t writer() const { return parts_.writer; }
  std::byte* index() const { return parts_.index; }
  std::uint64_t index_bytes() const { return parts_.index_bytes; }
  // What is asked directly is asked within the gate, if there is one: see desks() and the others below.
  Backing& backing() { return *backing_; }
  // Whether an operation needs a Passage first (passage.h).
  bool closed() const { return closed_; }

  // The mapping of a segment, or null base where it is not mapped yet (ask find()).
  const Extent& extent(SegmentId id) const { return extents_[id]; }
  // Maps it if need be. Error: those of Backing::map.
  Result<const Extent*> find(SegmentId id);

  // Own segments.
  Result<OwnSegment> create(std::uint64_t record_bytes);
  Status retire(SegmentId id);

  // Whether this process has the view's mappings: false in a forked child. One line that is always in the
  // cache.
  bool alive() const { return __atomic_load_n(parts_.alive_word, __ATOMIC_RELAXED) != 0; }
  // Whether the grant and the layout are still those that the view knows, and the view this process's own.
  // The last load of every operation.
  [[gnu::always_inline]] bool current() const {
    return __atomic_load_n(parts_.grant_word, __ATOMIC_ACQUIRE) == parts_.expected_grant && alive();
  }
  // After current() said no. Success: the view is up to date again, go on. Error: revoked,
  // unavailable, forked.
  Status attend();
  Status renew_writer_id();
  // What the backing knows of others; see there.
  Result<std::vector<Desk>> desks();
  Result<std::vector<SegmentId>> frozen();
  std::uint64_t membership() const { return backing_->membership(); }
  // Sleeps, outside of the gate.
  void rest(const timespec& time);

  // Of an encrypted region; else null. A structure asks once an operation.
  Sealer* sealer() const { return sealer_.get(); }
  void set_sealer(std::unique_ptr<Sealer> sealer);
  // Of a signed region, whose Signatures these ask: whether a writer has a key; for one's own, before
  // anything is signed.
  Result<bool> learn_writer(std::uint32_t writer);
  Status prepare_to_sign();

  void set_owner(Owner* owner) { owner_ = owner; }
  void set_hook(StepHook* hook) { hook_ = hook; }
  [[gnu::always_inline]] void step(Step step) {
    if (hook_ != nullptr) [[unlikely]]
      hook_->at(step);
  }

 private:
  friend class Passage;
  void remember(SegmentId id, const Extent& extent);
  void forget(SegmentId id);
  template <class Call>
  auto outside(Call&& call);

  ViewParts parts_;
  bool closed_;
  std::unique_ptr<Backing> backing_;
  std::unique_ptr<Sealer> sealer_;
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  // By segment number. From calloc: of these large arrays only the pages that are used exist.
  std::unique_ptr<Extent[], Free> extents_;
  // By segment number: 1 + the membership at which the backing said that there is no such segment, so that a
  // forged slot costs one question and not one an operation.
  std::unique_ptr<std::uint64_t[], Free> absent_;
  std::vector<SegmentId> mapped_;  // those of which extents_ has a mapping
  Owner* owner_ = nullptr;
  StepHook* hook_ = nullptr;
};

}  // namespace bailey::pool
