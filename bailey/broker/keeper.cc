#include "bailey/broker/keeper.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "bailey/base/clock.h"
#include "bailey/base/log.h"

namespace bailey::broker {
namespace {

constexpr std::uint64_t janitor_pause_ns = 1'000'000'000;
// If the allocator died of a shortage, the shortage has this long to pass: to start the next one, the keeper
// makes itself the first to be killed for a moment.
constexpr std::uint64_t allocator_pause_ns = 200'000'000;

sigset_t our_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (int signal : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&signals, signal);
  return signals;
}

std::string how_it_died(pid_t pid) {
  int status = 0;
  if (::waitpid(pid, &status, 0) != pid) return "in an unknown way";
  if (WIFSIGNALED(status)) return fmt::format("of signal {}", WTERMSIG(status));
  return fmt::format("with status {}", WEXITSTATUS(status));
}

}  // namespace

Keeper::~Keeper() {
  stop_children();
  if (signals_) ::sigprocmask(SIG_SETMASK, &before_, nullptr);
}

Status Keeper::block_signals() {
  sigset_t signals = our_signals();
  if (::sigprocmask(SIG_BLOCK, &signals, &before_) != 0) return fail_os(errno, "could not block signals");
  signals_ = Fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return fail_os(errno, "could not make a signalfd");
  return {};
}

// In the child `body` runs and its value is the exit status; nothing of the keeper's is undone there.
Result<Keeper::Child> Keeper::fork_child(const std::function<int()>& body) {
  std::fflush(nullptr);
  pid_t pid = ::fork();
  if (pid < 0) return fail_os(errno, "could not start a process");
  if (pid == 0) {
    int status = 1;
    try {
      status = body();
    } catch (const std::exception& error) {
      log::error("broker", "died of an exception: {}", error.what());
    }
    std::fflush(nullptr);
    ::_exit(status);
  }
  // Ours and not reaped: the pid is its own.
  Child child{pid, Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)))};
  if (!child.pidfd) {
    int os = errno;
    end(child, SIGKILL, 0);
    return fail_os(os, "could not watch a process");
  }
  return child;
}

Status Keeper::start_broker() {
  auto [ours, theirs] = BAILEY_TRY(protocol::Connection::pair());
  line_ = std::move(ours);
  ready_ = false;
  setup_.first = !told_ready_;
  setup_.held = &held_;
  broker_ = BAILEY_TRY(fork_child([this, end = &theirs] {
    line_.close();
    signals_.reset();
    setup_.allocator->only_ask();
    auto served = Broker::run(setup_, Hold(std::move(*end)));
    if (!served) log::error("broker", "{}", served.error().to_string());
    return served ? 0 : 1;
  }));
  return {};
}

void Keeper::start_janitor() {
  if (!options_.janitor || janitor_.pid > 0 || !ready_ || monotonic_ns() < janitor_at_ns_) return;
  janitor_at_ns_ = monotonic_ns() + janitor_pause_ns;
  auto started = fork_child([this] {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != setup_.keeper) return 1;
    // A session like any other has nothing of the pool but what it is given, and nobody gets more through
    // it.
    forget_pool();
    *setup_.allocator = medium::Allocator();
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
    return options_.janitor(running_.socket_path);
  });
  if (started)
    janitor_ = std::move(*started);
  else
    log::warning("broker", "the janitor could not be started: {}", started.error().to_string());
}

void Keeper::start_allocator() {
  medium::Allocator& allocator = *setup_.allocator;
  if (allocator.pid() > 0 || monotonic_ns() < allocator_at_ns_) return;
  allocator_at_ns_ = monotonic_ns() + allocator_pause_ns;
  if (auto started = allocator.restart([this] { forget_pool(); }); !started)
    log::error("broker", "there is no allocator; files wait for the next: {}", started.error().to_string());
}

// In a child that is no broker: gives up what the keeper holds, but for the way to the allocator.
void Keeper::forget_pool() {
  held_.clear();
  *setup_.control = ControlPage();
  protocol::Listener closed = std::move(*setup_.listener);
  crypto::SecretKey wiped_key = std::move(*setup_.key);
  crypto::Secret wiped_root = std::move(*setup_.root);
  setup_.pool_lock->reset();
  broker_.pidfd.reset();
  line_.close();
  signals_.reset();
}

void Keeper::take_messages() {
  while (line_) {
    auto received = line_.try_receive(1);
    if (!received) {
      line_.close();
      return;
    }
    if (!*received) return;
    on_message(std::move(**received));
  }
}

