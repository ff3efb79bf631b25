// Directed histories: a process is stopped at a named moment of its operation, the others change the world,
// then it goes on. What it then says must fit.
#include <gtest/gtest.h>

#include <algorithm>

#include "bailey/table/history_client.h"
#include "bailey/table/home.h"

namespace bailey::table {
namespace {

using pool::Step;

// One child that does one operation and is stopped in it; the parent is the other client.
class Stopped {
 public:
  Stopped(const StageOptions& options, Step step, const std::function<void(Client&)>& prepare,
          const std::function<void(Client&)>& operation, unsigned skip = 0)
      : stage(options) {
    child_ = spawn([&, this] {
      StopAt stop_at(step, SIGSTOP, skip);
      HookLater later(stop_at);
      Client client(stage, 0, true, &later);
      client.fixed_bytes = 200;
      prepare(client);
      later.armed = true;
      operation(client);
      if (!stop_at.fired()) client.fault("the operation never came to the step");
    });
    const Ended ended = wait_for(child_);
    EXPECT_TRUE(ended.stopped && ended.signal == SIGSTOP)
        << "signal " << ended.signal << " " << stage.fault();
  }
  ~Stopped() {
    if (child_ <= 0) return;
    kill(child_, SIGKILL);
    wait_for(child_);
  }

  void go_on() {
    const Ended ended = resume(child_);
    child_ = 0;
    EXPECT_TRUE(ended.well()) << "signal " << ended.signal << ", exit code " << ended.code;
    EXPECT_EQ(stage.fault(), "");
  }
  void die() {
    kill(child_, SIGKILL);
    EXPECT_EQ(wait_for(child_).signal, SIGKILL);
    child_ = 0;
    stage.pool->writer_died(stage.board(0).writer);
  }
  // The last operation of the child, the one that was stopped.
  Operation outcome() const {
    std::vector<Operation> all;
    stage.recorders[0].append_to(all);
    return all.back();
  }
  void check() {
    const LincheckReport report = lincheck(stage.history());
    EXPECT_EQ(report.verdict, Verdict::linearizable) << report.text;
  }

  Stage stage;

 private:
  class HookLater : public pool::StepHook {
   public:
    explicit HookLater(pool::StepHook& hook) : hook_(hook) {}
    void at(Step step) override {
      if (armed) hook_.at(step);
    }
    bool armed = false;

