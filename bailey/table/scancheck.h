// Whether scans of a recorded history left something out: a key that is there throughout a whole scan comes
// at least once. What came must also have been there; lincheck tells, since items are recorded as gets.
//
// A key counts as there throughout where a write of it was acknowledged before the scan began and no erase of
// it can have had its instant after that write and before the scan's end. Thread safety: there is no shared
// state.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "bailey/table/lincheck.h"

namespace bailey::table {

struct ScancheckReport {
  std::size_t scans = 0;  // whole ones
  std::size_t keys = 0;   // that had to come, over all scans
  std::string missing;    // the first that did not: for people; empty where all came
};

// The history may be in any order; a scan that did not end is left out.
ScancheckReport scancheck(std::span<const Operation> history);

}  // namespace bailey::table
