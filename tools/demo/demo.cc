#include "tools/demo/demo.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "bailey/base/clock.h"
#include "bailey/base/count.h"
#include "bench/broker_process.h"
#include "bench/machine.h"
#include "bench/progress.h"
#include "bench/server.h"
#include "tools/bailey/janitor.h"
#include "tools/demo/actor.h"
#include "tools/demo/embedded.h"
#include "tools/demo/folder.h"
#include "tools/demo/leftovers.h"
#include "tools/demo/price.h"

namespace bailey::demo {
namespace {

using nlohmann::json;

constexpr const char* region = "orders";
constexpr std::array<uid_t, 3> uids = {64101, 64102, 64103};  // as the policy has them
constexpr std::uint64_t ms = 1'000'000;

// What the demo says goes by here, so that the bar is never in the way.
class Stage {
 public:
  explicit Stage(const Options& options) : options_(options), progress_("bailey demo") {}

  Status run();
  bool all_refused() const { return all_refused_; }
  std::string folder() const { return folder_ ? folder_->runtime() : std::string(); }

 private:
  template <class... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) {
    progress_.clear();
    fmt::print(format, std::forward<Args>(args)...);
    std::fflush(stdout);
  }
  Status cast();
  void print_figures(const Price& price);
  Status refusals();
  void print_attempts(const Actor& actor);
  Status posture();
  void print_price(const Price& price);

