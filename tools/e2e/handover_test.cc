// An exclusive table whose writers are killed one after the other, each at some step of a write: the next one
// takes the index over into a file of its own, while readers read. What all of them saw is checked as one
// history.
#include "bailey/table/history_client.h"
#include "bailey/table/scancheck.h"
#include "tools/e2e/house.h"

namespace bailey::e2e {
namespace {

using pool::Step;

class Handover : public House {
 protected:
  // The region as writer, once the broker has noticed that the last one is dead.
  session::Region take_over(Session& session) const {
    for (const std::uint64_t until = monotonic_ns() + 5 * second;; ::usleep(200)) {
      auto region = session.open_region("orders", Access::read_write);
      if (region) return std::move(*region);
      if (region.error().code != Code::busy || monotonic_ns() > until)
        throw std::runtime_error(region.error().to_string());
    }
  }
};

TEST_F(Handover, FromKilledWritersLosesNothingAndNobodySeesTheSeam) {
  static constexpr Step steps[] = {Step::slot_loaded, Step::record_written, Step::before_publish,
                                   Step::published};
  constexpr unsigned readers = 2, victims = 24;
  serve(policy("exclusive"));
  table::Stage stage({.mode = table::Mode::exclusive,
                      .processes = readers + victims + 1,
                      .operations_max = 200'000,
                      .keys = 40,
                      .segments = 1});
  std::vector<std::unique_ptr<Process>> reading;
  for (unsigned process = 0; process < readers; ++process)
    reading.push_back(std::make_unique<Process>([&, process] {
      auto bob = session("bob").value();
      auto region = bob.open_region("orders", Access::read_only).value();
      table::Client client(stage, process, std::move(region.view), region.geometry, nullptr);
      ++stage.shared().ready;
      client.random_operations(false, &stage.shared().stop);
      return 0;
    }));
  ASSERT_LT(broker::wait_until([&] { return stage.shared().ready == readers; }), 10 * second);
  for (unsigned process = readers; process < readers + victims; ++process) {
    Process victim([&, process] {
      auto alice = session("alice").value();
      auto region = take_over(alice);
      table::StopAt kill_at(steps[process % 4], SIGKILL, 200 + process * 37 % 300);
      table::Client client(stage, process, std::move(region.view), region.geometry, &kill_at);
      client.bytes_least = 8;
      client.random_operations(true);
      return 0;
    });
    ASSERT_EQ(victim.wait(), 1000 + SIGKILL) << "victim " << process;
  }
  stage.shared().stop = 1;
  for (auto& reader : reading) EXPECT_EQ(reader->wait(), 0);
  // One who comes after them all finds a table that works, in the last of many files.
  auto alice = session("alice").value();
  auto region = take_over(alice);
  table::Client last(stage, readers + victims, std::move(region.view), region.geometry, nullptr);
  for (std::uint64_t key = 0; key < stage.options.keys; ++key) last.get(key);
  last.scan(3);
  for (std::uint64_t key = 0; key < stage.options.keys; ++key)
    EXPECT_EQ(last.put(key), table::Outcome::ok) << key;

  ASSERT_EQ(stage.fault(), "");
  const std::vector<table::Operation> history = stage.history();
  EXPECT_GT(history.size(), 10'000u);
  const table::LincheckReport report = table::lincheck(history);
  EXPECT_EQ(report.verdict, table::Verdict::linearizable) << report.text;
  const table::ScancheckReport scans = table::scancheck(history);
  EXPECT_EQ(scans.missing, "");
  EXPECT_GT(scans.keys, 100u);
  const auto status = nlohmann::json::parse(session("").value().status().value());
  EXPECT_GT(status.at("regions").at(0).at("index_generation").get<std::uint64_t>(), victims);
}

}  // namespace
}  // namespace bailey::e2e
