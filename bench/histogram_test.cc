#include "bench/histogram.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "bailey/base/fd.h"
#include "bench/random.h"

namespace bailey::bench {
namespace {

std::uint64_t exact_quantile(const std::vector<std::uint64_t>& sorted, double q) {
  const auto rank = static_cast<std::size_t>(std::ceil(q * static_cast<double>(sorted.size())));
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

void expect_close(const Histogram& histogram, std::vector<std::uint64_t> samples) {
  std::sort(samples.begin(), samples.end());
  for (double q : {0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0}) {
    const std::uint64_t exact = exact_quantile(samples, q);
    const std::uint64_t told = histogram.quantile(q);
    EXPECT_GE(told, exact) << "q " << q;
    EXPECT_LE(static_cast<double>(told), static_cast<double>(exact) * 1.016) << "q " << q;
  }
  double sum = 0;
  for (std::uint64_t sample : samples) sum += static_cast<double>(sample);
  EXPECT_NEAR(histogram.mean(), sum / static_cast<double>(samples.size()), histogram.mean() * 1e-9);
  EXPECT_EQ(histogram.max(), samples.back());
  EXPECT_EQ(histogram.count(), samples.size());
}

TEST(Histogram, EmptySaysZero) {
  const Histogram histogram;
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.quantile(0.5), 0u);
  EXPECT_EQ(histogram.mean(), 0);
}

TEST(Histogram, SmallDurationsAreExact) {
  for (std::uint64_t ns = 0; ns < 128; ++ns) {
    Histogram histogram;
    histogram.record(ns);
    histogram.record(1'000'000);
    EXPECT_EQ(histogram.quantile(0.5), ns);
  }
}

TEST(Histogram, QuantilesAgreeWithSortedSamples) {
  Random random(1);
  std::vector<std::uint64_t> uniform, exponential, wide;
  Histogram of_uniform, of_exponential, of_wide;
  for (int i = 0; i < 200'000; ++i) {
    uniform.push_back(random.below(5000));
    exponential.push_back(static_cast<std::uint64_t>(-std::log(1 - random.unit()) * 2e5));
    wide.push_back(static_cast<std::uint64_t>(std::pow(10.0, random.unit() * 11)));  // 1 ns .. 100 s
    of_uniform.record(uniform.back());
    of_exponential.record(exponential.back());
    of_wide.record(wide.back());
  }
  expect_close(of_uniform, uniform);
  expect_close(of_exponential, exponential);
  expect_close(of_wide, wide);
}

TEST(Histogram, EveryPowerOfTwoAndItsNeighboursStayWithinTheError) {
  for (unsigned bit = 0; bit < 36; ++bit) {
    for (std::int64_t off : {-1, 0, 1}) {
      const std::uint64_t ns = (std::uint64_t{1} << bit) + static_cast<std::uint64_t>(off);
      Histogram histogram;
      histogram.record(ns);
      histogram.record(Histogram::duration_ns_max);
      expect_close(histogram, {ns, Histogram::duration_ns_max});
    }
  }
}

TEST(Histogram, LongerThanItsRangeKeepsMaxAndMean) {
  Histogram histogram;
  histogram.record(3 * Histogram::duration_ns_max);
  histogram.record(1);
  EXPECT_EQ(histogram.max(), 3 * Histogram::duration_ns_max);
  EXPECT_EQ(histogram.mean(), (3.0 * Histogram::duration_ns_max + 1) / 2);
  EXPECT_GE(histogram.quantile(1), Histogram::duration_ns_max);
}

TEST(Histogram, ProcessesRecordTheirOwnAndTheParentMerges) {
  auto mapping = Mapping::anonymous(2 * sizeof(Histogram));
  ASSERT_TRUE(mapping);
  auto* shared = new (mapping->data()) Histogram[2];
  std::vector<std::uint64_t> all;
  for (unsigned child = 0; child < 2; ++child) {
    std::vector<std::uint64_t> samples;
    Random random(child + 7);
    for (int i = 0; i < 10'000; ++i) samples.push_back(random.below(100'000 * (child + 1)));
    all.insert(all.end(), samples.begin(), samples.end());
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      for (std::uint64_t sample : samples) shared[child].record(sample);
      _exit(0);
    }
    int status = -1;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ASSERT_EQ(status, 0);
  }
  Histogram merged = shared[0];
  merged.merge(shared[1]);
  expect_close(merged, all);
}

}  // namespace
}  // namespace bailey::bench
