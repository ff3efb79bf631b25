#include "tools/demo/price.h"

#include <fmt/format.h>

#include <algorithm>

namespace bailey::demo {

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::vector<double> Price::rates(std::size_t system) const {
  std::vector<double> sums;
  for (const Figures& actor : of[system]) {
    sums.resize(std::max(sums.size(), actor.rates.size()));
    for (std::size_t round = 0; round < actor.rates.size(); ++round) sums[round] += actor.rates[round];
  }
  return sums;
}

Ratio Price::over(std::size_t system) const {
  const std::vector<double> ours = rates(0), theirs = rates(system);
  std::vector<double> ratios;
  for (std::size_t round = 0; round < std::min(ours.size(), theirs.size()); ++round)
    if (theirs[round] > 0) ratios.push_back(ours[round] / theirs[round]);
  if (ratios.empty()) return {0, 0, 0};
  const auto [least, most] = std::minmax_element(ratios.begin(), ratios.end());
  return {median(ratios), *least, *most};
}

Result<std::vector<std::unique_ptr<bench::Store>>> make_baselines(const bench::Workload& workload) {
  bench::StoreOptions options;
  options.records = workload.records;
  options.value_bytes = workload.value_bytes();
  std::vector<std::unique_ptr<bench::Store>> stores;
  stores.push_back(BAILEY_TRY(bench::make_plain_table(options, table::Mode::shared)));
  std::vector<bench::System> locked;
  bench::add_locked(locked);
  stores.push_back(BAILEY_TRY(locked.front().make(options)));
  return stores;
}

Result<Price> measure(std::vector<Actor*> actors, const Timing& timing,
                      const std::function<void(double, const std::string&)>& step) {
  Price price;
  for (auto& figures : price.of) figures.resize(actors.size());
  const double steps = systems * (1 + 2 * timing.rounds);
  double done = 0;
  const auto waiting = [&](const std::string& what) {
    return [&step, &done, steps, what] { step(done / steps, what); };
  };
  for (std::size_t system = 0; system < systems; ++system) {
    BAILEY_TRY(actors.front()->order({.task = Task::load, .store = static_cast<std::uint8_t>(system)}));
    BAILEY_TRY(actors.front()->wait(waiting("loading")));
    ++done;
  }
  for (unsigned round = 0; round < timing.rounds; ++round) {
    for (std::size_t turn = 0; turn < systems; ++turn) {
      // Each goes first in its turn.
      const std::size_t system = (turn + round) % systems;
      for (const bool timed : {false, true}) {
        const std::uint64_t budget = timed ? timing.latency_ns : timing.rate_ns;
        for (Actor* actor : actors)
          BAILEY_TRY(actor->order({.task = Task::run,
                                   .store = static_cast<std::uint8_t>(system),
                                   .timed = timed,
                                   .budget_ns = budget}));
        for (std::size_t i = 0; i < actors.size(); ++i) {
          BAILEY_TRY(actors[i]->wait(waiting(system_names[system])));
          Figures& figures = price.of[system][i];
          const Board& board = actors[i]->board();
          figures.missing += board.missing;
          if (timed)
            figures.histogram.merge(board.histogram);
          else
            figures.rates.push_back(board.rate.per_second());
        }
        ++done;
      }
    }
  }
  return price;
}

}  // namespace bailey::demo
