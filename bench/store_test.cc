// One suite for every store: a comparison is only fair among systems that do the same.
#include "bench/store.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <optional>

#include "bench/contest.h"
#include "bench/crew.h"
#include "bench/server.h"
#include "bench/table_run.h"

namespace bailey::bench {
namespace {

System system_named(const std::string& name) {
  std::vector<std::string> missing;
  for (const System& system : all_systems(missing))
    if (system.name == name) return system;
  ADD_FAILURE() << "no system " << name;
  return {};
}

class StoreTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto scratch = Scratch::make();
    ASSERT_TRUE(scratch) << scratch.error().to_string();
    scratch_.emplace(std::move(*scratch));
    system_ = system_named(GetParam());
    StoreOptions options;
    options.records = 4000;
    options.value_bytes = 256;
    options.scratch = scratch_->path();
    auto store = system_.make(options);
    if (!store && store.error().code == Code::unsupported) GTEST_SKIP() << store.error().message;
    ASSERT_TRUE(store) << store.error().to_string();
    store_ = std::move(*store);
    auto client = store_->client(true);
    ASSERT_TRUE(client) << client.error().to_string();
    client_ = std::move(*client);
  }

  std::optional<std::string> get(const std::string& key) {
    std::byte out[256];
    const std::ptrdiff_t bytes = client_->get(key, out);
    if (bytes < 0) return std::nullopt;
    return std::string(as_text({out, static_cast<std::size_t>(bytes)}));
  }

  std::optional<Scratch> scratch_;
  System system_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Client> client_;
};

TEST_P(StoreTest, WritesAreReadBack) {
  EXPECT_EQ(get("user1"), std::nullopt);
  EXPECT_FALSE(client_->update("user1", "absent"));
  EXPECT_EQ(get("user1"), std::nullopt);
  EXPECT_TRUE(client_->insert("user1", std::string(256, 'a')));
  EXPECT_FALSE(client_->insert("user1", "again"));
  EXPECT_EQ(get("user1"), std::string(256, 'a'));
  EXPECT_TRUE(client_->update("user1", std::string(256, 'b')));
  EXPECT_EQ(get("user1"), std::string(256, 'b'));
  EXPECT_TRUE(client_->put("user1", "shorter"));
  EXPECT_EQ(get("user1"), "shorter");
  EXPECT_TRUE(client_->put("user2", "new"));
  EXPECT_EQ(get("user2"), "new");
  EXPECT_TRUE(client_->erase("user2"));
  EXPECT_FALSE(client_->erase("user2"));
  EXPECT_EQ(get("user2"), std::nullopt);
  EXPECT_EQ(get("user1"), "shorter");
}

TEST_P(StoreTest, ManyAtOnceTellEachKeysFate) {
  const ValuePool values(256);
  std::vector<YcsbKey> keys;
  for (std::uint64_t i = 0; i < 32; ++i) keys.push_back(ycsb_key(i));
  std::vector<Write> writes(16);
  for (std::size_t i = 0; i < 16; ++i) {
    writes[i].key = keys[i].view();
    writes[i].value = values.at(i);
  }
  ASSERT_TRUE(client_->put_many(writes)) << client_->error();
  std::vector<std::vector<std::byte>> outs(32, std::vector<std::byte>(256));
  std::vector<Lookup> lookups(32);
  for (std::size_t i = 0; i < 32; ++i) {
    lookups[i].key = keys[i].view();
    lookups[i].out = outs[i];
  }
  ASSERT_TRUE(client_->get_many(lookups)) << client_->error();
  for (std::size_t i = 0; i < 32; ++i) {
    EXPECT_EQ(lookups[i].ok, i < 16) << i;
    if (i < 16) {
      EXPECT_EQ(as_text({outs[i].data(), lookups[i].found.bytes}), values.at(i));
    }
  }
}

// What the comparison does to every store, round after round: the last inserted is erased first.
TEST_P(StoreTest, InsertsAndErasesOfRoundsLeaveTheRestAlone) {
  const ValuePool values(256);
  for (std::uint64_t i = 0; i < 1000; ++i) ASSERT_TRUE(client_->put(ycsb_key(i).view(), values.at(i)));
  for (int round = 0; round < 3; ++round) {
    for (std::uint64_t i = 1000; i < 3000; ++i)
      ASSERT_TRUE(client_->insert(ycsb_key(i).view(), values.at(i + 7))) << i << client_->error();
    for (std::uint64_t i = 3000; i-- > 1000;) ASSERT_TRUE(client_->erase(ycsb_key(i).view())) << i;
  }
  for (std::uint64_t i = 0; i < 1000; ++i) ASSERT_EQ(get(std::string(ycsb_key(i).view())), values.at(i)) << i;
  for (std::uint64_t i = 1000; i < 3000; ++i)
    ASSERT_EQ(get(std::string(ycsb_key(i).view())), std::nullopt) << i;
}

