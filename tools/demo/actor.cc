#include "tools/demo/actor.h"

#include <fmt/format.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "bailey/base/clock.h"
#include "bench/key.h"
#include "tools/bailey/session_store.h"
#include "tools/demo/intruder.h"

namespace bailey::demo {
namespace {

constexpr unsigned load_batch = 16;
constexpr std::size_t block_requests = 256;
constexpr int poll_ms = 100;
constexpr int line_number = 3;

Status become(uid_t uid) {
  if (::setgroups(0, nullptr) != 0 || ::setresgid(uid, uid, uid) != 0 || ::setresuid(uid, uid, uid) != 0)
    return fail_os(errno, fmt::format("could not become uid {}", uid));
  return {};
}

// What runs in the actor's process.
class Role {
 public:
  Role(const Part& part, Board& board)
      : part_(part),
        board_(board),
        values_(std::max<std::uint64_t>(part.workload->value_bytes(), 1)),
        out_(64 << 10) {}

  Status obey(const Actor::Order& order) {
    switch (order.task) {
      case Task::open:
        return open();
      case Task::load:
        return load(*clients_.at(order.store));
      case Task::run:
        return run(*clients_.at(order.store), order);
      case Task::honest:
        return honest();
      case Task::hostile:
        return hostile(order);
    }
    return {};
  }

 private:
  Status open() {
    clients_.push_back(BAILEY_TRY(tools::session_client(part_.reach, part_.region, part_.writes)));
    for (bench::Store* store : part_.stores) clients_.push_back(BAILEY_TRY(store->client(part_.writes)));
    return {};
  }

  Status load(bench::Client& client) {
    const std::uint64_t records = part_.workload->records;
    std::vector<bench::YcsbKey> keys(load_batch);
    std::vector<bench::Write> writes(load_batch);
    for (std::uint64_t record = 0; record < records;) {
      std::size_t count = 0;
      for (; count < load_batch && record < records; ++count, ++record) {
        keys[count] = bench::ycsb_key(record, part_.workload->keys_hashed);
        writes[count] = {};
        writes[count].key = keys[count].view();
        writes[count].value = values_.at(record);
      }
      if (!client.put_many({writes.data(), count}))
        return fail(Code::io, By::library, fmt::format("{} could not load: {}", part_.name, client.error()));
      __atomic_store_n(&board_.loaded, record, __ATOMIC_RELAXED);
    }
    return {};
  }

  // Requests are drawn a block at a time, outside of what is measured.
  Status run(bench::Client& client, const Actor::Order& order) {
    board_.rate = {};
    board_.histogram.clear();
    board_.missing = 0;
    const bench::ClientShare share{part_.number, part_.clients, part_.writes, ~std::uint64_t{0}};
    bench::WorkloadSource source(*part_.workload, share, part_.workload->value_bytes(), values_.all(),
                                 counter(), seed_++);
    bench::Block block;
    while (board_.rate.ns < order.budget_ns) {
      BAILEY_TRY(source.next(block, block_requests));
      const std::vector<bench::Request>& requests = block.requests();
      const std::uint64_t start = monotonic_ns();
      for (const bench::Request& request : requests) {
        const std::uint64_t before = order.timed ? monotonic_ns() : 0;
        const bool ok = request.kind == bench::Kind::read ? client.get(request.key, out_) >= 0
                                                          : client.update(request.key, request.value);
        if (order.timed) board_.histogram.record(monotonic_ns() - before);
        if (ok) continue;
        if (!client.error().empty())
          return fail(
              Code::io, By::library,
              fmt::format("{}'s {} failed: {}", part_.name, bench::name(request.kind), client.error()));
        ++board_.missing;
      }
      board_.rate.ns += monotonic_ns() - start;
      board_.rate.operations += requests.size();
    }
    return {};
  }
  bench::InsertCounter& counter() {
    if (!counter_) counter_ = std::make_unique<bench::InsertCounter>(part_.workload->records);
    return *counter_;
  }