  const Options& options_;
  bench::Progress progress_;
  bench::Workload workload_;
  bool own_uids_ = false;
  bool all_refused_ = true;
  // In the order in which they are made; they go the other way around.
  std::optional<Folder> folder_;
  std::optional<bench::BrokerProcess> broker_;
  std::vector<std::unique_ptr<bench::Store>> baselines_;
  std::vector<Actor> actors_;
};

Status Stage::cast() {
  workload_ = BAILEY_TRY(bench::parse_workload(embedded_workload, "workloadb"));
  if (options_.quick) workload_.records /= 10;
  own_uids_ = !options_.one_uid && can_become(uids[0]);
  folder_.emplace(BAILEY_TRY(Folder::temporary(workload_.records)));
  progress_.show(0, 100, "starting the broker");
  broker::ServeOptions serve;
  serve.policy_file = folder_->policy_file();
  serve.socket_path = folder_->runtime() + "/broker.sock";
  serve.janitor = tools::run_janitor;
  // Whoever of the two lives longer removes the folder.
  broker_.emplace(BAILEY_TRY(bench::BrokerProcess::start(std::move(serve), [this] {
    folder_->take_over();
    return std::make_shared<Folder>(std::move(*folder_));
  })));
  const broker::Running& running = broker_->running();
  say("A broker started and answered after {:.0f} ms: pool {}, pid {}, its keeper {}.\n",
      static_cast<double>(broker_->ready_ns()) / 1e6, running.pool, running.broker, running.keeper);

  baselines_ = BAILEY_TRY(make_baselines(workload_));
  for (unsigned i = 0; i < principals.size(); ++i) {
    Part part;
    part.name = principals[i];
    if (own_uids_)
      part.uid = uids[i];
    else
      part.reach.key_file = folder_->key_file(part.name);
    part.reach.socket = running.socket_path;
    part.reach.broker_key = running.broker_key;
    part.region = region;
    part.writes = i == 0;
    part.number = i;
    part.clients = 2;
    part.workload = &workload_;
    for (const auto& store : baselines_) part.stores.push_back(store.get());
    actors_.push_back(BAILEY_TRY(Actor::start(std::move(part))));
  }
  constexpr std::array<const char*, 3> rights = {"may read and write orders", "may read orders",
                                                 "has no grant"};
  for (unsigned i = 0; i < principals.size(); ++i)
    say("  {:<8} pid {:<7} {}  {}\n", principals[i], actors_[i].pid(),
        own_uids_ ? fmt::format("uid {} (the kernel's word)", uids[i])
                  : fmt::format("uid {}, known by a key", ::getuid()),
        rights[i]);
  if (!own_uids_)
    say("\nOne uid: all three run under yours. The kernel holds no process off another of the same uid: "
        "whoever can\n"
        "read alice's key file is alice. What still holds is what descriptors and seals hold. As root the "
        "three get\n"
        "uids of their own.\n");
  return {};
}

void Stage::print_figures(const Price& price) {
  say("\nYCSB workload B on table {}: {} records of {} B, zipfian; alice 95 % reads and 5 % updates, bob "
      "reads, both at\n"
      "once.\n\n  {:<8} {:>12} {:>10} {:>10} {:>10}\n",
      region, workload_.records, workload_.value_bytes(), "", "operations/s", "p50 us", "p99 us", "p99.9 us");
  for (unsigned i = 0; i < 2; ++i) {
    const Figures& figures = price.of[0][i];
    const auto us = [&](double q) { return static_cast<double>(figures.histogram.quantile(q)) / 1000; };
    say("  {:<8} {:>12.0f} {:>10.2f} {:>10.2f} {:>10.2f}\n", actors_[i].name(), median(figures.rates),
        us(0.5), us(0.99), us(0.999));
    if (figures.missing != 0)
      say("  {} of {} named a record that was not there\n", counted(figures.missing, "request"),
          actors_[i].name());
  }
  say("  {:<8} {:>12} {:>10} {:>10} {:>10}\n", "mallory", "none", "-", "-", "-");
}

void Stage::print_attempts(const Actor& actor) {
  const Board& board = actor.board();
  for (std::uint32_t i = 0; i < board.attempts; ++i) {
    const Attempt& attempt = board.attempt[i];
    if (attempt.refused) {
      std::string answer = attempt.answer;
      for (std::size_t at = 0; (at = answer.find("\n", at)) != std::string::npos; at += 3)
        answer.insert(at + 1, "    ");
      say("  {} {}\n    refused by the {}: {}\n", actor.name(), attempt.what, attempt.by, answer);
    } else if (!own_uids_ && ::geteuid() == 0 && &actor == &actors_[2]) {
      // All are root here, and nothing of another process is kept from root.
      say("  {} {}\n    NOT stopped: she runs as root, as all here do\n", actor.name(), attempt.what);
    } else {
      all_refused_ = false;
      say("  {} {}\n    NOT REFUSED: {}\n", actor.name(), attempt.what, attempt.answer);
    }
  }
}

Status Stage::refusals() {
  Actor& bob = actors_[1];
  Actor& mallory = actors_[2];
  const Actor::Order hostile{
      .task = Task::hostile, .broker = broker_->running().broker, .client = actors_[0].pid()};
  say("\nRefused, where programs ask politely:\n");
  for (Actor* actor : {&bob, &mallory}) {
    BAILEY_TRY(actor->order({.task = Task::honest}));
    BAILEY_TRY(actor->wait());
    print_attempts(*actor);
  }
  say("\nRefused, where they pass by the library and take what they were given:\n");
  for (Actor* actor : {&bob, &mallory}) {
    BAILEY_TRY(actor->order(hostile));
    BAILEY_TRY(actor->wait());
    print_attempts(*actor);
  }
  return {};
}

Status Stage::posture() {
  session::Options options;
  options.socket_path = broker_->running().socket_path;
  options.broker_key = broker_->running().broker_key;
  Session session = BAILEY_TRY(Session::connect(options));
  const json status = json::parse(BAILEY_TRY(session.status()));
  for (const json& one : status.at("regions")) {
    if (one.at("name") != region) continue;
    const json& posture = one.at("posture");
    say("\nPosture of {} ({}, {}):\n", region, one.at("mode").get<std::string>(),
        posture.at("medium").get<std::string>());
    for (const json& holding : posture.at("holds"))
      say("  held by {:<7} {}: {}\n", holding.at("by").get<std::string>(),
          holding.at("what").get<std::string>(), holding.at("how").get<std::string>());
    for (const json& sentence : posture.at("not_stopped"))
      say("  NOT stopped     {}\n", sentence.get<std::string>());
  }
  return {};
}

void Stage::print_price(const Price& price) {
  say("\nThe price of protection: alice and bob together, the same requests on three tables in turns, "
      "medians of {}\n"
      "rounds.\n\n  {:<32} {:>12} {:>24}\n",
      price.rates(0).size(), "", "operations/s", "Bailey's rate over its");
  for (std::size_t system = 0; system < systems; ++system) {
    const Ratio ratio = price.over(system);
    say("  {:<32} {:>12.0f} {:>24}\n", system_names[system], median(price.rates(system)),
        system == 0 ? "1" : ratio.in_figures());
    if (system != 0) say("  {:<32} Bailey is {}\n", "", ratio.in_words());
  }
  const bench::Machine machine = bench::this_machine();
  say("  measured here and now: {}, {} cores, {}, build {}; hypervisor: {}\n", machine.cpu, machine.cores,
      machine.kernel, machine.build, machine.hypervisor);
}

Status Stage::run() {
  const Timing timing = options_.quick ? Timing{3, 40 * ms, 30 * ms} : Timing{5, 500 * ms, 300 * ms};
  BAILEY_TRY(cast());
  for (unsigned i = 0; i < 2; ++i) BAILEY_TRY(actors_[i].order({.task = Task::open}));
  for (unsigned i = 0; i < 2; ++i) BAILEY_TRY(actors_[i].wait());
  const Price price =
      BAILEY_TRY(measure({&actors_[0], &actors_[1]}, timing, [&](double share, const std::string& what) {
        progress_.show(static_cast<std::uint64_t>(5 + share * 95), 100, what);
      }));
  print_figures(price);
  BAILEY_TRY(refusals());
  BAILEY_TRY(posture());
  print_price(price);
  progress_.clear();
  return {};
}

// Compares by name what is there with what was there before. /tmp is everybody's, and benchmarks of others
// put their servers' files into /dev/shm: what others do is told and not judged.
bool nothing_left(const std::set<std::string>& before, const std::string& own_folder) {
  std::vector<std::string> left, others;
  for (const std::string& name : named_entries()) {
    if (before.contains(name)) continue;
    const bool of_others = name.starts_with("/tmp/") || name.find(bench::scratch_prefix) != std::string::npos;
    (of_others && name != own_folder ? others : left).push_back(name);
  }
  std::string looked_at;
  for (const std::string& place : places()) looked_at += (looked_at.empty() ? "" : ", ") + place;
  if (left.empty())
    fmt::print("\nAll processes are stopped. Nothing of this demo's is left in {}.\n", looked_at);
  else
    fmt::print("\nLeft behind: {}\n", fmt::join(left, ", "));
  if (!others.empty()) fmt::print("(Other Baileys made meanwhile: {})\n", fmt::join(others, ", "));
  return left.empty();
}

}  // namespace

int run(const Options& options) {
  bench::watch_interrupts();
  const std::set<std::string> before = named_entries();
  Status done;
  bool all_refused = false;
  std::string folder;
  {
    Stage stage(options);
    done = stage.run();
    all_refused = stage.all_refused();
    folder = stage.folder();
  }
  const bool clean = nothing_left(before, folder);
  if (!done) fmt::print(stderr, "bailey demo: {}\n", done.error().to_string());
  if (done && !all_refused)
    fmt::print(stderr, "bailey demo: something that should be refused was not; see above\n");
  return done && all_refused && clean ? 0 : 1;
}

}  // namespace bailey::demo