TEST_P(StoreTest, CrewReadsWhatTheParentWrote) {
  const ValuePool values(256);
  for (std::uint64_t i = 0; i < 1000; ++i) ASSERT_TRUE(client_->put(ycsb_key(i).view(), values.at(i)));
  client_->rest();
  const KeyOrder keys = KeyOrder::uniform(1000, 4096, 1);
  auto crew = Crew::start(system_, *store_, 2, keys, values);
  ASSERT_TRUE(crew) << crew.error().to_string();
  for (bool timed : {false, true}) {
    ASSERT_TRUE(crew->order(Operation::get, 3'000'000, timed));
    const auto outcome = crew->collect();
    ASSERT_TRUE(outcome) << outcome.error().to_string();
    EXPECT_EQ(outcome->operations_per_second > 0, !timed);
    EXPECT_EQ(outcome->histogram.count() > 0, timed);
  }
  // A key that is missing is a failure of the measurement, not a quick answer.
  const KeyOrder absent = KeyOrder::each_once(5000, 64, 1);
  auto searching = Crew::start(system_, *store_, 1, absent, values);
  ASSERT_TRUE(searching);
  ASSERT_TRUE(searching->order(Operation::get, 3'000'000, false));
  EXPECT_FALSE(searching->collect());
}

std::vector<std::string> names() {
  std::vector<std::string> missing, result;
  for (const System& system : all_systems(missing))
    if (system.name == system.store) result.push_back(system.name);
  return result;
}
INSTANTIATE_TEST_SUITE_P(Stores, StoreTest, ::testing::ValuesIn(names()), [](const auto& about) {
  std::string name = about.param;
  for (char& c : name)
    if (c == '-') c = '_';
  return name;
});

// Answers at once, and wrongly.
class WrongClient : public Client {
 public:
  std::ptrdiff_t get(std::string_view, MutableBytes out) override {
    return static_cast<std::ptrdiff_t>(out.size());
  }
  bool get_many(std::span<Lookup>) override { return true; }
  bool put(std::string_view, std::string_view) override { return true; }
  bool insert(std::string_view, std::string_view) override { return true; }
  bool update(std::string_view, std::string_view) override { return true; }
  bool erase(std::string_view) override { return true; }
  bool put_many(std::span<Write>) override { return true; }
};
class WrongStore : public Store {
 public:
  Result<std::unique_ptr<Client>> client(bool) override { return std::make_unique<WrongClient>(); }
};

TEST(Contest, SystemThatAnswersWronglyIsNotMeasured) {
  const System wrong{"wrong",
                     "forgets all",
                     "wrong",
                     {Operation::get},
                     1,
                     [](const StoreOptions&) {
                       return Result<std::unique_ptr<Store>>(std::make_unique<WrongStore>()); }};
  const ValuePool values(64);
  Progress progress("test");
  std::vector<std::string> skipped;
  const auto made = make_contestants({wrong}, 1000, 0, values, "/nonexistent", progress, skipped);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, Code::corrupt);
}

TEST(Contest, MissingSystemIsSkippedAndSaid) {
  const System absent{
      "absent", "is not there", "absent", {Operation::get}, 1, [](const StoreOptions&) {
        return Result<std::unique_ptr<Store>>(fail(Code::unsupported, By::library, "no such program"));
      }};
  const ValuePool values(64);
  Progress progress("test");
  std::vector<std::string> skipped;
  const auto made =
      make_contestants({absent, system_named("probe")}, 1000, 0, values, "/nonexistent", progress, skipped);
  ASSERT_TRUE(made);
  EXPECT_EQ(made->size(), 1u);
  EXPECT_EQ(skipped, std::vector<std::string>{"absent: skipped, no such program"});
}

