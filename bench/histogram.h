// A histogram of durations: log-linear, of fixed size, to a relative error of 1/64.
//
// Trivially copyable and without pointers, so that it can live in a shared mapping: each process records into
// its own, the parent merges them. Below 128 ns every nanosecond has its own counter; above, each power of
// two is cut into 64 equal counters.
//
// Thread and process safety: one writer at a time; read it after the writer is done.
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

namespace bailey::bench {

class Histogram {
 public:
  // 100 s. Longer durations count as this in quantiles; max() and mean() stay exact.
  static constexpr std::uint64_t duration_ns_max = 100'000'000'000;

  void record(std::uint64_t ns) {
    ++counts_[counter_of(ns < duration_ns_max ? ns : duration_ns_max)];
    ++count_;
    sum_ns_ += ns;
    if (ns > max_ns_) max_ns_ = ns;
  }
  void merge(const Histogram& other);
  void clear() { *this = Histogram{}; }

  std::uint64_t count() const { return count_; }
  std::uint64_t max() const { return max_ns_; }
  double mean() const { return count_ == 0 ? 0 : static_cast<double>(sum_ns_) / static_cast<double>(count_); }
  // The duration that a share `q` (0..1) of all recorded ones does not exceed: at least the true one, and at
  // most 1/64 above it. 0 where nothing was recorded.
  std::uint64_t quantile(double q) const;

 private:
  static constexpr unsigned sub_bits = 6;  // 64 counters a power of two
  static constexpr std::uint64_t linear_max = 2u << sub_bits;
  static constexpr unsigned octaves = 30;  // 2^7 .. 2^37 ns, which is 137 s
  static constexpr unsigned counters = linear_max + octaves * (1u << sub_bits);

  static constexpr unsigned counter_of(std::uint64_t ns) {
    if (ns < linear_max) return static_cast<unsigned>(ns);
    const unsigned shift = 63u - static_cast<unsigned>(__builtin_clzll(ns)) - sub_bits;
    return static_cast<unsigned>((shift << sub_bits) + (ns >> shift));
  }
  static constexpr std::uint64_t highest_in(unsigned counter) {
    if (counter < linear_max) return counter;
    const unsigned shift = (counter >> sub_bits) - 1;
    const std::uint64_t top = counter - (std::uint64_t{shift} << sub_bits);
    return ((top + 1) << shift) - 1;
  }
  std::array<std::uint64_t, counters> counts_{};
  std::uint64_t count_ = 0;
  std::uint64_t sum_ns_ = 0;
  std::uint64_t max_ns_ = 0;
};
static_assert(std::is_trivially_copyable_v<Histogram>);

}  // namespace bailey::bench
