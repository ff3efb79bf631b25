// Which record comes next: the distributions of YCSB.
//
// Thread safety: an object is for one thread at a time.
#pragma once

#include <cstdint>

#include "bench/random.h"

namespace bailey::bench {

// Numbers 0 .. items - 1, of which 0 is the most popular, the next one less so ... by Zipf's law with an
// exponent of 0.99 (the algorithm of Gray et al., "Quickly generating billion-record synthetic databases",
// SIGMOD 1994).
class Zipfian {
 public:
  static constexpr double theta = 0.99;

  // items > 0. Takes time in proportion to `items`.
  explicit Zipfian(std::uint64_t items);
  // With the sum of 1/i^theta for i = 1 .. items already known.
  Zipfian(std::uint64_t items, double zeta);

  std::uint64_t next(Random& random) const;
  std::uint64_t items() const { return items_; }
  // More items from now on; takes time in proportion to how many more.
  void grow(std::uint64_t items);

 private:
  void derive();
  std::uint64_t items_;
  double zeta_;
  double alpha_;
  double eta_;
};

// Zipfian popularity, spread over 0 .. items - 1 by a hash, so that the popular ones are not neighbours. As
// in YCSB, popularity is drawn among 10^10 ranks, however many items there are: the shape does not change
// with the size.
class ScrambledZipfian {
 public:
  static constexpr std::uint64_t ranks = 10'000'000'000;
  static constexpr double zeta_of_ranks = 26.46902820178302;

  explicit ScrambledZipfian(std::uint64_t items) : zipfian_(ranks, zeta_of_ranks), items_(items) {}
  std::uint64_t next(Random& random) const;
  std::uint64_t items() const { return items_; }

 private:
  Zipfian zipfian_;
  std::uint64_t items_;
};

// The newest record is the most popular one.
class Latest {
 public:
  explicit Latest(std::uint64_t items) : zipfian_(items) {}
  // `items` records are there now: 0 .. items - 1; never fewer than before.
  std::uint64_t next(Random& random, std::uint64_t items) {
    if (items > zipfian_.items()) zipfian_.grow(items);
    return zipfian_.items() - 1 - zipfian_.next(random);
  }

 private:
  Zipfian zipfian_;
};

}  // namespace bailey::bench
