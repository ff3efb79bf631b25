// The janitor of a real broker: what it does where no writer lives, and what it is not.
#include <algorithm>
#include <set>

#include "tools/bailey/janitor.h"
#include "tools/e2e/house.h"

namespace bailey::e2e {
namespace {

using broker::wait_until;
using nlohmann::json;

class Janitor : public House {
 protected:
  void SetUp() override {
    House::SetUp();
    serve(policy("shared"), tools::run_janitor);
    admin_.emplace(session("").value());
  }
  json status() { return json::parse(admin_->status().value()); }
  json region() { return status().at("regions").at(0); }
  // Of its session, once it has one; 0 where it has none within ten seconds.
  pid_t janitor(pid_t other_than = 0) {
    pid_t found = 0;
    wait_until([&] {
      const json now = status();
      for (const json& row : now.at("sessions"))
        if (row.at("janitor").get<bool>() && row.at("pid").get<pid_t>() != other_than) found = row.at("pid");
      return found != 0;
    });
    return found;
  }
  // Writers that live side by side, so that none cleans up behind another, and die together.
  void writers_die(unsigned count, const std::function<bool(Table&, unsigned)>& work) {
    Board board;
    std::vector<std::unique_ptr<Process>> writers;
    for (unsigned i = 0; i < count; ++i)
      writers.push_back(std::make_unique<Process>([&, i] {
        auto alice = session("alice").value();
        auto table = alice.open_table("orders", Access::read_write).value();
        if (!work(table, i)) return 1;
        board.add(0);
        for (;;) ::pause();
      }));
    ASSERT_TRUE(board.reaches(0, count));
    EXPECT_EQ(region().at("segments_open"), count);
    for (auto& writer : writers) writer->kill(SIGKILL);
  }

  std::optional<Session> admin_;
};

TEST_F(Janitor, MovesWhatLivesOutOfSparseSegmentsAndGivesThemBack) {
  writers_die(4, [](Table& table, unsigned i) {
    return table.put(fmt::format("small{}", i), std::string(1000, static_cast<char>('a' + i))).has_value();
  });
  // Four of the dead's become one.
  wait_until([&] {
    const json now = region();
    return now.at("segments_frozen") == 1 && now.at("segments_open") == 0;
  });
  EXPECT_EQ(region().at("segments_frozen"), 1);
  // And there it rests: moving the same records again would give nothing back.
  const crypto::SecretKey key = crypto::read_secret_key(key_file("bob")).value();
  auto bob = broker::Client::connect(socket(), &key).value();
  const std::uint32_t grant = bob.open("orders", false)->grant;
  const auto frozen = bob.ask<protocol::Members>(protocol::GetMembers{grant})->frozen;
  for (const std::uint64_t until = monotonic_ns() + 5 * second / 2; monotonic_ns() < until; ::usleep(10'000))
    ASSERT_EQ(bob.ask<protocol::Members>(protocol::GetMembers{grant})->frozen, frozen);
  auto reader = session("bob").value();
  auto table = reader.open_table("orders", Access::read_only).value();
  std::string value;
  for (unsigned i = 0; i < 4; ++i) {
    ASSERT_TRUE(table.get(fmt::format("small{}", i), value)) << i;
    EXPECT_EQ(value, std::string(1000, static_cast<char>('a' + i)));
  }
}

TEST_F(Janitor, GivesBackWhatIsGarbageAndLeavesWhatIsFull) {
  const std::string large(900'000, 'l');  // nearly a segment
  writers_die(4, [&](Table& table, unsigned i) {
    const std::string key = fmt::format("large{}", i);
    return table.put(key, large).has_value() && (i == 0 || table.erase(key).has_value());
  });
  wait_until([&] { return region().at("segments_frozen") == 1; });
  EXPECT_EQ(region().at("segments_frozen"), 1);
  auto bob = session("bob").value();
  auto table = bob.open_table("orders", Access::read_only).value();
  std::string value;
  ASSERT_TRUE(table.get("large0", value));
  EXPECT_EQ(value, large);
}

TEST_F(Janitor, ThatIsKilledIsStartedAgain) {
  pid_t now = janitor();
  ASSERT_NE(now, 0);
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(::kill(now, SIGKILL), 0);
    const std::uint64_t start_ns = monotonic_ns();
    const pid_t next = janitor(now);
    ASSERT_NE(next, 0);
    EXPECT_LT(monotonic_ns() - start_ns, 3 * second) << "at most once a second";
    now = next;
  }
}

// Every descriptor that a process has, as /proc names it.
std::multiset<std::string> descriptors_of(pid_t pid) {
  std::multiset<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", pid)))
    names.insert(std::filesystem::read_symlink(entry.path()));
  return names;
}

TEST_F(Janitor, HoldsNothingThatOthersCouldBorrow) {
  const pid_t pid = janitor();
  ASSERT_NE(pid, 0);
  // A process of the same uid is none, whatever else it may be.
  unsigned janitors = 0;
  const json now = status();
  for (const json& row : now.at("sessions")) janitors += row.at("janitor").get<bool>() ? 1 : 0;
  EXPECT_EQ(janitors, 1u);
  if (::geteuid() != 0) {
    EXPECT_EQ(::access(fmt::format("/proc/{}/fd", pid).c_str(), R_OK), -1) << "it makes itself non-dumpable";
    return;
  }
  // For root to see: no file of the pool, no lock, no listening socket, no state; one socket, which is its
  // own.
  const auto keeper = descriptors_of(keeper_->pid), janitor = descriptors_of(pid);
  EXPECT_TRUE(
      std::ranges::any_of(keeper, [](const std::string& name) { return name.starts_with("/memfd:"); }));
  unsigned sockets = 0;
  for (const std::string& name : janitor) {
    EXPECT_FALSE(name.starts_with("/memfd:")) << name;
    EXPECT_FALSE(name.starts_with(folder_)) << name;
    if (!name.starts_with("socket:")) continue;
    ++sockets;
    EXPECT_FALSE(keeper.contains(name)) << name << " is the keeper's";
  }
  EXPECT_EQ(sockets, 1u);
}

}  // namespace
}  // namespace bailey::e2e
