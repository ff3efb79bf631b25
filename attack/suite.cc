#include "attack/suite.h"

#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "bailey/base/clock.h"
#include "bailey/base/log.h"
#include "bailey/protocol/overflow.h"

namespace bailey::attack {
namespace {

// What a stage says, or why it said nothing.
Came hear(pid_t stage, int pipe, unsigned seconds) {
  const std::uint64_t until = monotonic_ns() + std::uint64_t{seconds} * 1'000'000'000;
  std::string said;
  bool late = false;
  for (;;) {
    const std::uint64_t now = monotonic_ns();
    pollfd ready{pipe, POLLIN, 0};
    const int polled = now >= until ? 0 : ::poll(&ready, 1, static_cast<int>((until - now) / 1'000'000 + 1));
    if (polled < 0 && errno == EINTR) continue;
    if ((late = polled == 0)) break;
    char bytes[512];
    const ssize_t got = ::read(pipe, bytes, sizeof bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    said.append(bytes, static_cast<std::size_t>(got));
  }
  // Whatever it started in its process group ends with it; the rest by the death of its parent.
  ::kill(-stage, SIGKILL);
  int status = 0;
  while (::waitpid(stage, &status, 0) < 0 && errno == EINTR) {}
  if (late) return Came::broken(fmt::format("it was not over after {} s", seconds));
  if (said.empty() || said[0] < '0' || said[0] > '3')
    return Came::broken(WIFSIGNALED(status)
                            ? fmt::format("the stage died of SIG{}", ::sigabbrev_np(WTERMSIG(status)))
                            : "the stage ended without a word");
  return {static_cast<Came::Kind>(said[0] - '0'), said.substr(1)};
}

}  // namespace

std::string_view name(Verdict verdict) {
  switch (verdict) {
    case Verdict::stopped:
      return "stopped";
    case Verdict::stopped_otherwise:
      return "stopped, otherwise than expected";
    case Verdict::known:
      return "known, not stopped here";
    case Verdict::known_stopped:
      return "known, stopped on this machine";
    case Verdict::canary:
      return "canary, seen";
    case Verdict::skipped:
      return "skipped";
    case Verdict::got_through:
      return "GOT THROUGH";
    case Verdict::blind:
      return "CANARY NOT SEEN";
    case Verdict::broken:
      break;
  }
  return "BROKEN";
}

Verdict judge(const Attack& attack, const Came& came) {
  switch (came.kind) {
    case Came::Kind::skipped:
      return Verdict::skipped;
    case Came::Kind::broken:
      return Verdict::broken;
    case Came::Kind::through:
      return attack.canary()         ? Verdict::canary
             : attack.gets_through() ? Verdict::known
                                     : Verdict::got_through;
    case Came::Kind::stopped:
      break;
  }
  if (attack.canary()) return Verdict::blind;
  if (attack.gets_through()) return Verdict::known_stopped;
  return attack.expected.empty() || std::ranges::find(attack.expected, came.seen) != attack.expected.end()
             ? Verdict::stopped
             : Verdict::stopped_otherwise;
}

std::string why_no_stage() {
  if (::geteuid() == protocol::overflow_id)
    return fmt::format(
        "uid {} is the kernel's word for a uid that is not shown, and sessions take no broker's word that "
        "has "
        "it: run the suite as another (in a user namespace: map one)",
        protocol::overflow_id);
  if (::geteuid() != 0) return {};
  for (const char* who : {"same uid", "other uid"}) {
    const Attacker attacker = attacker_of(who);
    if (in_attacker(attacker, {}, [] { return std::string("is"); }) != "is")
      return fmt::format(
          "root can't become uid {} here: run the suite as an ordinary user, or where root can",
          attacker.uid);
  }
  return {};
}

Suite::Suite(std::string no_stage) : no_stage_(std::move(no_stage)) {
  char made[] = "/tmp/bailey-attack-XXXXXX";
  if (::mkdtemp(made) == nullptr || ::chmod(made, 0755) != 0)
    throw std::runtime_error(fmt::format("no folder in /tmp: {}", std::strerror(errno)));
  folder_ = made;
}
Suite::~Suite() {
  courtyard_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

Outcome Suite::run(const Attack& attack) {
  Outcome row{&attack, {}, Verdict::broken, 0};
  const std::uint64_t begun = monotonic_ns();
  const std::string folder = fmt::format("{}/{}", folder_, runs_++);
  auto came = [&]() -> Came {
    try {
      if (attack.in_courtyard && !courtyard_) courtyard_ = std::make_unique<Courtyard>();
    } catch (const std::exception& thrown) {
      return Came::broken(thrown.what());
    }
    int said[2];
    if (::mkdir(folder.c_str(), 0755) != 0 || ::chmod(folder.c_str(), 0755) != 0 ||
        ::pipe2(said, O_CLOEXEC) != 0)
      return Came::broken(std::strerror(errno));
    std::fflush(nullptr);
    const pid_t suite = ::getpid(), stage = ::fork();
    if (stage == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::setpgid(0, 0);
      if (::getppid() != suite) ::_exit(1);
      log::set_level(log::Level::off);
      Came is;
      try {
        is = attack.act({folder, attack.in_courtyard ? courtyard_.get() : nullptr});
      } catch (const std::exception& thrown) {
        is = Came::broken(thrown.what());
      }
      const std::string words = std::string(1, static_cast<char>('0' + static_cast<int>(is.kind))) + is.seen;
      ::_exit(::write(said[1], words.data(), words.size()) == static_cast<ssize_t>(words.size()) ? 0 : 1);
    }
    ::close(said[1]);
    const Fd in(said[0]);
    if (stage < 0) return Came::broken("no process could be started");
    ::setpgid(stage, stage);
    return hear(stage, in.get(), attack.seconds);
  }();
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  if (came.kind == Came::Kind::broken && !no_stage_.empty()) came = Came::skipped(no_stage_);
  std::ranges::replace(came.seen, '\n', ' ');
  row.verdict = judge(attack, came);
  row.came = std::move(came);
  row.ns = monotonic_ns() - begun;
  return row;
}

std::vector<const Attack*> select(const Attacks& attacks, const std::vector<std::string>& names,
                                  std::string& unknown) {
  std::vector<const Attack*> selected;
  auto fits = [](const Attack& attack, const std::string& name) {
    return attack.name == name || attack.name.starts_with(name + "/");
  };
  for (const std::string& name : names)
    if (std::ranges::none_of(attacks, [&](const Attack& attack) { return fits(attack, name); }))
      unknown = name;
  for (const Attack& attack : attacks)
    if (names.empty() ||
        std::ranges::any_of(names, [&](const std::string& name) { return fits(attack, name); }))
      selected.push_back(&attack);
  return selected;
}

}  // namespace bailey::attack
