#include "bailey/broker/broker.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "bailey/base/clock.h"
#include "bailey/base/log.h"

namespace bailey::broker {
namespace {

std::uint64_t number_or(const std::string& text, std::uint64_t otherwise) {
  std::uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && !text.empty() ? value : otherwise;
}

}  // namespace

Broker::Broker(const Setup& setup, Hold hold, Loop loop, State state, Audit audit)
    : setup_(setup),
      hold_(std::move(hold)),
      loop_(std::move(loop)),
      state_(std::move(state)),
      audit_(std::move(audit)),
      started_ns_(monotonic_ns()) {}

Status Broker::run(const Setup& setup, Hold hold) {
  // A broker without its keeper would serve a pool that nobody holds.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || ::getppid() != setup.keeper)
    return fail(Code::unavailable, By::broker, "the keeper is gone");
  Loop loop = BAILEY_TRY(Loop::create());
  auto opened = [&]() -> Result<std::pair<State, Audit>> {
    State state = BAILEY_TRY(State::open(setup.state_path, setup.durable));
    Audit audit = BAILEY_TRY(Audit::open(setup.audit_path));
    return std::pair{std::move(state), std::move(audit)};
  }();
  if (!opened) {
    static_cast<void>(hold.failed(opened.error().to_string()));
    return std::unexpected(std::move(opened).error());
  }
  Broker broker(setup, std::move(hold), std::move(loop), std::move(opened->first), std::move(opened->second));
  if (auto started = broker.start(); !started) {
    static_cast<void>(broker.hold_.failed(started.error().to_string()));
    return started;
  }
  return broker.loop_.run();
}

Status Broker::start() {
  BAILEY_TRY(recover());
  BAILEY_TRY(watch_signals());
  BAILEY_TRY(loop_.watch(setup_.listener->fd(), EPOLLIN, [this](std::uint32_t) { accept(); }));
  note("start", nullptr, {{"epoch", epoch_}, {"pool", policy_.pool}});
  return hold_.ready();
}

Status Broker::watch_signals() {
  // The keeper has blocked them, and they stay blocked in us.
  sigset_t signals;
  sigemptyset(&signals);
  for (int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  signals_ = Fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return fail_os(errno, "could not make a signalfd");
  BAILEY_TRY(loop_.watch(signals_.get(), EPOLLIN, [this](std::uint32_t) {
    signalfd_siginfo signal;
    while (::read(signals_.get(), &signal, sizeof signal) == sizeof signal) {
      if (signal.ssi_signo != SIGHUP) {
        audit_.flush();
        loop_.stop();
        continue;
      }
      if (auto applied = apply_policy_file(); !applied)
        log::error("broker", "the policy was not applied again: {}", applied.error().to_string());
      if (auto told = hold_.reread(); !told) log::error("broker", "{}", told.error().to_string());
    }
  }));
  return {};
}

// Takes over what the state and the keeper have; the first broker of a keeper then applies the policy file.
Status Broker::recover() {
  std::string id = BAILEY_TRY(state_.meta("pool"));
  bool is_new = id.empty();
  if (is_new) {
    random_bytes(pool_.data(), pool_.size());
    id.assign(reinterpret_cast<const char*>(pool_.data()), pool_.size());
  }
  if (id.size() != pool_.size()) return fail(Code::corrupt, By::broker, "the state has a damaged pool id");
  std::copy(id.begin(), id.end(), pool_.begin());
  epoch_ = number_or(BAILEY_TRY(state_.meta("epoch")), 0) + 1;
  next_session_ = number_or(BAILEY_TRY(state_.meta("next_session")), 1);
  next_writer_ = static_cast<std::uint32_t>(number_or(BAILEY_TRY(state_.meta("next_writer")), 1));
  BAILEY_TRY(state_.commit([&]() -> Status {
    BAILEY_TRY(state_.set_meta("pool", id));
    return state_.set_meta("epoch", std::to_string(epoch_));
  }));
  setup_.control->set_pool(pool_);
  setup_.control->set_epoch(epoch_);

  BAILEY_TRY(load_policy());
  BAILEY_TRY(recover_regions());
  BAILEY_TRY(load_tokens());
  BAILEY_TRY(recover_segments());
  BAILEY_TRY(recover_sessions());
  drop_unnamed();
  if (setup_.first) BAILEY_TRY(apply_policy_file());
  BAILEY_TRY(begin_tokens());
  for (auto& [number, region] : regions_)
    if (region.disowned) renew(region);
  return {};
}

}  // namespace bailey::broker
