#include "bench/table_run.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>

#include "bailey/base/clock.h"
#include "bailey/base/fd.h"
#include "bench/key.h"
#include "bench/trace.h"

namespace bailey::bench {
namespace {

constexpr std::size_t block_requests = 256;
constexpr unsigned load_batch = 16;
constexpr int poll_ms = 100;

// What a client leaves for the parent, in memory that both map.
struct Report {
  std::atomic<std::uint64_t> done{0};  // for the progress bar
  std::uint64_t load_ns = 0;
  ClientResult result;
  char error[512] = {};

  void tell(const std::string& why) {
    const std::size_t bytes = std::min(why.size(), sizeof error - 1);
    std::memcpy(error, why.data(), bytes);
    error[bytes] = 0;
  }
};

// One client, in its own process.
class TableClient {
 public:
  TableClient(const TablePlan& plan, Client& client, Report& report, const ClientShare& share,
              InsertCounter& counter)
      : plan_(plan),
        client_(client),
        report_(report),
        share_(share),
        counter_(counter),
        values_(plan.value_bytes),
        stride_(round_up(std::max<std::uint64_t>(plan.value_bytes, 1), cache_line_bytes)),
        out_(stride_ * plan.batch),
        lookups_(plan.batch),
        writes_(plan.batch) {}

  // Loads this client's share of the records; `loaders` clients load.
  Status load(unsigned loaders) {
    if (share_.number >= loaders) return {};
    const std::uint64_t start = monotonic_ns();
    std::vector<YcsbKey> keys(load_batch);
    std::vector<Write> writes(load_batch);
    std::uint64_t loaded = 0;
    for (std::uint64_t record = share_.number; record < plan_.workload.records;) {
      std::size_t count = 0;
      for (; count < load_batch && record < plan_.workload.records; ++count, record += loaders) {
        keys[count] = ycsb_key(record, plan_.workload.keys_hashed);
        writes[count] = {};
        writes[count].key = keys[count].view();
        writes[count].value = values_.at(record);
      }
      if (!client_.put_many({writes.data(), count}))
        return fail(Code::io, By::library, "loading failed: " + client_.error());
      loaded += count;
      report_.done.store(loaded, std::memory_order_relaxed);
      if (interrupted()) return interrupted_error();
    }
    report_.load_ns = monotonic_ns() - start;
    return {};
  }

  Status run() {
    std::unique_ptr<RequestSource> source;
    if (plan_.trace.empty()) {
      source = std::make_unique<WorkloadSource>(plan_.workload, share_, plan_.value_bytes, values_.all(),
                                                counter_, plan_.seed);
    } else {
      source = std::make_unique<TraceSource>(
          BAILEY_TRY(TraceSource::open(plan_.trace, share_, all_write_, values_.at(0))));
    }
    Block block;
    for (std::uint64_t done = 0;; done += block.size()) {
      report_.done.store(done, std::memory_order_relaxed);
      BAILEY_TRY(source->next(block, block_requests));
      if (block.size() == 0) return {};
      const std::vector<Request>& requests = block.requests();
      const std::uint64_t start = monotonic_ns();
      for (std::size_t at = 0; at < requests.size();) at += BAILEY_TRY(work(requests, at));
      report_.result.rate.ns += monotonic_ns() - start;
      report_.result.rate.operations += requests.size();
      for (const Request& request : requests)
        ++report_.result.operations[static_cast<unsigned>(request.kind)];
      if (interrupted()) return interrupted_error();
    }
  }

  void set_all_write(bool all_write) { all_write_ = all_write; }

 private:
  // How many requests from `at` on go in one call.
  std::size_t group(const std::vector<Request>& requests, std::size_t at) const {
    const Kind kind = requests[at].kind;
    if (plan_.batch == 1 || (kind != Kind::read && kind != Kind::update)) return 1;
    std::size_t end = at + 1;
    while (end < requests.size() && end - at < plan_.batch && requests[end].kind == kind) ++end;
    return end - at;
  }