void Keeper::on_message(protocol::Received received) {
  std::size_t space = received.payload.find(' ');
  std::string word = received.payload.substr(0, space);
  std::string text = space == std::string::npos ? "" : received.payload.substr(space + 1);
  if (word == "hold" && received.fds.size() == 1) {
    held_[text] = std::move(received.fds.front());
  } else if (word == "drop") {
    held_.erase(text);
  } else if (word == "failed") {
    failed_ = text;
  } else if (word == "ready") {
    ready_ = true;
    ready_at_ns_ = monotonic_ns();
    running_.broker = broker_.pid;
    if (!std::exchange(told_ready_, true) && options_.ready) options_.ready(running_);
    pass_hang_up();
  } else if (word == "reread") {
    hang_up_asked_ = false;
    pass_hang_up();
  } else {
    log::error("broker", "the keeper does not understand its broker's \"{}\"", word);
  }
}

// One at a time, so that an answer is the answer to the last that was passed on.
void Keeper::pass_hang_up() {
  if (!hang_up_ || hang_up_asked_ || !ready_) return;
  hang_up_ = false;
  hang_up_asked_ = true;
  ::kill(broker_.pid, SIGHUP);
}

Status Keeper::broker_died() {
  take_messages();  // what it said before it died counts
  // The next one reads the file in its place; not for ever, or a file that kills brokers would end the pool.
  if (std::exchange(hang_up_asked_, false)) {
    if (std::exchange(hang_up_retried_, true))
      log::error("broker", "the policy was not applied again: two brokers have died over it");
    else
      hang_up_ = true;
  }
  line_.close();
  pid_t pid = std::exchange(broker_.pid, -1);
  broker_.pidfd.reset();
  std::string how = how_it_died(pid);
  // A broker that can't begin at all is the operator's business, with its own words.
  if (!told_ready_)
    return fail(Code::unavailable, By::broker,
                failed_.empty() ? fmt::format("the broker died {} while it started", how) : failed_);
  const bool served = ready_ && monotonic_ns() - ready_at_ns_ >= served_ns;
  deaths_in_a_row_ = served ? 0 : deaths_in_a_row_ + 1;
  if (deaths_in_a_row_ == deaths_max)
    return fail(
        Code::unavailable, By::broker,
        fmt::format("the broker died {} times in a row and never served for {} s, the last time {}{}{}; "
                    "the pool is given up",
                    deaths_max, served_ns / 1'000'000'000, how, failed_.empty() ? "" : ": ", failed_));
  log::warning("broker", "broker {} died {}; the next one takes over", pid, how);
  return start_broker();
}

Status Keeper::run() {
  BAILEY_TRY(block_signals());
  BAILEY_TRY(start_broker());
  for (;;) {
    std::array<pollfd, 5> ready{{{signals_.get(), POLLIN, 0},
                                 {line_.fd(), POLLIN, 0},
                                 {broker_.pidfd.get(), POLLIN, 0},
                                 {janitor_.pidfd.get(), POLLIN, 0},
                                 {setup_.allocator->pidfd(), POLLIN, 0}}};
    bool somebody_waits = (options_.janitor && janitor_.pid < 0 && ready_) || setup_.allocator->pid() < 0;
    if (::poll(ready.data(), ready.size(), somebody_waits ? 100 : -1) < 0 && errno != EINTR)
      return fail_os(errno, "poll failed");
    take_messages();
    // First of all: a terminal's Ctrl-C stops the broker too, which is no death then.
    signalfd_siginfo signal;
    while (::read(signals_.get(), &signal, sizeof signal) == sizeof signal) {
      if (signal.ssi_signo == SIGTERM || signal.ssi_signo == SIGINT) return {};
      if (signal.ssi_signo != SIGHUP) continue;
      hang_up_ = true;
      hang_up_retried_ = false;
      pass_hang_up();
    }
    if (ready[2].revents != 0) BAILEY_TRY(broker_died());
    if (ready[3].revents != 0) {
      ::waitpid(std::exchange(janitor_.pid, -1), nullptr, 0);
      janitor_.pidfd.reset();
    }
    if (ready[4].revents != 0) {
      log::warning("broker", "the allocator died {}; the next one takes over", setup_.allocator->reap());
      allocator_at_ns_ = monotonic_ns() + allocator_pause_ns;
    }
    start_janitor();
    start_allocator();
  }
}

void Keeper::end(Child& child, int signal, int patience_ms) {
  if (child.pid < 0) return;
  ::kill(child.pid, signal);
  pollfd dead{child.pidfd.get(), POLLIN, 0};
  if (signal != SIGKILL && ::poll(&dead, 1, patience_ms) != 1) ::kill(child.pid, SIGKILL);
  while (::waitpid(child.pid, nullptr, 0) < 0 && errno == EINTR) {}
  child.pid = -1;
  child.pidfd.reset();
}

void Keeper::stop_children() {
  constexpr int patience_ms = 2000;
  end(janitor_, SIGKILL, 0);
  end(broker_, SIGTERM, patience_ms);
}

}  // namespace bailey::broker
