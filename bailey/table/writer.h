// Writer: how records come into the table, are replaced and go.
//
// Exclusive mode has one writer: slots are stored, blocks are free at once. Shared mode has many:
//
//  Replacement. A writer announces the slot value that it means to replace on its desk, loads the slot again,
//  and only then reads the record and does its CAS. An owner that wants to reuse a block loads all desks
//  after the block left the index. So either the announcement is seen and the block stays as it is, or the
//  second load of the slot sees the change. A slot value therefore can't come back between load and CAS (no
//  ABA), and the version that put_if_version compared is the version that it replaces.
//
//  Insertion. A slot is first *tentative*, which readers and updaters don't see. The inserter then looks
//  through the whole chain again. A record of its key: it withdraws. Another tentative slot with its tag: the
//  one that is first in the chain wins; the later one withdraws and waits a bounded time, after which it
//  clears the other (its writer may be dead or stopped). What is left is made final by CAS, which fails where
//  somebody cleared it. Two inserters each look after each has placed, so at least one sees the other: two
//  records of one key are never both final. (After Purcell and Harris, "Non-blocking hashtables with open
//  addressing", 2005, where members, inserters and collisions are told apart in the same way.)
//
//  Leaving. When somebody loses the right to read, all writers leave their segments (attended()). A segment
//  that was left is never written again: it is frozen like a dead writer's, what lives in it is read there,
//  moved out by whoever needs room, and given back. In this order, each step before the next:
//   1. the writer withdraws its announcement, the last thing that it writes into what it leaves;
//   2. it says Attend, between two looks at the index: it holds no slot value that it means to replace, so
//   that
//      no announcement has to be carried over;
//   3. the broker freezes its segments, and its desk counts no more;
//   4. the writer forgets its books and mappings of them;
//   5. before its next announcement it takes a segment, whose desk counts from before it is given to anybody.
//  A record in a segment that was left is not marked busy when it is replaced: readers validate it by its
//  slot, since its block is never used again.
//
//  Freeing. A block is marked busy only once the writer has seen, after its slot was replaced, that its view
//  is still current. A writer that was stopped in between and not waited for has replaced a slot of an index
//  that the others have left, and the copy that they use may still lead to the block.
//
// Nobody ever waits for another without a bound.
//
// Thread safety: one thread.
#pragma once

#include <utility>
#include <vector>

#include "bailey/table/examine.h"
#include "bailey/table/heap.h"
#include "bailey/table/index.h"

namespace bailey::table {

class Writer : pool::Owner {
 public:
  Writer(pool::View& view, const Geometry& geometry, Counters& counters);
  Writer(const Writer&) = delete;
  ~Writer() override { view_.set_owner(nullptr); }

  enum class Outcome : std::uint8_t { done, again, failed };

  // Does a write whose key and value are within the limits, and sets its version. False: nothing was written,
  // and take_failure() says why; of revoked and of what attending failed of it is open whether others saw the
  // write.
  // `presigned`: the write's, of a signed region's batch.
  bool write(Write& write, const Presigned* presigned = nullptr);
  // The usual case of it (write_at_once.h). again: nothing was done; ask write().
  template <bool sealed>
  Outcome write_at_once(Op op, std::string_view key, std::string_view value, std::uint64_t expected_version,
                        Home home, std::uint64_t& version);
  // Of a signed region's batch of at most crypto::batch_max writes, one for each, before they begin. What is
  // put under a version of its own meanwhile ends what is left of it: versions go up.
  void presign(std::span<const Write> writes, std::span<Presigned> presigned);
  Error take_failure() { return std::exchange(failure_, Error{}); }
  // Fetches what write() of this key will touch first, and second.
  void prefetch_bucket(const Home& home) const;
  void prefetch_record(const Home& home) const;

  // See Table::maintain.
  Result<std::size_t> maintain();

 private:
  // What a search found: the slot that holds the key's record; null where the key is absent.
  struct Hit {
    Word* slot = nullptr;
    Word seen = 0;  // the slot's value, announced in shared mode
    std::uint64_t version = 0;
  };

