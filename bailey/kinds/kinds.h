// The one list of structures that a region can hold: name, files needed, format, check, inspect.
//
// A new structure is a new room on floor 6 and one row here; broker and tools learn of it from the list.
//
// check and inspect read a region that others may be writing, and trust nothing that they find: a slot counts
// as damaged only if it is still there after it was looked at. They never write.
//
// Thread safety: the list is immutable; check and inspect use the view, which is for one thread at a time.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"
#include "bailey/pool/view.h"
#include "bailey/table/table.h"

namespace bailey::kinds {

// What check() found of one sort.
struct Finding {
  enum class Grade : std::uint8_t {
    note,    // worth knowing; nothing is lost: leftovers of a death that the next writer clears, things not
             // checked
    damage,  // somebody wrote what no writer that keeps to the protocol leaves
  };
  Grade grade = Grade::note;
  std::string problem;      // "slot leads to a block that is not a record"
  std::uint64_t count = 0;  // how many of them; 0 for a statement about the whole
  std::string example;      // where the first is: "bucket 12, slot 3: 0x..."
};

struct Report {
  std::uint64_t records = 0;
  std::uint64_t key_bytes = 0;
  std::uint64_t value_bytes = 0;
  std::uint64_t slots = 0;  // in use or not, overflow buckets in chains included
  std::uint64_t buckets_overflowing = 0;
  std::uint64_t segments = 0;  // that the index leads to, that have a desk or are frozen
  std::vector<Finding> findings;

  // Whether there is no damage.
  bool sound() const;
  // For people, one finding a line.
  std::string to_string() const;
};

struct InspectOptions {
  bool contents = false;              // whether keys and values are printed, not only their sizes
  std::uint64_t lines_max = 100'000;  // the dump ends with a line that says so
};

struct Kind {
  std::string_view name;

  // Files needed: an index of this shape, and segments as they fill.
  table::Geometry (*plan)(table::Mode mode, std::uint64_t records, std::uint64_t hash_seed);
  // Formats a zeroed index of geometry.index_bytes().
  void (*format)(MutableBytes index, const table::Geometry& geometry);
  // Walks all of it. Errors: those of the view (revoked, unavailable, forked); damage is in the report.
  Result<Report> (*check)(pool::View& view, const table::Geometry& geometry);
  // The layout as text: each field with its offset, bytes and meaning.
  Result<std::string> (*inspect)(pool::View& view, const table::Geometry& geometry,
                                 const InspectOptions& options);
};

std::span<const Kind> all();
// Null where there is none.
const Kind* find(std::string_view name);

}  // namespace bailey::kinds
