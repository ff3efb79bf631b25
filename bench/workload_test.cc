#include "bench/workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <thread>

#include "bench/key.h"

namespace bailey::bench {
namespace {

using ::testing::HasSubstr;

std::string refusal(std::string_view text) {
  const Result<Workload> parsed = parse_workload(text, "w");
  return parsed ? "accepted" : parsed.error().message;
}

TEST(Workload, ReadsWhatYcsbWrites) {
  const auto parsed = parse_workload(
      "# a comment\n! another\n\n  recordcount = 5000  "
      "\r\noperationcount=7\nworkload=site.ycsb.workloads.CoreWorkload\n"
      "readallfields=true\nreadproportion=0.5\nupdateproportion=0.1\nscanproportion=0.1\ninsertproportion=0."
      "1\n"
      "readmodifywriteproportion=0.2\nrequestdistribution=latest\nmaxscanlength:33\nfieldcount="
      "4\nfieldlength=8\n"
      "insertorder=ordered",
      "w");
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->records, 5000u);
  EXPECT_EQ(parsed->operations, 7u);
  EXPECT_EQ(parsed->read_modify_write, 0.2);
  EXPECT_EQ(parsed->distribution, Distribution::latest);
  EXPECT_EQ(parsed->scan_items_max, 33u);
  EXPECT_EQ(parsed->value_bytes(), 32u);
  EXPECT_FALSE(parsed->keys_hashed);
  EXPECT_TRUE(parsed->warnings.empty());
}

TEST(Workload, DefaultsAreYcsbs) {
  const auto parsed = parse_workload("", "w");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->read, 0.95);
  EXPECT_EQ(parsed->update, 0.05);
  EXPECT_EQ(parsed->value_bytes(), 1000u);
  EXPECT_EQ(parsed->distribution, Distribution::uniform);
  EXPECT_TRUE(parsed->keys_hashed);
}

TEST(Workload, UnknownKeyIsAWarningWithItsLine) {
  const auto parsed = parse_workload("recordcount=10\nredis.host=here\n", "w");
  ASSERT_TRUE(parsed);
  ASSERT_EQ(parsed->warnings.size(), 1u);
  EXPECT_THAT(parsed->warnings[0], HasSubstr("w:2: property redis.host"));
}

TEST(Workload, MalformedValuesNameFileAndLine) {
  EXPECT_THAT(refusal("\nrecordcount=many"), HasSubstr("w:2: recordcount=many"));
  EXPECT_THAT(refusal("recordcount=-5"), HasSubstr("w:1: recordcount=-5"));
  EXPECT_THAT(refusal("recordcount=0"), HasSubstr("w:1:"));
  EXPECT_THAT(refusal("recordcount=99999999999999999999999"), HasSubstr("w:1:"));
  EXPECT_THAT(refusal("recordcount=10k"), HasSubstr("w:1:"));
  EXPECT_THAT(refusal("recordcount="), HasSubstr("w:1:"));
  EXPECT_THAT(refusal("readproportion=1.5"), HasSubstr("from 0 to 1"));
  EXPECT_THAT(refusal("readproportion=nan"), HasSubstr("from 0 to 1"));
  EXPECT_THAT(refusal("readproportion=0.5x"), HasSubstr("from 0 to 1"));
  EXPECT_THAT(refusal("requestdistribution=hotspot"), HasSubstr("uniform, zipfian or latest"));
  EXPECT_THAT(refusal("insertorder=random"), HasSubstr("hashed or ordered"));
  EXPECT_THAT(refusal("a line without a sign"), HasSubstr("w:1:"));
  EXPECT_THAT(refusal("=5"), HasSubstr("w:1:"));
  EXPECT_THAT(refusal("recordcount=5\\\n0"), HasSubstr("must be on one line"));
  EXPECT_THAT(refusal("readproportion=0.5\nupdateproportion=0.2"), HasSubstr("add up to 0.7"));
  EXPECT_THAT(refusal("fieldcount=10000\nfieldlength=10000"), HasSubstr("more than"));
}

TEST(Workload, MissingFileIsTold) { EXPECT_FALSE(read_workload("/nonexistent/workload")); }

TEST(Workload, ShippedFilesHaveTheStandardProportions) {
  struct Standard {
    const char* name;
    double read, update, insert, rmw;
    Distribution distribution;
  };
  for (const Standard& standard : {Standard{"a", 0.5, 0.5, 0, 0, Distribution::zipfian},
                                   Standard{"b", 0.95, 0.05, 0, 0, Distribution::zipfian},
                                   Standard{"c", 1, 0, 0, 0, Distribution::zipfian},
                                   Standard{"d", 0.95, 0, 0.05, 0, Distribution::latest},
                                   Standard{"f", 0.5, 0, 0, 0.5, Distribution::zipfian}}) {
    const auto workload =
        read_workload(std::string(BAILEY_BENCH_FOLDER "/workloads/workload") + standard.name);
    ASSERT_TRUE(workload) << workload.error().message;
    EXPECT_TRUE(workload->warnings.empty());
    EXPECT_EQ(workload->read, standard.read) << standard.name;
    EXPECT_EQ(workload->update, standard.update) << standard.name;
    EXPECT_EQ(workload->insert, standard.insert) << standard.name;
    EXPECT_EQ(workload->scan, 0) << standard.name;
    EXPECT_EQ(workload->read_modify_write, standard.rmw) << standard.name;
    EXPECT_EQ(workload->distribution, standard.distribution) << standard.name;
  }
}

