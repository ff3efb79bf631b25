// The row of kind "raw": plain bytes without a layout. Inside the room only.
#pragma once

#include "bailey/kinds/kinds.h"

namespace bailey::kinds {

table::Geometry plan_raw(table::Mode mode, std::uint64_t records, std::uint64_t hash_seed);
void format_raw(MutableBytes index, const table::Geometry& geometry);
Result<Report> check_raw(pool::View& view, const table::Geometry& geometry);
Result<std::string> inspect_raw(pool::View& view, const table::Geometry& geometry,
                                const InspectOptions& options);

}  // namespace bailey::kinds