  // What runs at every write returns words, not Results: an Error is built where there is one, and waits in
  // failure_.
  bool search(const Wanted& wanted, Hit& hit);
  Seen examine(const Word* slot, Word seen, const Wanted& wanted, std::uint64_t& version);
  bool prepare(OwnBlock& block, const Home& home, std::string_view key, std::string_view value,
               const Presigned* presigned, std::uint64_t& version);
  bool prove(std::string_view key, std::string_view value, const Presigned* presigned,
             std::uint64_t& version);
  Outcome replace(const Hit& hit, Word desired);
  Outcome insert(const Home& home, Word slot_value, std::string_view key);
  Outcome settle(const Home& home, Word* own_slot, unsigned own_position, Word tentative_value,
                 std::string_view key);
  bool renew_counter();
  template <class T>
  bool keep_failure(Result<T>&& result) {
    if (result) return false;
    failure_ = std::move(result).error();
    return true;
  }
  Status refresh();
  void attended(bool left, bool late) override;
  bool begin_anew(OwnBlock& block);
  void fill(const OwnBlock& block, const Home& home, std::string_view key, std::string_view value,
            std::uint64_t version);
  bool stands(Word replaced);

  void announce(Word slot) {
    announced_now_ = place_of(slot);
    medium::store_then_fence(&heap_.desk()->announced[0], announced_now_);
  }
  void withdraw_announcement() {
    if (announced_now_ == 0) return;
    announced_now_ = 0;
    medium::store_release(&heap_.desk()->announced[0], 0);
  }
  void unlinked(Word slot);

  // Space.
  Result<OwnBlock> allocate(std::uint64_t bytes);
  Result<OwnBlock> allocate_after_reclaim(std::uint64_t bytes);
  bool take_desk();
  Status grow(std::uint64_t bytes);
  Status open_desk();
  Status reclaim(bool pressed);
  Status collect();
  Status read_hints();
  void sweep();
  Result<bool> compact_own(std::uint64_t bytes);
  Result<std::vector<Word>> announced();
  Status refresh_members();
  Result<bool> referenced(Word place);

  // Moving records (evacuate.cc).
  struct Referrer {
    Word* slot = nullptr;
    Word value = 0;
  };
  Result<Referrer> referrer(const std::byte* record, std::uint64_t block_bytes, Word place);
  Status move_record(const Block& from, Word place);
  Result<std::uint64_t> live_bytes(pool::SegmentId id);
  enum class Emptied : std::uint8_t {
    yes,
    no_room,  // for what lives in it
    not_now,  // somebody else empties it or has emptied it, or announces a record of it
  };
  Result<Emptied> evacuate(pool::SegmentId id);
  Status evacuate_sparse(unsigned segments_most, bool pressed);

  pool::View& view_;
  const Geometry& geometry_;
  Counters& counters_;
  bool shared_;
  Heap heap_;
  std::uint32_t counter_ = 0;
  // Of a signed region: what was prepared last, which has the newest version of all that was.
  pool::Proof proof_;
  std::uint64_t proved_version_ = 0;
  Error failure_;
  bool late_ = false;  // the last attention said so
  // Slot values that were replaced when the view was not current, and what they led to is not freed yet.
  std::vector<Word> unsettled_;
  Word announced_now_ = 0;
  std::uint64_t bytes_at_last_sweep_ = 0;

  // Other writers and dead ones, as of membership_.
  struct Peer {
    pool::Desk desk;
    const bailey_desk* at = nullptr;
    std::uint64_t hints_read = 0;
  };
  std::vector<Peer> peers_;
  std::vector<pool::SegmentId> frozen_;
  std::uint64_t membership_ = ~std::uint64_t{0};
  // Which of frozen_ is looked at next. Each writer begins elsewhere: many that die young would else all look
  // at the same few, and leave the others as they are.
  std::size_t frozen_next_;
};

}  // namespace bailey::table
