// Two questions that the table of results does not answer.
//
// Thread safety: one thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/contest.h"

namespace bailey::bench {

// How long a get takes alone, and beside a client that writes as fast as it can; clients are processes
// (threads where a store is for one process).
struct BesideWriter {
  std::string system;
  Histogram alone;
  Histogram beside;
  double writes_per_second = 0;
};
Result<std::vector<BesideWriter>> run_beside_writer(std::vector<Contestant>& contestants,
                                                    const ContestOptions& options, const ValuePool& values,
                                                    Progress& progress);

// Gets a second as the number of records grows and caches stop helping.
struct Footprint {
  std::string system;
  std::uint64_t records = 0;
  double per_second = 0;
  Ratio ratio;  // the first system over this one
};
// For records 10 k, 100 k ... records_max. Systems are made anew for each size. The first one is the base of
// ratios.
Result<std::vector<Footprint>> run_footprint(const std::vector<System>& systems, std::uint64_t records_max,
                                             const ContestOptions& options, const ValuePool& values,
                                             const std::string& scratch, Progress& progress);

}  // namespace bailey::bench