  Result<std::size_t> work(const std::vector<Request>& requests, std::size_t at) {
    const std::size_t count = group(requests, at);
    const std::uint64_t before = plan_.latency ? monotonic_ns() : 0;
    BAILEY_TRY(count == 1 ? one(requests[at]) : many({requests.data() + at, count}));
    if (plan_.latency)
      report_.result.histograms[static_cast<unsigned>(requests[at].kind)].record(monotonic_ns() - before);
    return count;
  }

  Status one(const Request& request) {
    bool ok = false;
    switch (request.kind) {
      case Kind::read:
        ok = client_.get(request.key, MutableBytes(out_).first(stride_)) >= 0;
        break;
      case Kind::update:
        ok = client_.update(request.key, request.value);
        break;
      case Kind::insert:
        ok = client_.insert(request.key, request.value);
        if (plan_.trace.empty()) counter_.acknowledge(request.insert_number);
        break;
      case Kind::scan:
        ok = client_.scan(request.scan_items) >= 0;
        break;
      case Kind::read_modify_write:
        ok = client_.get(request.key, MutableBytes(out_).first(stride_)) >= 0 &&
             client_.update(request.key, request.value);
        break;
      case Kind::erase:
        ok = client_.erase(request.key);
        break;
    }
    return ok ? Status() : missed(request);
  }

  Status many(std::span<const Request> requests) {
    if (requests[0].kind == Kind::update) {
      for (std::size_t i = 0; i < requests.size(); ++i) {
        writes_[i] = {};
        writes_[i].key = requests[i].key;
        writes_[i].value = requests[i].value;
      }
      if (!client_.put_many({writes_.data(), requests.size()})) return missed(requests[0]);
      return {};
    }
    for (std::size_t i = 0; i < requests.size(); ++i) {
      lookups_[i].key = requests[i].key;
      lookups_[i].out = MutableBytes(out_).subspan(i * stride_, stride_);
    }
    if (!client_.get_many({lookups_.data(), requests.size()})) return missed(requests[0]);
    for (std::size_t i = 0; i < requests.size(); ++i)
      if (!lookups_[i].ok) ++report_.result.missing;
    return {};
  }

  Status missed(const Request& request) {
    if (!client_.error().empty())
      return fail(Code::io, By::library,
                  fmt::format("{} of {} failed: {}", name(request.kind), request.key, client_.error()));
    ++report_.result.missing;
    return {};
  }

  const TablePlan& plan_;
  Client& client_;
  Report& report_;
  ClientShare share_;
  InsertCounter& counter_;
  ValuePool values_;
  std::size_t stride_;
  std::vector<std::byte> out_;
  std::vector<Lookup> lookups_;
  std::vector<Write> writes_;
  bool all_write_ = true;
};

// A client's process and the line to it: it says `r` when it has loaded, waits for `g`, and says `d` when
// done.
struct Process {
  Fd line;
  pid_t pid = -1;
};

bool say(int line, char word) { return ::send(line, &word, 1, MSG_NOSIGNAL) == 1; }

class Processes {
 public:
  explicit Processes(unsigned count) : list_(count) {}
  ~Processes() {
    for (Process& process : list_) process.line.reset();
    for (Process& process : list_) {
      if (process.pid <= 0) continue;
      // Whoever still works after an error has nobody to work for.
      ::kill(process.pid, SIGKILL);
      while (::waitpid(process.pid, nullptr, 0) < 0 && errno == EINTR) {}
    }
  }
  Processes(const Processes&) = delete;
  std::vector<Process>& list() { return list_; }

  // Waits until every client has said `word`, drawing meanwhile.
  template <class Draw>
  Status hear(char word, const Report* reports, Draw&& draw) {
    std::vector<bool> heard(list_.size());
    std::size_t missing = list_.size();
    while (missing > 0) {
      std::vector<pollfd> polls;
      for (std::size_t i = 0; i < list_.size(); ++i)
        polls.push_back({heard[i] ? -1 : list_[i].line.get(), POLLIN, 0});
      if (::poll(polls.data(), polls.size(), poll_ms) < 0 && errno != EINTR)
        return fail_os(errno, "could not wait for the clients");
      if (interrupted()) return interrupted_error();
      draw();
      for (std::size_t i = 0; i < list_.size(); ++i) {
        if (heard[i] || polls[i].revents == 0) continue;
        char got = 0;
        const bool spoke = ::recv(list_[i].line.get(), &got, 1, 0) == 1;
        if (reports[i].error[0] != 0)
          return fail(Code::io, By::library, fmt::format("client {}: {}", i, reports[i].error));
        if (!spoke || got != word)
          return fail(Code::io, By::library, fmt::format("client {} died while it worked", i));
        heard[i] = true;
        --missing;
      }
    }
    return {};
  }

