#include "bench/broker_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "bailey/base/clock.h"
#include "bailey/base/fd.h"
#include "bailey/base/log.h"

namespace bailey::bench {
namespace {

using nlohmann::json;

void say(int pipe, const json& what) {
  const std::string text = what.dump(-1, ' ', true, json::error_handler_t::replace);
  static_cast<void>(!::write(pipe, text.data(), text.size()));
}

// In the child: until it is told to stop.
void serve(broker::ServeOptions options, int pipe) {
  log::set_level(log::Level::error);
  options.ready = [pipe](const broker::Running& running) {
    say(pipe, {{"socket", running.socket_path},
               {"pool", running.pool},
               {"key", running.broker_key},
               {"keeper", running.keeper},
               {"broker", running.broker}});
  };
  const Status served = broker::serve_until_stopped(options);
  if (!served) say(pipe, {{"error", served.error().to_string()}});
}

}  // namespace

Result<BrokerProcess> BrokerProcess::start(broker::ServeOptions options,
                                           const std::function<std::shared_ptr<void>()>& keep) {
  const std::uint64_t begun = monotonic_ns();
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_os(errno, "could not make a pipe");
  const Fd ours(ends[0]);
  Fd theirs(ends[1]);
  BrokerProcess process;
  const pid_t owner = process.owner_ = ::getpid();
  // Blocked from the first moment on, so that a request to stop is never met half-way: the keeper hears it as
  // soon as it can act on it.
  sigset_t stops, before;
  sigemptyset(&stops);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&stops, signal);
  ::sigprocmask(SIG_BLOCK, &stops, &before);
  std::fflush(nullptr);
  process.pid_ = ::fork();
  const int os = errno;
  if (process.pid_ == 0) {
    process.pid_ = -1;
    {
      const std::shared_ptr<void> kept = keep ? keep() : nullptr;
      ::prctl(PR_SET_PDEATHSIG, SIGTERM);
      if (::getppid() == owner) serve(std::move(options), theirs.get());
    }
    ::_exit(0);
  }
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  if (process.pid_ < 0) return fail_os(os, "could not start a process");
  theirs.reset();
  char buffer[8192];
  ssize_t got = 0;
  do got = ::read(ours.get(), buffer, sizeof buffer);
  while (got < 0 && errno == EINTR);
  const json said = got <= 0 ? json() : json::parse(buffer, buffer + got, nullptr, false);
  if (!said.is_object() || said.contains("error"))
    return fail(Code::unavailable, By::broker,
                said.is_object() ? said["error"].get<std::string>() : "the broker died while it started");
  process.running_.socket_path = said.at("socket").get<std::string>();
  process.running_.pool = said.at("pool").get<std::string>();
  process.running_.broker_key = said.at("key").get<std::string>();
  process.running_.keeper = said.at("keeper").get<pid_t>();
  process.running_.broker = said.at("broker").get<pid_t>();
  process.ready_ns_ = monotonic_ns() - begun;
  return process;
}

BrokerProcess::BrokerProcess(BrokerProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      owner_(other.owner_),
      running_(std::move(other.running_)),
      ready_ns_(other.ready_ns_) {}

BrokerProcess::~BrokerProcess() {
  if (pid_ <= 0 || owner_ != ::getpid()) return;
  ::kill(pid_, SIGTERM);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {}
}

}  // namespace bailey::bench
