#include "bench/histogram.h"

#include <algorithm>
#include <cmath>

namespace bailey::bench {

void Histogram::merge(const Histogram& other) {
  static_assert(counter_of(linear_max) == linear_max && counter_of(linear_max - 1) == linear_max - 1);
  static_assert(counter_of(duration_ns_max) < counters);
  static_assert(highest_in(counter_of(1000)) >= 1000 && highest_in(counter_of(1000)) <= 1000 + 1000 / 64);
  for (unsigned i = 0; i < counters; ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  sum_ns_ += other.sum_ns_;
  max_ns_ = std::max(max_ns_, other.max_ns_);
}

std::uint64_t Histogram::quantile(double q) const {
  if (count_ == 0) return 0;
  const double wanted = std::ceil(std::clamp(q, 0.0, 1.0) * static_cast<double>(count_));
  const std::uint64_t rank = std::clamp<std::uint64_t>(static_cast<std::uint64_t>(wanted), 1, count_);
  std::uint64_t seen = 0;
  for (unsigned i = 0; i < counters; ++i) {
    seen += counts_[i];
    if (seen >= rank) return std::min(highest_in(i), max_ns_);
  }
  return max_ns_;
}

}  // namespace bailey::bench