TEST(Contest, ScoresEveryOperationInEveryRound) {
  ContestOptions options;
  options.records = 2000;
  options.rounds = 2;
  options.slices = 2;
  options.slice_ns = options.warm_ns = options.latency_ns = 1'000'000;
  options.clients = {1, 2};
  const ValuePool values(64);
  Progress progress("test");
  std::vector<std::string> skipped;
  auto made = make_contestants({system_named("probe"), system_named("locked"), system_named("bailey")},
                               options.records, 2000, values, "/nonexistent", progress, skipped);
  ASSERT_TRUE(made) << made.error().to_string();
  const auto scores = run_contest(*made, options, values, progress);
  ASSERT_TRUE(scores) << scores.error().to_string();
  EXPECT_EQ(scores->scores.size(), 3u * (6 + 2));  // with two clients the two reading operations
  for (const Score& score : scores->scores) {
    EXPECT_EQ(score.per_second.size(), 2u) << score.system << " " << name(score.operation);
    for (double rate : score.per_second) EXPECT_GT(rate, 0);
    EXPECT_GT(score.histogram.count(), 0u);
  }
}

TEST(Contest, RatioIsTakenInsideARound) {
  const Score base{"a", Operation::get, 1, {100, 200, 400}, {}};
  const Score other{"b", Operation::get, 1, {50, 50, 400}, {}};
  const Ratio ratio = paired_ratio(base, other);
  EXPECT_EQ(ratio.median, 2);
  EXPECT_EQ(ratio.min, 1);
  EXPECT_EQ(ratio.max, 4);
}

TEST(Scratch, IsGoneAfterwardsAndAForkedChildLeavesIt) {
  std::string path;
  {
    auto scratch = Scratch::make();
    ASSERT_TRUE(scratch);
    path = scratch->path();
    std::filesystem::create_directory(path + "/inside");
    const pid_t pid = fork();
    if (pid == 0) {
      {
        const Scratch inherited = std::move(*scratch);
      }
      _exit(0);
    }
    waitpid(pid, nullptr, 0);
    EXPECT_TRUE(std::filesystem::exists(path + "/inside"));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(Server, IsStoppedWithItsObject) {
  const auto asleep = [] { return true; };
  pid_t pid = -1;
  {
    auto server = Server::start({"sleep", "1000"}, asleep);
    ASSERT_TRUE(server) << server.error().to_string();
    pid = server->pid();
    EXPECT_EQ(kill(pid, 0), 0);
  }
  EXPECT_NE(kill(pid, 0), 0);
  const auto missing = Server::start({"no-such-program-at-all"}, asleep);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::unsupported);
  const auto ended = Server::start({"false"}, [] { return false; });
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, Code::io);
}

TEST(TableRun, ClientsDoTheirSharesAndMissNothing) {
  for (const table::Mode mode : {table::Mode::exclusive, table::Mode::shared}) {
    TablePlan plan;
    plan.workload.records = 2000;
    plan.workload.read = 0.5, plan.workload.update = 0.3, plan.workload.insert = 0.1;
    plan.workload.scan = 0.05, plan.workload.read_modify_write = 0.05;
    plan.workload.scan_items_max = 10;
    plan.workload.distribution = Distribution::latest;
    plan.operations = plan.workload.operations = 20'001;
    plan.clients = 3;
    plan.batch = 4;
    plan.latency = true;
    plan.value_bytes = 100;
    StoreOptions options;
    options.records = 6000;
    options.value_bytes = 100;
    auto store = make_plain_table(options, mode);
    ASSERT_TRUE(store);
    Progress progress("test");
    const auto result = run_table(plan, **store, progress);
    ASSERT_TRUE(result) << result.error().to_string();
    const ClientResult total = result->total();
    EXPECT_EQ(total.rate.operations, 20'001u);
    EXPECT_EQ(total.missing, 0u);
    EXPECT_GT(result->operations_per_second(), 0);
    const auto writes = [](const ClientResult& one) {
      return one.operations[static_cast<unsigned>(Kind::update)] +
             one.operations[static_cast<unsigned>(Kind::insert)];
    };
    EXPECT_GT(writes(result->clients[0]), 0u);
    EXPECT_EQ(writes(result->clients[1]) > 0, mode == table::Mode::shared);
  }
}

TEST(TableRun, PoolThatIsTooSmallIsRefusedUpFront) {
  StoreOptions options;
  options.records = 100'000;
  options.value_bytes = 256;
  const auto refused = make_plain_table(options, table::Mode::exclusive, 1 << 20);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::no_space);
}

}  // namespace
}  // namespace bailey::bench