struct Drawn {
  std::map<Kind, std::uint64_t> kinds;
  std::map<std::string, std::uint64_t, std::less<>> keys;
  std::uint64_t total = 0;
};

Drawn draw(const Workload& workload, const ClientShare& share, InsertCounter& counter) {
  const std::string values(1000, 'v');
  WorkloadSource source(workload, share, 100, values, counter, 9);
  Drawn drawn;
  Block block;
  while (true) {
    EXPECT_TRUE(source.next(block, 256));
    if (block.size() == 0) return drawn;
    EXPECT_LE(block.size(), 256u);
    for (const Request& request : block.requests()) {
      ++drawn.kinds[request.kind];
      ++drawn.keys[std::string(request.key)];
      ++drawn.total;
      if (request.kind == Kind::insert) counter.acknowledge(request.insert_number);
      if (request.kind == Kind::update) {
        EXPECT_EQ(request.value.size(), 100u);
      }
    }
  }
}

TEST(WorkloadSource, KindsComeInTheirProportions) {
  Workload workload;
  workload.records = 1000;
  workload.operations = 400'000;
  workload.read = 0.4, workload.update = 0.3, workload.insert = 0.1, workload.scan = 0.05;
  workload.read_modify_write = 0.15;
  const auto counter = std::make_unique<InsertCounter>(workload.records);
  const Drawn drawn = draw(workload, {0, 1, true, workload.operations}, *counter);
  EXPECT_EQ(drawn.total, workload.operations);
  const auto share = [&](Kind kind) {
    return static_cast<double>(drawn.kinds.at(kind)) / static_cast<double>(drawn.total);
  };
  EXPECT_NEAR(share(Kind::read), 0.4, 0.005);
  EXPECT_NEAR(share(Kind::update), 0.3, 0.005);
  EXPECT_NEAR(share(Kind::insert), 0.1, 0.005);
  EXPECT_NEAR(share(Kind::scan), 0.05, 0.005);
  EXPECT_NEAR(share(Kind::read_modify_write), 0.15, 0.005);
  EXPECT_EQ(counter->acknowledged(), workload.records + drawn.kinds.at(Kind::insert));
}

TEST(WorkloadSource, NobodyAsksForWhatIsNotThere) {
  for (Distribution distribution : {Distribution::uniform, Distribution::zipfian, Distribution::latest}) {
    Workload workload;
    workload.records = 100;
    workload.operations = 20'000;
    workload.read = 0.9, workload.update = 0, workload.insert = 0.1;
    workload.distribution = distribution;
    const auto counter = std::make_unique<InsertCounter>(workload.records);
    const Drawn drawn = draw(workload, {0, 1, true, workload.operations}, *counter);
    std::map<std::string, std::uint64_t, std::less<>> known;
    for (std::uint64_t i = 0; i < counter->acknowledged(); ++i) known[std::string(ycsb_key(i).view())] = i;
    for (const auto& [key, count] : drawn.keys)
      EXPECT_TRUE(known.contains(key)) << name(distribution) << " " << key;
  }
}

TEST(WorkloadSource, ClientThatMayNotWriteOnlyReads) {
  Workload workload;
  workload.read = 0, workload.update = 1;
  const auto counter = std::make_unique<InsertCounter>(workload.records);
  const Drawn drawn = draw(workload, {1, 2, false, 1000}, *counter);
  EXPECT_EQ(drawn.kinds.at(Kind::read), 1000u);
  EXPECT_EQ(drawn.kinds.size(), 1u);
}

TEST(InsertCounter, CountsOnlyUpToTheFirstGap) {
  const auto counter = std::make_unique<InsertCounter>(10);
  EXPECT_EQ(counter->take(), 10u);
  EXPECT_EQ(counter->take(), 11u);
  EXPECT_EQ(counter->take(), 12u);
  counter->acknowledge(11);
  EXPECT_EQ(counter->acknowledged(), 10u);
  counter->acknowledge(10);
  EXPECT_EQ(counter->acknowledged(), 12u);
  counter->acknowledge(12);
  EXPECT_EQ(counter->acknowledged(), 13u);
}

TEST(InsertCounter, NoneIsLostBetweenThreads) {
  const auto counter = std::make_unique<InsertCounter>(0);
  constexpr std::uint64_t each = 200'000;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (std::uint64_t i = 0; i < each; ++i) counter->acknowledge(counter->take());
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter->acknowledged(), 4 * each);
}

}  // namespace
}  // namespace bailey::bench
