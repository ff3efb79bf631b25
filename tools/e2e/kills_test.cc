// Whoever takes part is killed at random moments, hundreds of times, or stopped for a while: writers,
// readers, the broker proper, the janitor. What was acknowledged stays, nobody waits for the dead, nothing is
// left.
//
// BAILEY_KILLS_SEED=N repeats the killer's choices; when the kernel lets whom run can't be repeated.
#include <sys/prctl.h>

#include <random>
#include <set>

#include "bailey/base/long_form.h"
#include "bailey/kinds/kinds.h"
#include "tools/bailey/janitor.h"
#include "tools/e2e/house.h"
#include "tools/e2e/worker.h"

namespace bailey::e2e {
namespace {

using broker::wait_until;
using nlohmann::json;

constexpr double ms = 1e6;  // in ns

// Promised. A loaded machine may let a process wait for its turn: of a hundred deaths one may be noticed
// later, but none a second later.
constexpr double noticed_most_ms = 100, back_most_ms = 1000;

class Times {
 public:
  void add(std::uint64_t ns) { sorted_.insert(static_cast<double>(ns) / ms); }
  std::size_t count() const { return sorted_.size(); }
  double quantile(double q) const {
    if (sorted_.empty()) return 0;
    return *std::next(sorted_.begin(),
                      static_cast<std::ptrdiff_t>(q * static_cast<double>(sorted_.size() - 1)));
  }
  std::string to_string() const {
    return fmt::format("{} times: p50 {:.1f}, p90 {:.1f}, p99 {:.1f}, longest {:.1f} ms", count(),
                       quantile(0.5), quantile(0.9), quantile(0.99), quantile(1));
  }

 private:
  std::multiset<double> sorted_;
};

// Entries by name where such things are left. /tmp is everybody's: there only the test's own folder is looked
// for.
std::set<std::string> bailey_entries() {
  std::set<std::string> names;
  for (const char* place : {"/dev/shm", "/run"}) {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(place, ignored))
      if (entry.path().filename().string().find("bailey") != std::string::npos) names.insert(entry.path());
  }
  return names;
}

class Kills : public House {
 protected:
  static constexpr unsigned workers = Ledger::writers + 2;
  static constexpr unsigned timeout_ms = 2000;  // of every call
  static constexpr std::uint64_t region_bytes = 24 << 20;

  unsigned kills() const { return long_form() ? 5000 : 500; }
  unsigned seconds_most() const { return long_form() ? 1800 : 150; }

