// The row of kind "table". Inside the room only.
#pragma once

#include "bailey/kinds/kinds.h"

namespace bailey::kinds {

Result<Report> check_table(pool::View& view, const table::Geometry& geometry);
Result<std::string> inspect_table(pool::View& view, const table::Geometry& geometry,
                                  const InspectOptions& options);

// Maps what the index leads to, what has a desk and what is frozen, and says which segments are mapped then.
Result<std::vector<pool::SegmentId>> map_segments(pool::View& view, const table::Geometry& geometry);

}  // namespace bailey::kinds