   private:
    pool::StepHook& hook_;
  };
  pid_t child_ = 0;
};

StageOptions small(Mode mode = Mode::shared) {
  return {.mode = mode,
          .processes = 4,
          .operations_max = 100'000,
          .keys = 64,
          .segments = 12,
          .segment_bytes = 512 << 10};
}

// Makes the parent's client and overwrites until all blocks of the size were used many times over.
void churn(Client& client, std::uint64_t key, unsigned times = 20'000) {
  for (unsigned i = 0; i < times; ++i)
    ASSERT_EQ(client.put(key), Outcome::ok) << client.last_refusal.to_string();
}
// All kinds of change: sizes, absence, other classes in the same pages.
void churn_wildly(Client& client, std::uint64_t key, unsigned times = 6'000) {
  for (unsigned i = 0; i < times; ++i) {
    client.fixed_bytes = i % 3 == 0 ? 200 : 8 + client.random()() % 1500;
    if (i % 7 == 0) client.erase(key);
    client.put(key);
    if (i % 50 == 0) client.put(1 + client.random()() % 60);
  }
  client.fixed_bytes = 200;
}

// ---- readers

struct ReaderCase {
  Mode mode;
  Step step;
};
class StoppedReader : public ::testing::TestWithParam<ReaderCase> {};

TEST_P(StoppedReader, ReturnsOneWholeValueWhateverHappenedMeanwhile) {
  for (bool wildly : {false, true}) {
    // The parent is the only writer.
    Stage shared(small(GetParam().mode));
    Client writer(shared, 1, true);
    writer.fixed_bytes = 200;
    ASSERT_EQ(writer.put(0), Outcome::ok);
    const pid_t child = spawn([&] {
      StopAt stop_at(GetParam().step, SIGSTOP);
      Client reader(shared, 0, false, &stop_at);
      reader.get(0);
      if (!stop_at.fired()) reader.fault("the get never came to the step");
    });
    ASSERT_TRUE(wait_for(child).stopped) << shared.fault();
    if (wildly) {
      churn_wildly(writer, 0);
    } else {
      churn(writer, 0);
    }
    EXPECT_TRUE(resume(child).well());
    EXPECT_EQ(shared.fault(), "");
    const LincheckReport report = lincheck(shared.history());
    EXPECT_EQ(report.verdict, Verdict::linearizable) << report.text;
    // It is not enough to give up: nobody is in its way any more.
    std::vector<Operation> read;
    shared.recorders[0].append_to(read);
    ASSERT_EQ(read.size(), 1u);
    EXPECT_EQ(read[0].outcome, Outcome::ok);
  }
}
INSTANTIATE_TEST_SUITE_P(Modes, StoppedReader,
                         ::testing::Values(ReaderCase{Mode::shared, Step::slot_loaded},
                                           ReaderCase{Mode::shared, Step::record_copied},
                                           ReaderCase{Mode::exclusive, Step::slot_loaded},
                                           ReaderCase{Mode::exclusive, Step::record_copied}),
                         [](const auto& chosen) {
                           return std::string(chosen.param.mode == Mode::shared ? "Shared" : "Exclusive") +
                                  (chosen.param.step == Step::slot_loaded ? "SlotLoaded" : "RecordCopied");
                         });

// ---- writers

struct WriterCase {
  const char* name;
  Action action;
  Step step;
};
class StoppedWriter : public ::testing::TestWithParam<WriterCase> {};

void act(Client& client, Action action, std::uint64_t key) {
  if (action == Action::erase) {
    client.erase(key);
  } else {
    client.write(action, key, action == Action::put_if_version ? client.known_version(key) : 0);
  }
}

TEST_P(StoppedWriter, GoesOnWithoutContradiction) {
  Stopped stopped(
      small(), GetParam().step, [](Client& client) { client.put(0); },
      [](Client& client) { act(client, GetParam().action, 0); });
  Client other(stopped.stage, 1, true);
  other.fixed_bytes = 200;
  churn(other, 0);
  churn_wildly(other, 0);
  other.put(0);
  stopped.go_on();
  EXPECT_EQ(other.get(0), stopped.outcome().outcome == Outcome::ok && GetParam().action == Action::erase &&
                                  GetParam().step != Step::published
                              ? Outcome::not_found
                              : Outcome::ok);
  if (GetParam().action == Action::put_if_version && GetParam().step != Step::published) {
    EXPECT_EQ(stopped.outcome().outcome, Outcome::version_mismatch);
  }
  other.put(0);
  stopped.check();
}

TEST_P(StoppedWriter, DiesWithoutContradiction) {
  Stopped stopped(
      small(), GetParam().step, [](Client& client) { client.put(0); },
      [](Client& client) { act(client, GetParam().action, 0); });
  Client other(stopped.stage, 1, true);
  other.fixed_bytes = 200;
  churn_wildly(other, 0, 500);
  stopped.die();
  EXPECT_TRUE(other.table().maintain());
  churn_wildly(other, 0, 500);
  EXPECT_EQ(other.put(0), Outcome::ok);
  EXPECT_EQ(other.get(0), Outcome::ok);
  stopped.check();
}
INSTANTIATE_TEST_SUITE_P(
    Actions, StoppedWriter,
    ::testing::Values(WriterCase{"PutSlotLoaded", Action::put, Step::slot_loaded},
                      WriterCase{"PutRecordWritten", Action::put, Step::record_written},
                      WriterCase{"PutBeforePublish", Action::put, Step::before_publish},
                      WriterCase{"PutPublished", Action::put, Step::published},
                      WriterCase{"UpdateBeforePublish", Action::update, Step::before_publish},
                      WriterCase{"PutIfVersionRecordCopied", Action::put_if_version, Step::record_copied},
                      WriterCase{"PutIfVersionRecordWritten", Action::put_if_version, Step::record_written},
                      WriterCase{"PutIfVersionBeforePublish", Action::put_if_version, Step::before_publish},
                      WriterCase{"EraseBeforePublish", Action::erase, Step::before_publish},
                      WriterCase{"ErasePublished", Action::erase, Step::published}),
    [](const auto& chosen) { return std::string(chosen.param.name); });

// ---- insertion

class StoppedInserter : public ::testing::TestWithParam<Step> {};

TEST_P(StoppedInserter, HoldsNobodyUpAndDoesNotWinWrongly) {
  for (bool erased_again : {false, true}) {
    Stopped stopped(
        small(), GetParam(), [](Client& client) { client.put(1); }, [](Client& client) { client.insert(0); });
    Client other(stopped.stage, 1, true);
    other.fixed_bytes = 200;
    const bool before_final = GetParam() != Step::published;
    EXPECT_EQ(other.get(0), before_final ? Outcome::not_found : Outcome::ok);
    EXPECT_EQ(other.update(0), before_final ? Outcome::not_found : Outcome::ok);
    // Another inserter of the key goes on, and others of other keys.
    EXPECT_EQ(other.insert(0), before_final ? Outcome::ok : Outcome::exists)
        << other.last_refusal.to_string();
    for (std::uint64_t key = 2; key < 60; ++key) EXPECT_EQ(other.insert(key), Outcome::ok);
    churn(other, 0, 3000);
    if (erased_again) {
      EXPECT_EQ(other.erase(0), Outcome::ok);
    }
    stopped.go_on();
    // After an erase it may begin anew and succeed; before, it must not.
    if (before_final) {
      EXPECT_EQ(stopped.outcome().outcome, erased_again ? Outcome::ok : Outcome::exists);
    }
    other.get(0);
    other.insert(0);
    other.erase(0);
    EXPECT_EQ(other.get(0), Outcome::not_found);
    stopped.check();
  }
}

TEST_P(StoppedInserter, DiesAndTheKeyIsFree) {
  Stopped stopped(
      small(), GetParam(), [](Client& client) { client.put(1); }, [](Client& client) { client.insert(0); });
  stopped.die();
  Client other(stopped.stage, 1, true);
  other.fixed_bytes = 200;
  other.get(0);
  const bool before_final = GetParam() != Step::published;
  EXPECT_EQ(other.insert(0), before_final ? Outcome::ok : Outcome::exists);
  EXPECT_TRUE(other.table().maintain());
  EXPECT_EQ(other.get(0), Outcome::ok);
  EXPECT_EQ(other.get(1), Outcome::ok);
  EXPECT_EQ(other.erase(0), Outcome::ok);
  EXPECT_EQ(other.get(0), Outcome::not_found);
  stopped.check();
}
INSTANTIATE_TEST_SUITE_P(Steps, StoppedInserter,
                         ::testing::Values(Step::record_written, Step::tentative_placed, Step::before_publish,
                                           Step::published),
                         [](const auto& chosen) {
                           return std::string(chosen.param == Step::record_written     ? "RecordWritten"
                                              : chosen.param == Step::tentative_placed ? "TentativePlaced"
                                              : chosen.param == Step::before_publish   ? "BeforePublish"
                                                                                       : "Published");
                         });

// Both inserters stand behind their tentative slots; whoever goes on first, one wins.
TEST(StoppedInserters, OfTwoOneWins) {
  for (bool first_goes_first : {true, false}) {
    Stage stage(small());
    pid_t children[2];
    for (unsigned process = 0; process < 2; ++process) {
      children[process] = spawn([&stage, process] {
        StopAt stop_at(Step::tentative_placed, SIGSTOP);
        Client client(stage, process, true, &stop_at);
        client.fixed_bytes = 64;
        client.insert(0);
      });
      ASSERT_TRUE(wait_for(children[process]).stopped);
    }
    EXPECT_TRUE(resume(children[first_goes_first ? 0 : 1]).well());
    EXPECT_TRUE(resume(children[first_goes_first ? 1 : 0]).well());
    EXPECT_EQ(stage.fault(), "");
    Client other(stage, 2, true);
    EXPECT_EQ(other.get(0), Outcome::ok);
    EXPECT_EQ(other.erase(0), Outcome::ok);
    EXPECT_EQ(other.get(0), Outcome::not_found);
    std::vector<Operation> inserts;
    stage.recorders[0].append_to(inserts);
    stage.recorders[1].append_to(inserts);
    EXPECT_EQ(std::count_if(inserts.begin(), inserts.end(),
                            [](const Operation& op) { return op.outcome == Outcome::ok; }),
              1);
    const LincheckReport report = lincheck(stage.history());
    EXPECT_EQ(report.verdict, Verdict::linearizable) << report.text;
  }
}

// ---- a slot value that comes back

// The slot that leads to the key's record, read as anyone could.
Word slot_of(Stage& stage, std::uint64_t key) {
  Index index(stage.pool->index().data(), stage.geometry);
  const Home home = stage.home(key);
  for (Walk walk(index, home.bucket); walk.slot() != nullptr; walk.next())
    if (!tentative(*walk.slot()) && tag_of(*walk.slot()) == home.tag) return *walk.slot();
  return 0;
}

// The owner must not publish the block again that the stopped writer is about to replace.
TEST(SlotValueThatComesBack, NotByTheOwnersReuse) {
  for (Action action : {Action::put_if_version, Action::put, Action::erase}) {
    Stage stage(small());
    Client owner(stage, 1, true);
    owner.fixed_bytes = 200;
    ASSERT_EQ(owner.put(0), Outcome::ok);
    const Word seen = slot_of(stage, 0);
    const pid_t child = spawn([&] {
      StopAt stop_at(Step::before_publish, SIGSTOP);
      Client client(stage, 0, true, &stop_at);
      client.fixed_bytes = 200;
      client.get(0);
      act(client, action, 0);
    });
    ASSERT_TRUE(wait_for(child).stopped);
    for (unsigned i = 0; i < 20'000; ++i) {
      ASSERT_EQ(owner.put(0), Outcome::ok);
      ASSERT_NE(slot_of(stage, 0), seen) << "the announced block was used again after " << i << " puts";
      if (i % 100 == 0) {
        ASSERT_EQ(owner.erase(0), Outcome::ok);
        ASSERT_EQ(owner.insert(0), Outcome::ok);
        ASSERT_NE(slot_of(stage, 0), seen);
      }
    }
    EXPECT_TRUE(owner.table().maintain());
    EXPECT_TRUE(resume(child).well());
    EXPECT_EQ(stage.fault(), "");
    std::vector<Operation> operations;
    stage.recorders[0].append_to(operations);
    EXPECT_EQ(operations.back().outcome,
              action == Action::put_if_version ? Outcome::version_mismatch : Outcome::ok);
    owner.get(0);
    const LincheckReport report = lincheck(stage.history());
    EXPECT_EQ(report.verdict, Verdict::linearizable) << report.text;
  }
}

// The canary of the test above: without a stopped writer the block does come back.
TEST(SlotValueThatComesBack, WithoutAnAnnouncementItDoes) {
  Stage stage(small());
  Client owner(stage, 1, true);
  owner.fixed_bytes = 200;
  ASSERT_EQ(owner.put(0), Outcome::ok);
  const Word seen = slot_of(stage, 0);
  bool back = false;
  for (unsigned i = 0; i < 20'000 && !back; ++i) {
    ASSERT_EQ(owner.put(0), Outcome::ok);
    back = slot_of(stage, 0) == seen;
  }
  EXPECT_TRUE(back);
}

// Nor by the segment's: its writer dies, it is emptied, given back and taken anew by somebody else, while the
// writer stands before its CAS.
TEST(SlotValueThatComesBack, NotByTheSegmentsReuse) {
  Stage stage(small());
  const pid_t first = spawn([&] {
    Client client(stage, 2, true);
    client.fixed_bytes = 200;
    client.put(0);
    raise(SIGKILL);
  });
  ASSERT_EQ(wait_for(first).signal, SIGKILL);
  const Word seen = slot_of(stage, 0);
  const pid_t child = spawn([&] {
    StopAt stop_at(Step::before_publish, SIGSTOP);
    Client client(stage, 0, true, &stop_at);
    client.fixed_bytes = 200;
    client.get(0);
    client.put_if_version(0, client.known_version(0));
  });
  ASSERT_TRUE(wait_for(child).stopped);
  stage.pool->writer_died(stage.board(2).writer);
  Client owner(stage, 1, true);
  owner.fixed_bytes = 200;
  for (unsigned round = 0; round < 40; ++round) {
    for (std::uint64_t key = 1; key < 64; ++key) owner.put(key);
    for (unsigned i = 0; i < 100; ++i) {
      ASSERT_EQ(owner.put(0), Outcome::ok) << owner.last_refusal.to_string();
      ASSERT_NE(slot_of(stage, 0), seen) << "the announced place was used again";
    }
    ASSERT_TRUE(owner.table().maintain());
  }
  EXPECT_TRUE(resume(child).well());
  std::vector<Operation> operations;
  stage.recorders[0].append_to(operations);
  EXPECT_EQ(operations.back().outcome, Outcome::version_mismatch);
  owner.get(0);
  const LincheckReport report = lincheck(stage.history());
  EXPECT_EQ(report.verdict, Verdict::linearizable) << report.text;
}

// ---- compaction by several

// Writers that compact all the time, while others die and leave segments behind. Nobody may give back a
// segment that is somebody's again: what lives in it would be lost.
TEST(CompactionBySeveral, LosesNothing) {
  constexpr unsigned writers = 3, crowd = 6, victims = 20 * crowd;
  constexpr std::uint64_t keys = 60;
  Stage stage({.processes = writers + victims + 1,
               .operations_max = 60'000,
               .keys = keys,
               .segments = 40,
               .segment_bytes = 256 << 10});
  std::vector<pid_t> children;
  for (unsigned process = 0; process < writers; ++process) {
    children.push_back(spawn([&stage, process] {
      Client client(stage, process, true);
      client.fixed_bytes = 900;
      ++stage.shared().ready;
      while (stage.shared().stop == 0 && client.recorder().size() + 4 < client.recorder().capacity()) {
        client.put(client.random()() % keys);
        client.get(client.random()() % keys);
        if (const auto given = client.table().maintain(); !given && given.error().code != Code::contended)
          client.fault(given.error().to_string());
      }
    }));
  }
  while (stage.shared().ready < writers) sched_yield();
  // They come and die in crowds, so that the living work through long lists of what the dead left.
  for (unsigned first = writers; first < writers + victims; first += crowd) {
    std::vector<pid_t> dying;
    for (unsigned process = first; process < first + crowd; ++process) {
      dying.push_back(spawn([&stage, process] {
        Client client(stage, process, true);
        client.fixed_bytes = 900;
        for (unsigned i = 0; i < 100; ++i) client.put(client.random()() % keys);
        raise(SIGKILL);
      }));
    }
    for (pid_t victim : dying) EXPECT_EQ(wait_for(victim).signal, SIGKILL);
    for (unsigned process = first; process < first + crowd; ++process)
      stage.pool->writer_died(stage.board(process).writer);
  }
  stage.shared().stop = 1;
  for (pid_t child : children) EXPECT_TRUE(wait_for(child).well());
  EXPECT_EQ(stage.fault(), "");
  // The writers above have ended, their segments are still theirs: everything must be readable as it is.
  Client last(stage, writers + victims, false);
  for (std::uint64_t key = 0; key < keys; ++key)
    EXPECT_EQ(last.get(key), Outcome::ok) << "key " << key << " is lost: " << last.last_refusal.to_string();
  const LincheckReport report = lincheck(stage.history());
  EXPECT_EQ(report.verdict, Verdict::linearizable) << report.text;
}

}  // namespace
}  // namespace bailey::table