  void SetUp() override {
    House::SetUp();
    const char* given = std::getenv("BAILEY_KILLS_SEED");
    const unsigned seed =
        given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : std::random_device{}();
    random_.seed(seed);
    fmt::print("BAILEY_KILLS_SEED={}\n", seed);
    // Whatever outlives its parent is ours to find.
    ASSERT_EQ(::prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    before_ = bailey_entries();
    posts_memory_ = Mapping::anonymous(sizeof(Post) * (workers + 1)).value();
    std::string text =
        policy("shared", true, "24MiB") + broker::region_toml("accounts", "exclusive", "24MiB");
    for (const char* who : {"alice", "bob"})
      text += broker::grant_toml(who, "accounts", who[0] == 'a' ? "rw" : "r");
    serve(text, tools::run_janitor, seconds_most());
    admin_.emplace(session("", timeout_ms).value());
    for (unsigned number = 0; number < workers; ++number) start(number);
  }

  Post& post(unsigned number) const { return reinterpret_cast<Post*>(posts_memory_.data())[number]; }

  void start(unsigned number) {
    post(number).open = 0;
    processes_[number] = std::make_unique<Process>(
        [&, number] {
          Options options;
          options.socket_path = socket();
          options.key_file = key_file(Worker::is_writer(number) ? "alice" : "bob");
          options.timeout_ms = timeout_ms;
          return Worker(ledger_, post(number), number).work(options);
        },
        seconds_most());
  }

  json status() {
    auto text = admin_->status();
    if (!text) throw std::runtime_error("status: " + text.error().to_string());
    return json::parse(*text);
  }
  static bool has_session(const json& status, pid_t pid) {
    return std::ranges::any_of(status.at("sessions"), [&](const json& row) { return row.at("pid") == pid; });
  }

  // Nobody found anything wrong, nobody ended by itself, nobody waited for too long.
  void look_at_workers() {
    for (unsigned number = 0; number < workers; ++number) {
      const Post& one = post(number);
      ASSERT_STREQ(one.fault, "") << "worker " << number;
      ASSERT_LT(one.longest_read_ns, timeout_ms * ms) << "worker " << number;
      ASSERT_LT(one.longest_write_ns, timeout_ms * ms) << "worker " << number;
      siginfo_t info{};
      ASSERT_EQ(
          ::waitid(P_PID, static_cast<id_t>(processes_[number]->pid), &info, WEXITED | WNOHANG | WNOWAIT), 0);
      ASSERT_EQ(info.si_pid, 0) << "worker " << number << " ended by itself, si_status " << info.si_status;
    }
  }

  void kill_worker(unsigned number, bool measure) {
    Process& victim = *processes_[number];
    const pid_t pid = victim.pid;
    const bool was_open = post(number).open != 0;
    const std::uint64_t start_ns = monotonic_ns();
    victim.kill(SIGKILL);
    if (measure && was_open) {
      json now = status();
      while (has_session(now, pid) && monotonic_ns() - start_ns < 5 * second) now = status();
      noticed_.add(monotonic_ns() - start_ns);
      for (const json& region : now.at("regions"))
        ASSERT_LE(region.at("bytes").get<std::uint64_t>(),
                  region_bytes + region.at("segment_bytes").get<std::uint64_t>())
            << "the janitor may have one segment beyond";
    }
    victim.wait();
    start(number);
    ++killed_;
  }

  // Sometimes with one who dies while it is away.
  void kill_broker() {
    const pid_t pid = status().at("broker").at("pid");
    const std::uint64_t start_ns = monotonic_ns();
    ASSERT_EQ(::kill(pid, SIGKILL), 0);
    ++killed_;
    pid_t dead = 0;
    const unsigned number = random_() % workers;
    if (random_() % 3 == 0) {
      dead = processes_[number]->pid;
      kill_worker(number, false);
    }
    // A stranger is served, and one who was connected.
    auto stranger = session("bob", timeout_ms);
    ASSERT_TRUE(stranger) << stranger.error().to_string();
    const json now = status();
    back_.add(monotonic_ns() - start_ns);
    broker_back_ns_ = monotonic_ns();
    ASSERT_NE(now.at("broker").at("pid"), pid);
    if (dead != 0) {
      EXPECT_FALSE(has_session(now, dead)) << "who died meanwhile is noticed at once";
    }
  }

  bool kill_janitor() {
    const json now = status();
    for (const json& row : now.at("sessions"))
      if (row.at("janitor").get<bool>()) {
        ::kill(row.at("pid").get<pid_t>(), SIGKILL);
        ++killed_;
        return true;
      }
    return false;  // the next one is not there yet
  }

  void stop_for_a_while(pid_t pid) {
    ++stopped_;
    ::kill(pid, SIGSTOP);
    pause(60);
    ::kill(pid, SIGCONT);
  }
  void stop_worker(unsigned number) {
    ++post(number).stopped;
    stop_for_a_while(processes_[number]->pid);
    ++post(number).stopped;
  }

  // A random moment: nothing is waited for.
  void pause(unsigned most_ms) { ::usleep(static_cast<useconds_t>(random_() % (most_ms * 1000))); }

  void one_misfortune() {
    const unsigned dice = random_() % 100;
    if (dice < 60) return kill_worker(random_() % Ledger::writers, true);
    if (dice < 78) return kill_worker(Ledger::writers + random_() % (workers - Ledger::writers), true);
    if (dice < 82) return static_cast<void>(kill_janitor());
    if (dice < 88) {
      // Up to three in a row: after more of them the keeper would give the pool up.
      const std::uint64_t since_ns = monotonic_ns() - broker_back_ns_;
      if (since_ns > second * 11 / 10) in_a_row_ = 0;
      if (++in_a_row_ <= 3) kill_broker();
      return;
    }
    if (dice < 98) return stop_worker(random_() % workers);
    stop_for_a_while(status().at("broker").at("pid"));
  }

  Ledger ledger_;
  Mapping posts_memory_;
  std::unique_ptr<Process> processes_[workers];
  std::optional<Session> admin_;
  std::mt19937 random_;
  std::set<std::string> before_;
  Times noticed_, back_;
  std::uint64_t broker_back_ns_ = 0;
  unsigned killed_ = 0, stopped_ = 0, in_a_row_ = 0;
};

TEST_F(Kills, AtRandomLoseNothingAndHoldNobodyUp) {
  const std::uint64_t start_ns = monotonic_ns();
  while (killed_ < kills()) {
    one_misfortune();
    if (HasFatalFailure()) return;
    pause(50);
    look_at_workers();
    if (HasFatalFailure()) return;
  }

  for (unsigned number = 0; number < workers; ++number) post(number).end = 1;
  for (unsigned number = 0; number < workers; ++number) {
    EXPECT_EQ(processes_[number]->wait(), 0) << "worker " << number << ": " << post(number).fault;
    processes_[number].reset();
  }
  std::uint64_t operations = 0, scans = 0, contended = 0, read_ns = 0, write_ns = 0;
  for (unsigned number = 0; number < workers; ++number) {
    const Post& one = post(number);
    operations += one.operations;
    scans += one.scans;
    contended += one.contended;
    read_ns = std::max(read_ns, one.longest_read_ns.load());
    write_ns = std::max(write_ns, one.longest_write_ns.load());
    EXPECT_GT(one.operations, 1000u) << "worker " << number;
  }
  fmt::print(
      "{} kills, {} stops in {:.1f} s; {} operations, {} whole scans, {} contended\n"
      "death noticed {}\nbroker back {}\nlongest read {:.1f} ms, longest write {:.1f} ms\n",
      killed_, stopped_, static_cast<double>(monotonic_ns() - start_ns) * 1e-9, operations, scans, contended,
      noticed_.to_string(), back_.to_string(), static_cast<double>(read_ns) / ms,
      static_cast<double>(write_ns) / ms);
  EXPECT_GT(scans, 20u);
  EXPECT_LT(contended, operations / 1000);
  EXPECT_LT(noticed_.quantile(0.99), noticed_most_ms);
  EXPECT_LT(noticed_.quantile(1), 1000);
  EXPECT_GT(back_.count(), kills() / 50);
  EXPECT_LT(back_.quantile(1), back_most_ms);

  // All is there for one who comes after them, and the regions are sound.
  Post& last = post(workers);
  Session bob = session("bob", timeout_ms).value();
  EXPECT_TRUE(Worker(ledger_, last, workers).read_all(bob)) << last.fault;
  for (const char* name : {"orders", "accounts"}) {
    const session::Region region = bob.open_region(name, Access::read_only).value();
    const auto report = kinds::find(region.kind)->check(*region.view, region.geometry);
    ASSERT_TRUE(report) << report.error().to_string();
    EXPECT_TRUE(report->sound()) << report->to_string();
    EXPECT_GT(report->records, Ledger::keys / 2);
  }

  // Nothing is left.
  admin_.reset();
  keeper_->kill(SIGTERM);
  EXPECT_EQ(keeper_->wait(), 0);
  keeper_.reset();
  // Children of brokers that were killed came to us; they have ended too.
  pid_t child = 0;
  wait_until([&] { return (child = ::waitpid(-1, nullptr, WNOHANG)) == -1; });
  EXPECT_EQ(child, -1) << "a process lives";
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder_))
    left.push_back(entry.path().filename());
  EXPECT_THAT(left, ::testing::UnorderedElementsAre("policy.toml", "audit.log", "alice", "alice.pub", "bob",
                                                    "bob.pub", "mallory", "mallory.pub"));
  EXPECT_EQ(bailey_entries(), before_);
}

}  // namespace
}  // namespace bailey::e2e
