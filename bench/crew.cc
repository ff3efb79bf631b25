#include "bench/crew.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

namespace bailey::bench {
namespace {

// The sockets keep message boundaries: an order is never split.
template <class T>
bool send_all(int line, const T& what) {
  ssize_t sent;
  do {
    sent = ::send(line, &what, sizeof what, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(sizeof what);
}

template <class T>
bool receive_all(int line, T& what) {
  ssize_t got;
  do {
    got = ::recv(line, &what, sizeof what, 0);
  } while (got < 0 && errno == EINTR);
  return got == static_cast<ssize_t>(sizeof what);
}

}  // namespace

void Crew::serve(int line, Report& report, const System& system, Store& store, unsigned number,
                 const KeyOrder& keys, const ValuePool& values) {
  const auto tell = [&](const std::string& why) {
    const std::size_t bytes = std::min(why.size(), sizeof report.error - 1);
    std::memcpy(report.error, why.data(), bytes);
    report.error[bytes] = 0;
  };
  Result<std::unique_ptr<Client>> client = store.client(false);
  if (!client) tell(client.error().to_string());
  std::size_t from = keys.size() / 7 * number % keys.size();
  Order order{};
  while (receive_all(line, order)) {
    if (client) {
      Measurer measurer(**client, order.operation, system.pipeline, values);
      report.rate = {};
      report.histogram.clear();
      if (order.timed) {
        const Status done =
            measurer.run_timed(keys, from, order.budget_ns, ~std::uint64_t{0}, report.histogram);
        if (!done) tell(done.error().to_string());
      } else {
        const Result<Rate> done = measurer.run(keys, from, order.budget_ns);
        if (done) report.rate = *done;
        if (!done) tell(done.error().to_string());
      }
      (*client)->rest();
    }
    if (!send_all(line, 'd')) return;
  }
}

Result<Crew> Crew::start(const System& system, Store& store, unsigned clients, const KeyOrder& keys,
                         const ValuePool& values) {
  Crew crew;
  crew.owner_ = ::getpid();
  crew.reports_ = BAILEY_TRY(Mapping::anonymous(clients * sizeof(Report)));
  auto* reports = new (crew.reports_.data()) Report[clients]{};
  for (unsigned number = 0; number < clients; ++number) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
      return fail_os(errno, "could not make a pair of sockets for a client");
    Fd theirs(ends[1]);
    Member& member = crew.members_.emplace_back();
    member.line = Fd(ends[0]);
    Report& report = reports[number];
    if (!store.across_processes()) {
      member.thread =
          std::thread([line = std::move(theirs), &report, &system, &store, number, &keys, &values] {
            serve(line.get(), report, system, store, number, keys, values);
          });
      continue;
    }
    member.pid = ::fork();
    if (member.pid < 0) return fail_os(errno, "could not start a client's process");
    if (member.pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != crew.owner_) ::_exit(1);
      // Else a member would keep the lines of those before it open, and none would see the end.
      for (Member& other : crew.members_) other.line.reset();
      serve(theirs.get(), report, system, store, number, keys, values);
      ::_exit(0);
    }
  }
  return crew;
}

Crew::~Crew() {
  if (owner_ != ::getpid()) return;
  for (Member& member : members_) {
    if (member.line) ::shutdown(member.line.get(), SHUT_RDWR);
    member.line.reset();
    if (member.thread.joinable()) member.thread.join();
    if (member.pid > 0)
      while (::waitpid(member.pid, nullptr, 0) < 0 && errno == EINTR) {}
  }
}

Status Crew::order(Operation operation, std::uint64_t budget_ns, bool timed) {
  for (Member& member : members_)
    if (!send_all(member.line.get(), Order{operation, timed, budget_ns}))
      return fail(Code::io, By::library, "a client's process died");
  return {};
}

Result<Crew::Outcome> Crew::collect() {
  Outcome outcome;
  const auto* reports = reinterpret_cast<const Report*>(reports_.data());
  for (std::size_t i = 0; i < members_.size(); ++i) {
    char answer = 0;
    if (!receive_all(members_[i].line.get(), answer))
      return fail(Code::io, By::library, fmt::format("client {} died while it worked", i));
    if (reports[i].error[0] != 0)
      return fail(Code::io, By::library, fmt::format("client {}: {}", i, reports[i].error));
    outcome.operations_per_second += reports[i].rate.per_second();
    outcome.disturbance.add(reports[i].rate);
    outcome.histogram.merge(reports[i].histogram);
  }
  if (interrupted()) return interrupted_error();
  return outcome;
}

}  // namespace bailey::bench
