#include "bench/series.h"

#include <fmt/format.h>

namespace bailey::bench {
namespace {
constexpr std::uint64_t records_min = 10'000;
constexpr std::size_t order_keys = 1 << 18;
}  // namespace

Result<std::vector<BesideWriter>> run_beside_writer(std::vector<Contestant>& contestants,
                                                    const ContestOptions& options, const ValuePool& values,
                                                    Progress& progress) {
  const KeyOrder keys = KeyOrder::uniform(options.records, order_keys, options.seed);
  std::vector<BesideWriter> results;
  std::vector<Crew> crews;
  std::vector<Rate> writes(contestants.size());
  for (Contestant& contestant : contestants) {
    results.push_back({contestant.system.name, {}, {}, 0});
    crews.push_back(BAILEY_TRY(Crew::start(contestant.system, *contestant.store, 1, keys, values)));
    BAILEY_TRY(crews.back().order(Operation::get, 10 * options.slice_ns, false));
    BAILEY_TRY(crews.back().collect());
  }
  const unsigned slices = options.rounds * options.slices;
  for (unsigned slice = 0; slice < slices; ++slice) {
    progress.show(slice, slices, "get beside a writer");
    for (std::size_t i = 0; i < contestants.size(); ++i) {
      BAILEY_TRY(crews[i].order(Operation::get, options.slice_ns, true));
      results[i].alone.merge(BAILEY_TRY(crews[i].collect()).histogram);
      // The writer starts before the reader and ends after it.
      Measurer writer(*contestants[i].client, Operation::set, 1, values);
      std::size_t from = 0;
      BAILEY_TRY(writer.run(keys, from, options.warm_ns));
      BAILEY_TRY(crews[i].order(Operation::get, options.slice_ns, true));
      const Rate rate = BAILEY_TRY(writer.run(keys, from, options.slice_ns + options.warm_ns));
      contestants[i].client->rest();
      results[i].beside.merge(BAILEY_TRY(crews[i].collect()).histogram);
      writes[i].operations += rate.operations;
      writes[i].ns += rate.ns;
      results[i].writes_per_second = writes[i].per_second();
    }
  }
  return results;
}

Result<std::vector<Footprint>> run_footprint(const std::vector<System>& systems, std::uint64_t records_max,
                                             const ContestOptions& options, const ValuePool& values,
                                             const std::string& scratch, Progress& progress) {
  std::vector<Footprint> results;
  for (std::uint64_t records = records_min; records <= records_max; records *= 10) {
    std::vector<std::string> skipped;
    std::vector<Contestant> contestants =
        BAILEY_TRY(make_contestants(systems, records, 0, values, scratch, progress, skipped));
    ContestOptions one = options;
    one.records = records;
    one.operations = {Operation::get};
    one.clients = {1};
    const std::vector<Score> scores = BAILEY_TRY(run_contest(contestants, one, values, progress)).scores;
    for (const Score& score : scores)
      results.push_back({score.system, records, median(score.per_second), paired_ratio(scores[0], score)});
  }
  return results;
}

}  // namespace bailey::bench
