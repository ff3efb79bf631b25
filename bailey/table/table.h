// A key-value table in shared memory.
//
// Thread safety: a Table is for one thread at a time, a thread that wants its own opens its own. Any number
// of processes and threads, each with its own Table, use the same region at once. No lock is ever held: a
// holder that dies or stops at any instruction stops nobody.
//
// Keys are 0..4096 bytes, values 0..16 MiB, both of any content. Every operation is linearizable for its key;
// batches and scans are not atomic, each record in them is. Readers write nothing.
//
// Bounds: an operation that meets hostile or very busy peers gives up after `attempts_max` tries with
// `contended`, and after `chain_buckets_max` links with `corrupt`.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"
#include "bailey/pool/view.h"

namespace bailey::table {

inline constexpr std::size_t key_bytes_max = 4096;
inline constexpr std::size_t value_bytes_max = 16u << 20;
inline constexpr unsigned attempts_max = 512;
inline constexpr unsigned chain_buckets_max = 64;

enum class Mode : std::uint8_t {
  exclusive = 1,  // one writing session at a time; everything is enforced by the kernel
  shared = 2,     // any session with rw writes; needs a coherent medium
};

// Shape of a table's index. Fixed at creation, known from the broker (never read from memory that others
// write).
struct Geometry {
  Mode mode = Mode::exclusive;
  std::uint64_t hash_seed = 0;
  std::uint64_t buckets = 0;
  std::uint64_t overflow_buckets = 0;

  // For about `records` records: 3.5 of 7 slots in use on average.
  static Geometry plan(Mode mode, std::uint64_t records, std::uint64_t hash_seed);
  std::uint64_t index_bytes() const;
  // Whether an index of `bytes` can have this shape.
  bool fits(std::uint64_t bytes) const;
};

struct Found {
  std::size_t bytes = 0;  // of the value
  std::uint64_t version = 0;
};

// One key of a get_many; `key` and `out` are the caller's, the rest is filled in.
struct Get {
  std::string_view key;
  MutableBytes out;
  Code code{};  // meaningful where !ok
  bool ok = false;
  Found found;  // also filled where code is too_large: the size that `out` needs
};

enum class Op : std::uint8_t { put, insert, update, put_if_version, erase };

// One write of a batch; the last two members are filled in.
struct Write {
  Op op = Op::put;
  std::string_view key;
  std::string_view value;              // not for erase
  std::uint64_t expected_version = 0;  // for put_if_version; 0 expects that the key is absent
  Code code{};                         // meaningful where !ok
  bool ok = false;
  std::uint64_t version = 0;  // the record's new version
};

// Where a scan stands; a new one starts at the beginning. Valid in any process while the region lives.
struct Cursor {
  std::uint64_t bucket = 0;
  bool done = false;
};

struct Item {
  std::string key;
  std::string value;
  std::uint64_t version = 0;
};

// Counted since the table was opened, by this handle.
struct Counters {
  std::uint64_t retries = 0;         // attempts beyond the first
  std::uint64_t forged_entries = 0;  // slots that point to nothing valid
  std::uint64_t records_moved = 0;   // by compaction
  std::uint64_t segments_created = 0;
  std::uint64_t segments_retired = 0;
  std::uint64_t sweeps = 0;
};

class Writer;  // the owner's side: allocation, sweep, compaction (writer.h)

class Table {
 public:
  // Formats an index (all zeros) for this geometry; for whoever creates a region.
  static void format(MutableBytes index, const Geometry& geometry);

  // Opens over a view. A view that may write makes a table that may write.
  // Error: invalid_argument where the geometry does not fit the view's index; unsupported where `shared`
  // meets a medium that is not coherent.
  static Result<Table> open(std::unique_ptr<pool::View> view, const Geometry& geometry);

  Table(Table&&) noexcept;
  Table& operator=(Table&&) noexcept;
  ~Table();

  // Copies the value into `out`. Errors: not_found; too_large (nothing copied; the key's size is in
  // `bytes_needed` where given); contended; corrupt; revoked; unavailable.
  Result<Found> get(std::string_view key, MutableBytes out, std::size_t* bytes_needed = nullptr);
  // Same, into a string that grows to fit.
  Result<Found> get(std::string_view key, std::string& out);
  // Many at once, in prefetched groups: several times quicker than one by one. Each has its own outcome; the
  // call itself fails only where none could be tried.
  Status get_many(std::span<Get> gets);

  // All return the record's new version. Errors: too_large, quota, no_space, index_full, contended, corrupt,
  // denied (a read-only view), revoked (the write may or may not have happened), unavailable; timed_out where
  // the process was stopped in the middle for longer than others wait (likewise).
  Result<std::uint64_t> put(std::string_view key, std::string_view value);
  Result<std::uint64_t> insert(std::string_view key,
                               std::string_view value);  // exists where the key is there
  Result<std::uint64_t> update(std::string_view key, std::string_view value);  // not_found where it is not
  // version_mismatch where the record has another version; expected 0: the key must be absent.
  Result<std::uint64_t> put_if_version(std::string_view key, std::string_view value, std::uint64_t expected);
  Status erase(std::string_view key);  // not_found
  // Many at once, prefetched. Not atomic: each write has its own outcome.
  Status apply(std::span<Write> writes);

  // Appends up to about `items_max` items from the cursor on and moves it; a key present throughout a whole
  // scan comes at least once, one that comes or goes meanwhile may.
  Status scan(Cursor& cursor, std::size_t items_max, std::vector<Item>& items);

  // Compaction: moves what lives out of frozen segments that are at most half full, gives empty ones back.
  // Returns how many segments were given back. Writers do it by themselves when space is short; the janitor
  // calls it.
  Result<std::size_t> maintain();

  // What maintain would have to look at, and what is in use, for `region check`.
  pool::View& view();
  const Counters& counters() const;
  const Geometry& geometry() const;

 private:
  struct State;
  explicit Table(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace bailey::table
