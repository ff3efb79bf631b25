#include "bench/generator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "bench/key.h"

namespace bailey::bench {
namespace {

// Of how far counts are from what was expected, in units of what chance allows: about 1 where the law is
// right.
double chi_square_per_cell(const std::vector<double>& expected, const std::vector<std::uint64_t>& seen) {
  double sum = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double off = static_cast<double>(seen[i]) - expected[i];
    sum += off * off / expected[i];
  }
  return sum / static_cast<double>(expected.size());
}

std::vector<double> zipf_law(std::uint64_t items) {
  std::vector<double> law(items);
  for (std::uint64_t i = 0; i < items; ++i) law[i] = 1 / std::pow(static_cast<double>(i + 1), Zipfian::theta);
  const double sum = std::accumulate(law.begin(), law.end(), 0.0);
  for (double& p : law) p /= sum;
  return law;
}

TEST(Random, SameSeedSameNumbersOtherSeedOthers) {
  Random a(5), b(5), c(6);
  EXPECT_EQ(a.next(), b.next());
  EXPECT_NE(a.next(), c.next());
}

TEST(Random, BelowIsUniform) {
  Random random(1);
  constexpr std::uint64_t cells = 100, draws = 1'000'000;
  std::vector<std::uint64_t> seen(cells);
  for (std::uint64_t i = 0; i < draws; ++i) ++seen[random.below(cells)];
  const double off = chi_square_per_cell(std::vector<double>(cells, double{draws} / cells), seen);
  EXPECT_GT(off, 0.5);  // too even would be as wrong
  EXPECT_LT(off, 1.6);
}

// The algorithm of Gray et al. approximates the law: its first two ranks are exact, the others fit in sum.
TEST(Zipfian, FirstRanksAreExactAndTheTailFits) {
  constexpr std::uint64_t items = 1000, draws = 2'000'000;
  const Zipfian zipfian(items);
  const std::vector<double> law = zipf_law(items);
  Random random(2);
  std::vector<std::uint64_t> seen(items);
  for (std::uint64_t i = 0; i < draws; ++i) ++seen.at(zipfian.next(random));
  EXPECT_NEAR(static_cast<double>(seen[0]) / draws, law[0], 0.002);
  EXPECT_NEAR(static_cast<double>(seen[1]) / draws, law[1], 0.002);
  const auto share = [&](std::size_t from, std::size_t to) {
    double lawful = 0, drawn = 0;
    for (std::size_t i = from; i < to; ++i) lawful += law[i], drawn += static_cast<double>(seen[i]) / draws;
    return drawn / lawful;
  };
  EXPECT_NEAR(share(2, 10), 1, 0.15);
  EXPECT_NEAR(share(10, 100), 1, 0.05);
  EXPECT_NEAR(share(100, 1000), 1, 0.05);
}

TEST(Zipfian, GrownIsTheSameAsMadeLarge) {
  Zipfian grown(100);
  grown.grow(5000);
  const Zipfian made(5000);
  Random a(3), b(3);
  for (int i = 0; i < 10'000; ++i) EXPECT_EQ(grown.next(a), made.next(b));
}

TEST(Zipfian, StaysInRangeForFewItems) {
  for (std::uint64_t items : {1u, 2u, 3u}) {
    const Zipfian zipfian(items);
    Random random(4);
    std::vector<std::uint64_t> seen(items);
    for (int i = 0; i < 10'000; ++i) ++seen.at(zipfian.next(random));
    for (std::uint64_t i = 1; i < items; ++i) EXPECT_LT(seen[i], seen[i - 1]);
    EXPECT_GT(seen[items - 1], 0u);
  }
}

TEST(Zipfian, KnownSumIsRight) {
  // The sum for 10^10 ranks: the first 10^6 added up, the rest by the integral with half a term at each end.
  double sum = 0;
  constexpr double split = 1e6;
  for (double i = 1; i < split; ++i) sum += std::pow(i, -Zipfian::theta);
  const double last = static_cast<double>(ScrambledZipfian::ranks);
  sum += (std::pow(last, 1 - Zipfian::theta) - std::pow(split, 1 - Zipfian::theta)) / (1 - Zipfian::theta);
  sum += (std::pow(split, -Zipfian::theta) + std::pow(last, -Zipfian::theta)) / 2;
  EXPECT_NEAR(ScrambledZipfian::zeta_of_ranks, sum, 1e-6);
}

TEST(ScrambledZipfian, MostPopularIsTheHashOfRankZero) {
  constexpr std::uint64_t items = 1000, draws = 1'000'000;
  const ScrambledZipfian zipfian(items);
  Random random(5);
  std::vector<std::uint64_t> seen(items);
  for (std::uint64_t i = 0; i < draws; ++i) ++seen.at(zipfian.next(random));
  const double first = static_cast<double>(seen[fnv_hash64(0) % items]) / draws;
  // Its own popularity, and a thousandth of the ranks beyond the first two.
  EXPECT_NEAR(first, 1 / ScrambledZipfian::zeta_of_ranks, 0.003);
  for (std::uint64_t count : seen) EXPECT_GT(count, 0u);
}

TEST(Latest, NewestIsMostPopularAndFollowsInserts) {
  constexpr std::uint64_t draws = 200'000;
  Latest latest(1000);
  Random random(6);
  const std::vector<double> law = zipf_law(2000);
  std::vector<std::uint64_t> seen(2000);
  for (std::uint64_t i = 0; i < draws; ++i) EXPECT_LT(latest.next(random, 1000), 1000u);
  for (std::uint64_t i = 0; i < draws; ++i) ++seen.at(latest.next(random, 2000));
  EXPECT_NEAR(static_cast<double>(seen[1999]) / draws, law[0], 0.005);
  EXPECT_NEAR(static_cast<double>(seen[1998]) / draws, law[1], 0.005);
}

TEST(Key, HashAndTextAreYcsbs) {
  // FNV-1a over eight zero bytes is the offset basis times the prime to the eighth, then the absolute value.
  std::uint64_t hash = 0xcbf29ce484222325;
  for (int i = 0; i < 8; ++i) hash *= 1099511628211;
  const auto as_signed = static_cast<std::int64_t>(hash);
  EXPECT_EQ(fnv_hash64(0), static_cast<std::uint64_t>(as_signed < 0 ? -as_signed : as_signed));
  EXPECT_EQ(ycsb_key(0).view(), "user6284781860667377211");  // the first key of every YCSB run
  EXPECT_EQ(ycsb_key(123, false).view(), "user123");
  for (std::uint64_t i = 0; i < 100'000; ++i) EXPECT_LE(ycsb_key(i).bytes, ycsb_key_bytes_max);
}

}  // namespace
}  // namespace bailey::bench
