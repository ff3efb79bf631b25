// The workload on the protected table and on two baselines, in turns, so that what the machine does to one it
// does to all.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/histogram.h"
#include "bench/store.h"
#include "bench/workload.h"
#include "tools/demo/actor.h"
#include "tools/demo/ratio.h"

namespace bailey::demo {

inline constexpr std::size_t systems = 3;  // the broker's table, the same table unprotected, one lock
inline constexpr std::array<const char*, systems> system_names = {
    "Bailey, protected by processes", "the same table, unprotected", "one lock in one shared mapping"};

struct Timing {
  unsigned rounds = 0;
  std::uint64_t rate_ns = 0;     // a stretch that is only counted
  std::uint64_t latency_ns = 0;  // a stretch in which each call is timed
};

// Of one actor on one system.
struct Figures {
  std::vector<double> rates;  // operations a second, one a round
  bench::Histogram histogram;
  std::uint64_t missing = 0;
};

struct Price {
  std::array<std::vector<Figures>, systems> of;  // by system, then by actor
  // Of both actors together, a round.
  std::vector<double> rates(std::size_t system) const;
  // The protected table's rate over that of another system, from the same rounds.
  Ratio over(std::size_t system) const;
};

double median(std::vector<double> values);

// Stores of the baselines, made before the actors start, since these inherit them.
Result<std::vector<std::unique_ptr<bench::Store>>> make_baselines(const bench::Workload& workload);

// `actors` have opened their stores; the first one loads them. `step` is told how far it is, of 1.
Result<Price> measure(std::vector<Actor*> actors, const Timing& timing,
                      const std::function<void(double, const std::string&)>& step);

}  // namespace bailey::demo