 private:
  std::vector<Process> list_;
};

void serve(int line, const TablePlan& plan, Store& store, Report& report, ClientShare share,
           InsertCounter& counter) {
  const bool one_writer = store.single_writer();
  share.writes = share.number == 0 || !one_writer;
  Result<std::unique_ptr<Client>> client = store.client(share.writes);
  if (!client) return report.tell(client.error().to_string());
  TableClient worker(plan, **client, report, share, counter);
  worker.set_all_write(!one_writer);
  if (const Status loaded = worker.load(one_writer ? 1 : share.clients); !loaded)
    return report.tell(loaded.error().to_string());
  char word = 0;
  if (!say(line, 'r') || ::recv(line, &word, 1, 0) != 1) return;
  report.done.store(0, std::memory_order_relaxed);
  if (const Status ran = worker.run(); !ran) return report.tell(ran.error().to_string());
  say(line, 'd');
}

}  // namespace

double TableResult::operations_per_second() const {
  double sum = 0;
  for (const ClientResult& client : clients) sum += client.rate.per_second();
  return sum;
}

ClientResult TableResult::total() const {
  ClientResult total;
  for (const ClientResult& client : clients) {
    total.rate.operations += client.rate.operations;
    total.rate.ns += client.rate.ns;
    total.missing += client.missing;
    for (unsigned kind = 0; kind < kinds; ++kind) {
      total.operations[kind] += client.operations[kind];
      total.histograms[kind].merge(client.histograms[kind]);
    }
  }
  return total;
}

Result<TableResult> run_table(const TablePlan& plan, Store& store, Progress& progress) {
  const std::size_t counter_bytes = round_up(sizeof(InsertCounter), cache_line_bytes);
  Mapping shared = BAILEY_TRY(Mapping::anonymous(counter_bytes + plan.clients * sizeof(Report)));
  auto* counter = new (shared.data()) InsertCounter(plan.workload.records);
  auto* reports = new (shared.data() + counter_bytes) Report[plan.clients];

  Processes processes(plan.clients);
  const pid_t owner = ::getpid();
  for (unsigned number = 0; number < plan.clients; ++number) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
      return fail_os(errno, "could not make a pair of sockets for a client");
    Fd theirs(ends[1]);
    Process& process = processes.list()[number];
    process.line = Fd(ends[0]);
    process.pid = ::fork();
    if (process.pid < 0) return fail_os(errno, "could not start a client's process");
    if (process.pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != owner) ::_exit(1);
      for (Process& other : processes.list()) other.line.reset();
      ClientShare share{number, plan.clients, true, plan.operations};
      if (plan.trace.empty())
        share.operations = plan.operations / plan.clients + (number < plan.operations % plan.clients ? 1 : 0);
      serve(theirs.get(), plan, store, reports[number], share, *counter);
      ::_exit(0);
    }
  }
  const auto draw = [&](std::string_view what, std::uint64_t total) {
    std::uint64_t done = 0;
    for (unsigned i = 0; i < plan.clients; ++i) done += reports[i].done.load(std::memory_order_relaxed);
    progress.show(done, total, what);
  };
  BAILEY_TRY(processes.hear('r', reports, [&] { draw("loading", plan.workload.records); }));
  for (Process& process : processes.list())
    if (!say(process.line.get(), 'g'))
      return fail(Code::io, By::library, "a client died before it was asked to work");
  BAILEY_TRY(processes.hear('d', reports, [&] { draw("running", plan.operations); }));

  TableResult result;
  std::uint64_t load_ns = 0;
  for (unsigned i = 0; i < plan.clients; ++i) {
    result.clients.push_back(reports[i].result);
    load_ns = std::max(load_ns, reports[i].load_ns);
  }
  result.load_per_second = Rate{plan.workload.records, load_ns}.per_second();
  return result;
}

}  // namespace bailey::bench