  // As a well-behaved program that has no right to.
  Status honest() {
    board_.attempts = 0;
    Session session = BAILEY_TRY(part_.reach.connect());
    Result<Table> table = session.open_table(part_.region, Access::read_only);
    if (!table) {
      note(Attempt::refused_by(fmt::format("opens {} for reading", part_.region), table.error()));
      return {};
    }
    const Result<Table> writable = session.open_table(part_.region, Access::read_write);
    note(writable ? Attempt::let_through("opens the table for writing")
                  : Attempt::refused_by(fmt::format("opens {} for writing", part_.region), writable.error()));
    const Result<std::uint64_t> put = table->put("user1", "mine");
    note(put ? Attempt::let_through("puts")
             : Attempt::refused_by("puts into the table that he may read", put.error()));
    return {};
  }

  Status hostile(const Actor::Order& order) {
    board_.attempts = 0;
    // A grant or none decides what there is to try.
    if (part_.clients > part_.number)
      for (const Attempt& attempt : BAILEY_TRY(attack_as_reader(part_.reach.socket, part_.reach.broker_key,
                                                                part_.reach.key_file, part_.region)))
        note(attempt);
    else
      for (const Attempt& attempt : attack_from_outside(order.broker, order.client)) note(attempt);
    return {};
  }

  void note(const Attempt& attempt) {
    if (board_.attempts < attempts_max) board_.attempt[board_.attempts++] = attempt;
  }

  const Part& part_;
  Board& board_;
  bench::ValuePool values_;
  std::vector<std::byte> out_;
  std::vector<std::unique_ptr<bench::Client>> clients_;
  std::unique_ptr<bench::InsertCounter> counter_;
  std::uint64_t seed_ = 1 + part_.number * 1000;
};

void serve(int line, const Part& part, Board& board) {
  const auto fails = [&](const Status& status) {
    if (status) return false;
    const std::string text = status.error().to_string();
    const std::size_t bytes = std::min(text.size(), sizeof board.error - 1);
    std::memcpy(board.error, text.data(), bytes);
    board.error[bytes] = 0;
    return true;
  };
  if (part.uid && fails(become(*part.uid))) return;
  Role role(part, board);
  for (Actor::Order order; ::recv(line, &order, sizeof order, 0) == sizeof order;) {
    const char answer = fails(role.obey(order)) ? 'e' : 'd';
    if (::send(line, &answer, 1, MSG_NOSIGNAL) != 1) return;
  }
}

}  // namespace

bool can_become(uid_t uid) {
  if (::geteuid() != 0) return false;
  const pid_t child = ::fork();
  if (child < 0) return false;
  if (child == 0) ::_exit(become(uid) ? 0 : 1);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return false;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

Actor::Process::~Process() {
  if (pid <= 0) return;
  ::kill(pid, SIGKILL);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {}
}

Actor::~Actor() { line_.reset(); }

Result<Actor> Actor::start(Part part) {
  Actor actor;
  actor.name_ = part.name;
  actor.memory_ = BAILEY_TRY(Mapping::anonymous(sizeof(Board)));
  actor.board_ = new (actor.memory_.data()) Board;
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return fail_os(errno, "could not make a pair of sockets");
  actor.line_ = Fd(ends[0]);
  const Fd theirs(ends[1]);
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) return fail_os(errno, "could not start a process");
  if (pid == 0) {
    // Nothing of the demo's is this process's business, and a line kept open would keep another actor alive.
    if (::dup2(theirs.get(), line_number) != line_number || ::close_range(line_number + 1, ~0u, 0) != 0)
      ::_exit(1);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::signal(signal, SIG_DFL);
    serve(line_number, part, *actor.board_);
    ::_exit(0);
  }
  actor.process_.pid = pid;
  return actor;
}

Status Actor::order(const Order& order) {
  if (::send(line_.get(), &order, sizeof order, MSG_NOSIGNAL) != sizeof order)
    return fail(Code::closed, By::library, fmt::format("{} died: {}", name_, board_->error));
  return {};
}

Status Actor::wait(const std::function<void()>& waiting) {
  for (;;) {
    if (bench::interrupted()) return bench::interrupted_error();
    if (waiting) waiting();
    pollfd ready{line_.get(), POLLIN, 0};
    if (::poll(&ready, 1, poll_ms) <= 0) continue;
    char answer = 0;
    if (::recv(line_.get(), &answer, 1, 0) == 1 && answer == 'd') return {};
    return fail(
        Code::io, By::library,
        board_->error[0] != 0 ? std::string(board_->error) : fmt::format("{} died while it worked", name_));
  }
}

}  // namespace bailey::demo
