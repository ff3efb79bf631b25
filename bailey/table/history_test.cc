// Random histories of several processes on the real table, checked for linearizability, and the recorder's
// own tests.
#include "bailey/table/history.h"

#include <gtest/gtest.h>

#include <sched.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "bailey/table/history_client.h"
#include "bailey/table/scancheck.h"

namespace bailey::table {
namespace {

using pool::Step;

TEST(Recorder, AKilledProcessLeavesWhatItHadUnderWay) {
  auto recorder = Recorder::create(3, 10);
  ASSERT_TRUE(recorder);
  const pid_t child = spawn([&] {
    Operation& done = recorder->begin(Action::put, 1, 100);
    done.version = 7;
    recorder->end(done, Outcome::ok);
    Operation& pending = recorder->begin(Action::put, 1, 101);
    pending.version = 8;
    raise(SIGKILL);
  });
  EXPECT_EQ(wait_for(child).signal, SIGKILL);
  std::vector<Operation> history;
  recorder->append_to(history);
  ASSERT_EQ(history.size(), 2u);
  EXPECT_EQ(history[0].outcome, Outcome::ok);
  EXPECT_EQ(history[0].process, 3u);
  EXPECT_EQ(history[0].version, 7u);
  EXPECT_LE(history[0].start_ns, history[0].end_ns);
  EXPECT_EQ(history[1].outcome, Outcome::unknown);
  EXPECT_EQ(history[1].end_ns, never_ns);
  EXPECT_EQ(history[1].version, 0u);
  EXPECT_EQ(history[1].written, 101u);
}

TEST(Value, IsKnownByAllItsBytes) {
  std::string value, other;
  for (std::size_t bytes : {0, 1, 7, 8, 9, 15, 16, 17, 200, 70'001}) {
    const std::uint64_t id = value_id(5, 77, bytes);
    make_value(id, value);
    ASSERT_EQ(value.size(), bytes);
    if (bytes >= value_id_bytes) {
      EXPECT_EQ(value_id_of(value), id);
      make_value(value_id(5, 78, bytes), other);
      for (std::size_t at = 0; at < bytes; at += 1 + bytes / 50) {
        std::string torn = value;
        std::copy(other.begin() + static_cast<std::ptrdiff_t>(at), other.end(),
                  torn.begin() + static_cast<std::ptrdiff_t>(at));
        EXPECT_EQ(value_id_of(torn), torn == value   ? id
                                     : torn == other ? value_id_of(other)
                                                     : 0)
            << bytes << " " << at;
        torn = value;
        torn[at] = static_cast<char>(torn[at] ^ 1);
        EXPECT_NE(value_id_of(torn), id);
      }
    } else {
      std::vector<Operation> history(2);
      history[0] = {.written = id, .version = 9, .action = Action::put, .outcome = Outcome::ok};
      history[1] = {
          .observed = value_id_of(value), .version = 9, .action = Action::get, .outcome = Outcome::ok};
      resolve_short_values(history);
      EXPECT_EQ(history[1].observed, id);
      history[1].observed = value_id_of(value) ^ std::uint64_t{1} << 56;
      resolve_short_values(history);
      EXPECT_NE(history[1].observed, id);
    }
  }
}

// How many operations began while another process's operation on the same key was under way.
std::size_t overlaps(std::vector<Operation> history) {
  std::sort(history.begin(), history.end(), [](const Operation& a, const Operation& b) {
    return std::tie(a.key, a.start_ns) < std::tie(b.key, b.start_ns);
  });
  std::size_t count = 0;
  const Operation* latest = nullptr;  // of those before, the one that ends last
  for (const Operation& op : history) {
    if (op.end_ns == never_ns) continue;
    if (latest == nullptr || latest->key != op.key) {
      latest = &op;
      continue;
    }
    count += op.start_ns < latest->end_ns && op.process != latest->process ? 1 : 0;
    if (op.end_ns > latest->end_ns) latest = &op;
  }
  return count;
}

// What came out of a run, told in the test's report. `scanned_least`: keys that had to come in whole scans.
void check(Stage& stage, std::size_t operations_least, std::size_t overlaps_least,
           std::size_t scanned_least = 0) {
  ASSERT_EQ(stage.fault(), "");
  const std::vector<Operation> history = stage.history();
  std::map<Outcome, std::size_t> outcomes;
  for (const Operation& op : history) ++outcomes[op.outcome];
  EXPECT_GE(history.size(), operations_least);
  const LincheckReport report = lincheck(history);
  EXPECT_EQ(report.verdict, Verdict::linearizable) << report.text;
  const ScancheckReport scans = scancheck(history);
  EXPECT_EQ(scans.missing, "");
  EXPECT_GE(scans.keys, scanned_least);
  // The run would prove little if hardly anything worked or nothing collided.
  EXPECT_GT(outcomes[Outcome::ok], history.size() / 4);
  EXPECT_LT(outcomes[Outcome::unknown] + outcomes[Outcome::no_effect], history.size() / 100 + 100);
  const std::size_t overlapping = overlaps(history);
  EXPECT_GE(overlapping, overlaps_least);
  ::testing::Test::RecordProperty("overlaps", std::to_string(overlapping));
  ::testing::Test::RecordProperty("keys_of_scans", std::to_string(scans.keys));
  ::testing::Test::RecordProperty("operations", std::to_string(history.size()));
  ::testing::Test::RecordProperty("configurations", std::to_string(report.configurations));
  ::testing::Test::RecordProperty("unknown", std::to_string(outcomes[Outcome::unknown]));
  ::testing::Test::RecordProperty("no_effect", std::to_string(outcomes[Outcome::no_effect]));
}

// Makes all writers leave their segments now and then, in the middle of what they do.
class TellToLeave : public Dawdle {
 public:
  TellToLeave(unsigned seed, pool::PlainPool* pool) : Dawdle(seed), pool_(pool) {}
  void at(pool::Step step) override {
    if (pool_ != nullptr && ++steps_ % 5000 == 0) pool_->leave();
    Dawdle::at(step);
  }

 private:
  pool::PlainPool* pool_;
  unsigned steps_ = 0;
};

// All processes at once, each until its recorder is full. In exclusive mode the first writes and the others
// read.
void run_random(Stage& stage, bool fill, bool leaves = false) {
  std::vector<pid_t> children;
  for (unsigned process = 0; process < stage.options.processes; ++process) {
    children.push_back(spawn([&stage, process, fill, leaves] {
      const bool writes = stage.options.mode == Mode::shared || process == 0;
      TellToLeave dawdle(process + 1, leaves ? &*stage.pool : nullptr);
      Client client(stage, process, writes, &dawdle);
      if (fill && writes) {
        const unsigned writers = stage.options.mode == Mode::shared ? stage.options.processes : 1;
        for (std::uint64_t key = process; key < stage.options.keys; key += writers) client.put(key);
      }
      ++stage.shared().ready;
      while (stage.shared().ready < stage.options.processes) sched_yield();
      client.random_operations(writes);
    }));
  }
  for (pid_t child : children) {
    const Ended ended = wait_for(child);
    EXPECT_TRUE(ended.well()) << "signal " << ended.signal << ", exit code " << ended.code;
  }
}

TEST(HistoryExclusive, OneWriterAndReadersOnFewKeys) {
  Stage stage({.mode = Mode::exclusive, .processes = 3, .operations_max = 110'000, .keys = 8, .segments = 6});
  run_random(stage, false);
  check(stage, 300'000, 1'000, 1'000);
}

// The writer's records lie in segments that it left, and are read, replaced and moved out from there.
TEST(HistoryExclusive, TheWriterLeavesItsSegments) {
  Stage stage(
      {.mode = Mode::exclusive, .processes = 3, .operations_max = 60'000, .keys = 64, .segments = 24});
  run_random(stage, false, true);
  check(stage, 170'000, 1'000);
}

TEST(HistoryShared, AllLeaveTheirSegments) {
  Stage stage({.processes = 4, .operations_max = 50'000, .keys = 64, .segments = 64});
  run_random(stage, false, true);
  check(stage, 190'000, 1'000);
}

TEST(HistoryExclusive, OneWriterAndReadersOnManyKeys) {
  Stage stage(
      {.mode = Mode::exclusive, .processes = 3, .operations_max = 220'000, .keys = 100'000, .segments = 120});
  run_random(stage, true);
  check(stage, 600'000, 20, 1'000);
}

TEST(HistoryShared, AllWriteFewKeys) {
  Stage stage({.processes = 4, .operations_max = 100'000, .keys = 8, .segments = 16});
  run_random(stage, false);
  check(stage, 390'000, 1'000, 1'000);
}

TEST(HistoryShared, AllWriteManyKeys) {
  Stage stage({.processes = 4, .operations_max = 120'000, .keys = 100'000, .segments = 160});
  run_random(stage, true);
  check(stage, 470'000, 20);
}

// Everything meets in one chain: tags collide, buckets overflow, tentative slots get into each other's way.
TEST(HistoryShared, AllWriteOneChain) {
  Geometry geometry{.mode = Mode::shared, .hash_seed = 1, .buckets = 1, .overflow_buckets = 8};
  Stage stage({.processes = 3, .operations_max = 60'000, .keys = 24, .segments = 12, .geometry = geometry});
  run_random(stage, false);
  check(stage, 170'000, 1'000, 1'000);
}

// Only inserts and erases of one key: the race that a table most easily loses.
TEST(HistoryShared, InsertsRaceOnOneKey) {
  Stage stage({.processes = 3, .operations_max = 50'000, .keys = 1, .segments = 8});
  std::vector<pid_t> children;
  for (unsigned process = 0; process < 3; ++process) {
    children.push_back(spawn([&stage, process] {
      Dawdle dawdle(process + 1);
      Client client(stage, process, true, &dawdle);
      client.fixed_bytes = 24;
      ++stage.shared().ready;
      while (stage.shared().ready < 3) sched_yield();
      while (!client.recorder().full()) {
        const std::uint64_t dice = client.random()() % 8;
        dice < 4 ? client.insert(0) : dice < 7 ? client.erase(0) : client.get(0);
      }
    }));
  }
  for (pid_t child : children) EXPECT_TRUE(wait_for(child).well());
  check(stage, 150'000, 1'000);
}

// Only put_if_version of what was last seen: a counter that loses no step.
TEST(HistoryShared, PutIfVersionLosesNothing) {
  Stage stage({.processes = 3, .operations_max = 60'000, .keys = 2, .segments = 8});
  std::vector<pid_t> children;
  for (unsigned process = 0; process < 3; ++process) {
    children.push_back(spawn([&stage, process] {
      Dawdle dawdle(process + 1);
      Client client(stage, process, true, &dawdle);
      client.fixed_bytes = 40;
      ++stage.shared().ready;
      while (stage.shared().ready < 3) sched_yield();
      while (client.recorder().size() + 2 < client.recorder().capacity()) {
        const std::uint64_t key = client.random()() % 2;
        client.get(key);
        client.put_if_version(key, client.known_version(key));
      }
    }));
  }
  for (pid_t child : children) EXPECT_TRUE(wait_for(child).well());
  check(stage, 170'000, 1'000);
}

// A table whose scans leave out one of a hundred items must be found out by the histories above.
TEST(HistoryScans, AnItemThatIsLeftOutIsMissed) {
  Stage stage({.processes = 3, .operations_max = 20'000, .keys = 8, .segments = 16});
  run_random(stage, false);
  std::vector<Operation> history = stage.history();
  ASSERT_EQ(scancheck(history).missing, "");
  unsigned items = 0;
  std::erase_if(history, [&](const Operation& op) {
    return op.scan != 0 && op.action == Action::get && ++items % 100 == 0;
  });
  ASSERT_GT(items, 100u);
  EXPECT_NE(scancheck(history).missing, "");
}

// ---- deaths

class HistoryKilled : public ::testing::TestWithParam<Step> {};

// Two survivors work on while one process after the other is killed at the step.
TEST_P(HistoryKilled, SurvivorsGoOnAndNothingContradicts) {
  constexpr unsigned survivors = 2, victims = 24;
  Geometry geometry{.mode = Mode::shared, .hash_seed = 1, .buckets = 2, .overflow_buckets = 40};
  Stage stage({.processes = survivors + victims + 1,
               .operations_max = 200'000,
               .keys = 40,
               .segments = 3 * (survivors + victims + 1),
               .segment_bytes = 512 << 10,
               .geometry = geometry});
  std::vector<pid_t> children;
  for (unsigned process = 0; process < survivors; ++process) {
    children.push_back(spawn([&stage, process] {
      Dawdle dawdle(process + 1);
      Client client(stage, process, true, &dawdle);
      client.bytes_least = 8;
      ++stage.shared().ready;
      client.random_operations(true, &stage.shared().stop);
    }));
  }
  while (stage.shared().ready < survivors) sched_yield();
  for (unsigned process = survivors; process < survivors + victims; ++process) {
    const pid_t victim = spawn([&stage, process] {
      StopAt kill_at(GetParam(), SIGKILL, (process * 37) % 50);
      Client client(stage, process, true, &kill_at);
      client.bytes_least = 8;
      client.random_operations(true);
    });
    EXPECT_EQ(wait_for(victim).signal, SIGKILL);
    stage.pool->writer_died(stage.board(process).writer);
  }
  stage.shared().stop = 1;
  for (pid_t child : children) {
    const Ended ended = wait_for(child);
    EXPECT_TRUE(ended.well()) << "signal " << ended.signal << ", exit code " << ended.code;
  }
  // One who comes after them all finds a table that works.
  Client last(stage, survivors + victims, true);
  for (std::uint64_t key = 0; key < stage.options.keys; ++key) {
    EXPECT_EQ(last.put(key), Outcome::ok) << key << ": " << last.last_refusal.to_string();
    EXPECT_EQ(last.get(key), Outcome::ok) << key << ": " << last.last_refusal.to_string();
  }
  EXPECT_TRUE(last.table().maintain());
  check(stage, 1000, 20, 100);
}

std::string step_name(const ::testing::TestParamInfo<Step>& info) {
  static constexpr const char* names[] = {"SlotLoaded",      "RecordCopied",  "RecordWritten",
                                          "TentativePlaced", "BeforePublish", "Published"};
  return names[static_cast<std::size_t>(info.param)];
}
INSTANTIATE_TEST_SUITE_P(AtEachStep, HistoryKilled,
                         ::testing::Values(Step::slot_loaded, Step::record_copied, Step::record_written,
                                           Step::tentative_placed, Step::before_publish, Step::published),
                         step_name);

// A chain grows only now and then, so this step has a test of its own: the claimed buckets of the dead are
// used.
TEST(HistoryKilledAtBucketClaimed, NoBucketIsLost) {
  constexpr unsigned overflow = 9, victims = 2 * overflow;
  constexpr std::uint64_t keys = BAILEY_BUCKET_SLOTS * (1 + overflow);
  Geometry geometry{.mode = Mode::shared, .hash_seed = 1, .buckets = 1, .overflow_buckets = overflow};
  Stage stage({.processes = victims + 1,
               .operations_max = 1000,
               .keys = keys + 1,
               .segments = 3 * victims,
               .segment_bytes = 256 << 10,
               .geometry = geometry});
  unsigned killed = 0;
  for (unsigned process = 0; process < victims; ++process) {
    const pid_t victim = spawn([&stage, process] {
      StopAt kill_at(Step::bucket_claimed, SIGKILL, process % 2);
      Client client(stage, process, true, &kill_at);
      client.fixed_bytes = 32;
      for (std::uint64_t key = 0; key < keys; ++key) client.insert(key);
    });
    killed += wait_for(victim).signal == SIGKILL ? 1 : 0;
    stage.pool->writer_died(stage.board(process).writer);
  }
  EXPECT_GE(killed, overflow);
  Client last(stage, victims, true);
  for (std::uint64_t key = 0; key < keys; ++key)
    EXPECT_EQ(last.put(key), Outcome::ok) << key << ": " << last.last_refusal.to_string();
  for (std::uint64_t key = 0; key < keys; ++key) EXPECT_EQ(last.get(key), Outcome::ok) << key;
  const auto over = last.table().put(Stage::key_text(keys), "one too many");
  ASSERT_FALSE(over);
  EXPECT_EQ(over.error().code, Code::index_full);
  EXPECT_EQ(stage.fault(), "");
  const LincheckReport report = lincheck(stage.history());
  EXPECT_EQ(report.verdict, Verdict::linearizable) << report.text;
}

// What the dead left must not keep a newcomer out: each writes a little, is killed, and the next one comes.
TEST(HistoryKilledOneAfterTheOther, NeverFillTheRegion) {
  constexpr unsigned victims = 60;
  Stage stage(
      {.processes = victims, .operations_max = 100, .keys = 4, .segments = 8, .segment_bytes = 256 << 10});
  for (unsigned process = 0; process < victims; ++process) {
    const pid_t victim = spawn([&stage, process] {
      Client client(stage, process, true);
      client.fixed_bytes = 600;
      for (int round = 0; round < 3; ++round)
        for (std::uint64_t key = 0; key < 4; ++key)
          if (client.put(key) != Outcome::ok) client.fault(client.last_refusal.to_string());
      raise(SIGKILL);
    });
    EXPECT_EQ(wait_for(victim).signal, SIGKILL);
    stage.pool->writer_died(stage.board(process).writer);
    ASSERT_EQ(stage.fault(), "") << stage.pool->segments_in_use() << " of " << stage.pool->segments_max()
                                 << " segments are in use";
  }
  const LincheckReport report = lincheck(stage.history());
  EXPECT_EQ(report.verdict, Verdict::linearizable) << report.text;
}

// Where all segments are the dead's, none is left for a newcomer to begin with; but nearly all is garbage.
TEST(HistoryKilledTogether, ANewcomerFindsRoom) {
  constexpr unsigned victims = 3;
  Stage stage({.processes = victims + 1,
               .operations_max = 100,
               .keys = 1,
               .segments = victims,
               .segment_bytes = 256 << 10});
  std::vector<pid_t> children;
  for (unsigned process = 0; process < victims; ++process) {
    children.push_back(spawn([&stage, process] {
      Client client(stage, process, true);
      client.fixed_bytes = 600;
      client.put(0);
      ++stage.shared().ready;
      while (stage.shared().ready < victims) sched_yield();
      raise(SIGKILL);
    }));
  }
  for (pid_t child : children) EXPECT_EQ(wait_for(child).signal, SIGKILL);
  for (unsigned process = 0; process < victims; ++process)
    stage.pool->writer_died(stage.board(process).writer);
  EXPECT_EQ(stage.pool->segments_in_use(), victims);
  Client last(stage, victims, true);
  EXPECT_EQ(last.put(0), Outcome::ok) << last.last_refusal.to_string();
  EXPECT_EQ(last.get(0), Outcome::ok);
  const LincheckReport report = lincheck(stage.history());
  EXPECT_EQ(report.verdict, Verdict::linearizable) << report.text;
}

}  // namespace
}  // namespace bailey::table
