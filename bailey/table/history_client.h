// For tests: processes that use a real table over a plain pool in shared memory and record what they do.
//
// A Stage is made by the parent before it forks: memory, pool, one Recorder and one board a process. A Client
// is one process's handle, made after the fork. Children never use GoogleTest: what is wrong they write on
// their board.
#pragma once

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "bailey/base/bytes.h"
#include "bailey/base/fd.h"
#include "bailey/pool/plain.h"
#include "bailey/pool/test_sealer.h"
#include "bailey/table/history.h"
#include "bailey/table/home.h"
#include "bailey/table/table.h"

namespace bailey::table {

// What a child tells its parent.
struct alignas(cache_line_bytes) Board {
  std::atomic<std::uint32_t> writer;  // its view's writer id
  std::atomic<std::uint64_t> contended;
  std::atomic<std::uint64_t> refused;  // no space, quota, index full
  char fault[400];                     // the first thing that must not be
};

struct StageOptions {
  Mode mode = Mode::shared;
  unsigned processes = 4;                // recorders: one for each process that ever takes part
  std::size_t operations_max = 100'000;  // of one process
  std::uint64_t keys = 8;
  unsigned segments = 64;
  std::uint64_t segment_bytes = 1 << 20;
  std::optional<Geometry> geometry = std::nullopt;  // else planned for `keys`
};

class Stage {
 public:
  explicit Stage(const StageOptions& stage_options) : options(stage_options) {
    geometry = options.geometry.value_or(Geometry::plan(options.mode, options.keys, 0x5eed));
    pool::PlainOptions plain;
    plain.index_bytes = geometry.index_bytes();
    plain.segment_bytes = options.segment_bytes;
    plain.shared_index = options.mode == Mode::shared;
    memory = must(Mapping::anonymous(pool::PlainPool::bytes_for(plain, options.segments)));
    pool.emplace(must(pool::PlainPool::format(memory.span(), plain)));
    Table::format(pool->index(), geometry);
    boards_memory = must(Mapping::anonymous(sizeof(Shared) + options.processes * sizeof(Board)));
    for (unsigned i = 0; i < options.processes; ++i)
      recorders.push_back(must(Recorder::create(i, options.operations_max)));
  }

  template <class T>
  static T must(Result<T> result) {
    BAILEY_ASSERT(result.has_value());
    return std::move(*result);
  }

  struct alignas(cache_line_bytes) Shared {
    std::atomic<std::uint32_t> ready;
    std::atomic<std::uint32_t> go;
    std::atomic<std::uint32_t> stop;
  };
  Shared& shared() { return *reinterpret_cast<Shared*>(boards_memory.data()); }
  Board& board(unsigned process) {
    return reinterpret_cast<Board*>(boards_memory.data() + sizeof(Shared))[process];
  }

  // The same programs run over encrypted tables where the environment says so.
  static bool encrypted() { return std::getenv("BAILEY_TEST_ENCRYPTED") != nullptr; }
  Home home(std::uint64_t key) const {
    if (!encrypted()) return home_of(key_text(key), geometry);
    return home_of(pool::TestKeys().sealer()->hash(key_text(key)), geometry);
  }

  // Keys of all kinds of length: the empty one, one-byte ones, and now and then a long one.
  static std::string key_text(std::uint64_t key) {
    if (key == 0) return {};
    std::string text = "k" + std::to_string(key);
    if (key % 8 == 5) text.append(40 + key % 700, '.');
    return text;
  }

  std::vector<Operation> history() const {
    std::vector<Operation> all;
    for (const Recorder& recorder : recorders) recorder.append_to(all);
    resolve_short_values(all);
    return all;
  }
  // The first thing that a child found wrong.
  std::string fault() {
    for (unsigned i = 0; i < options.processes; ++i)
      if (board(i).fault[0] != 0) return "process " + std::to_string(i) + ": " + board(i).fault;
    return {};
  }

  StageOptions options;
  Geometry geometry;
  Mapping memory, boards_memory;
  std::optional<pool::PlainPool> pool;
  std::vector<Recorder> recorders;
};

// Stops or kills its own process at the (skip + 1)th time that a step is reached.
class StopAt : public pool::StepHook {
 public:
  StopAt(pool::Step step, int signal, unsigned skip = 0) : step_(step), signal_(signal), skip_(skip) {}
  void at(pool::Step step) override {
    if (step != step_ || fired_) return;
    if (skip_-- > 0) return;
    fired_ = true;
    raise(signal_);
  }
  bool fired() const { return fired_; }

 private:
  pool::Step step_;
  int signal_;
  unsigned skip_;
  bool fired_ = false;
};

// Holds its process up now and then at every step, so that others get in between far more often than by
// chance.
class Dawdle : public pool::StepHook {
 public:
  explicit Dawdle(unsigned seed) : random_(seed) {}
  void at(pool::Step) override {
    const std::uint64_t dice = random_() % 512;
    if (dice == 0) {
      sched_yield();
    } else if (dice < 16) {
      const std::uint64_t until_ns = monotonic_ns() + random_() % 4000;
      while (monotonic_ns() < until_ns) {}
    }
  }

 private:
  std::minstd_rand random_;
};

class Client {
 public:
  Client(Stage& stage, unsigned process, bool writes, pool::StepHook* hook = nullptr)
      : Client(stage, process, Stage::must(stage.pool->view(writes)), stage.geometry, hook) {}
  // On a region that is not the stage's own.
  Client(Stage& stage, unsigned process, std::unique_ptr<pool::View> view, const Geometry& geometry,
         pool::StepHook* hook)
      : process_(process),
        keys_(stage.options.keys),
        recorder_(stage.recorders[process]),
        board_(stage.board(process)),
        random_(process * 7919 + 1),
        versions_(stage.options.keys, 0) {
    board_.writer = view->writer();
    if (Stage::encrypted()) view->set_sealer(pool::TestKeys().sealer());
    view->set_hook(hook);
    table_.emplace(Stage::must(Table::open(std::move(view), geometry)));
  }

  Table& table() { return *table_; }
  Recorder& recorder() { return recorder_; }
  std::mt19937_64& random() { return random_; }
  std::uint64_t known_version(std::uint64_t key) const { return versions_[key]; }

  // Where fixed, all values have this size.
  std::optional<std::size_t> fixed_bytes;
  std::size_t bytes_least = 0;
  std::size_t bytes_large = 100'000;
  // Why the last operation that was refused was refused.
  Error last_refusal;

  Outcome get(std::uint64_t key) {
    const std::string text = Stage::key_text(key);
    Operation& op = recorder_.begin(Action::get, key);
    const Result<Found> found = table_->get(text, buffer_);
    if (found) return saw(op, *found, buffer_);
    return end(op, found.error());
  }
  Outcome get_into_span(std::uint64_t key) {
    const std::string text = Stage::key_text(key);
    buffer_.resize(120'000);
    Operation& op = recorder_.begin(Action::get, key);
    const Result<Found> found = table_->get(text, std::as_writable_bytes(std::span(buffer_)));
    if (found) return saw(op, *found, std::string_view(buffer_).substr(0, found->bytes));
    return end(op, found.error());
  }
  void get_many(std::span<const std::uint64_t> keys) {
    std::vector<std::string> texts, outs(keys.size(), std::string(120'000, 0));
    for (std::uint64_t key : keys) texts.push_back(Stage::key_text(key));
    std::vector<Get> gets(keys.size());
    std::vector<Operation*> operations;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      gets[i].key = texts[i];
      gets[i].out = std::as_writable_bytes(std::span(outs[i]));
      operations.push_back(&recorder_.begin(Action::get, keys[i]));
    }
    const Status status = table_->get_many(gets);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (status && gets[i].ok) {
        saw(*operations[i], gets[i].found, std::string_view(outs[i]).substr(0, gets[i].found.bytes));
      } else {
        end(*operations[i], status ? Error{gets[i].code, By::library, 0, {}, {}} : status.error());
      }
    }
  }
  Outcome put(std::uint64_t key) { return write(Action::put, key); }
  Outcome insert(std::uint64_t key) { return write(Action::insert, key); }
  Outcome update(std::uint64_t key) { return write(Action::update, key); }
  Outcome put_if_version(std::uint64_t key, std::uint64_t expected) {
    return write(Action::put_if_version, key, expected);
  }
  Outcome erase(std::uint64_t key) {
    const std::string text = Stage::key_text(key);
    Operation& op = recorder_.begin(Action::erase, key);
    const Status status = table_->erase(text);
    if (!status) return end(op, status.error());
    versions_[key] = 0;
    recorder_.end(op, Outcome::ok);
    return Outcome::ok;
  }
  Outcome write(Action action, std::uint64_t key, std::uint64_t expected = 0) {
    const std::string text = Stage::key_text(key);
    const std::uint64_t id = next_value();
    make_value(id, value_);
    Operation& op = recorder_.begin(action, key, id, expected);
    const Result<std::uint64_t> version = action == Action::put      ? table_->put(text, value_)
                                          : action == Action::insert ? table_->insert(text, value_)
                                          : action == Action::update
                                              ? table_->update(text, value_)
                                              : table_->put_if_version(text, value_, expected);
    if (!version) return end(op, version.error());
    wrote(op, *version);
    return Outcome::ok;
  }
  // A batch of writes of distinct keys.
  void apply(std::span<const std::uint64_t> keys) {
    std::vector<std::string> texts(keys.size()), values(keys.size());
    std::vector<Write> writes(keys.size());
    std::vector<Operation*> operations;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      texts[i] = Stage::key_text(keys[i]);
      writes[i].op = static_cast<Op>(random_() % 5);
      writes[i].key = texts[i];
      std::uint64_t id = 0;
      if (writes[i].op != Op::erase) {
        id = next_value();
        make_value(id, values[i]);
        writes[i].value = values[i];
      }
      if (writes[i].op == Op::put_if_version) writes[i].expected_version = versions_[keys[i]];
      static constexpr Action actions[] = {Action::put, Action::insert, Action::update,
                                           Action::put_if_version, Action::erase};
      operations.push_back(&recorder_.begin(actions[static_cast<std::size_t>(writes[i].op)], keys[i], id,
                                            writes[i].expected_version));
    }
    const Status status = table_->apply(writes);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (status && writes[i].ok) {
        wrote(*operations[i], writes[i].op == Op::erase ? 0 : writes[i].version);
      } else {
        end(*operations[i], status ? Error{writes[i].code, By::library, 0, {}, {}} : status.error());
      }
    }
  }
  // A whole scan; its items are gets of the interval in which they came. Returns how many items came.
  std::size_t scan(std::size_t items_max) {
    Cursor cursor;
    std::size_t count = 0;
    Operation whole{
        .start_ns = before_call_ns(), .scan = ++scans_, .action = Action::scan, .outcome = Outcome::ok};
    while (!cursor.done) {
      std::vector<Item> items;
      Operation op{
          .start_ns = before_call_ns(), .scan = scans_, .action = Action::get, .outcome = Outcome::ok};
      const Status status = table_->scan(cursor, items_max, items);
      op.end_ns = after_call_ns();
      if (!status) {
        if (status.error().code != Code::contended) fault("scan: " + status.error().to_string());
        return count;
      }
      for (const Item& item : items) {
        const std::optional<std::uint64_t> key = key_of(item.key);
        op.observed = value_id_of(item.value);
        op.version = item.version;
        if (!key) return fault("scan found a key that nobody wrote: " + item.key), count;
        if (op.observed == 0) return fault("scan found a torn value of key " + item.key), count;
        op.key = *key;
        if (!recorder_.full()) recorder_.add(op);
        ++count;
      }
    }
    whole.end_ns = after_call_ns();
    // Where there was no room for all its items nobody can tell whether it was complete.
    if (!recorder_.full()) recorder_.add(whole);
    return count;
  }

  void random_operation(std::uint64_t key, bool writes) {
    const std::uint64_t dice = random_() % 64;
    if (!writes || dice < 24) return void(dice % 4 == 0 ? get_into_span(key) : get(key));
    if (dice < 34) return void(put(key));
    if (dice < 42) return void(insert(key));
    if (dice < 48) return void(update(key));
    if (dice < 56) return void(put_if_version(key, random_() % 8 == 0 ? 0 : versions_[key]));
    erase(key);
  }
  // Random operations of every kind until the recorder is full or `stop` is set.
  void random_operations(bool writes, const std::atomic<std::uint32_t>* stop = nullptr) {
    constexpr std::size_t batch = 4;
    for (std::uint64_t i = 1; recorder_.size() + 64 + keys_in_scan() < recorder_.capacity(); ++i) {
      if (stop != nullptr && *stop != 0) return;
      const std::uint64_t key = random_() % keys_;
      if (i % 97 == 0 && keys_ >= batch) {
        std::uint64_t keys[batch];
        for (std::size_t j = 0; j < batch; ++j) keys[j] = (key + j * (keys_ / batch)) % keys_;
        writes&& i % 2 == 0 ? apply(keys) : get_many(keys);
      } else if (i % (keys_ < 100 ? 211 : 50'021) == 0) {
        scan(keys_ < 100 ? 3 : 1000);
      } else if (writes && i % 20'011 == 0) {
        if (const auto given = table_->maintain(); !given) end_code(given.error());
      } else {
        random_operation(key, writes);
      }
    }
  }

  void fault(const std::string& text) {
    if (board_.fault[0] == 0) std::strncpy(board_.fault, text.c_str(), sizeof board_.fault - 1);
  }

 private:
  std::size_t keys_in_scan() const { return keys_ < 100 ? 2 * keys_ : 0; }

  std::uint64_t next_value() {
    std::size_t bytes = 0;
    const std::uint64_t dice = random_() % 256;
    if (fixed_bytes) {
      bytes = *fixed_bytes;
    } else if (dice < 8) {
      bytes = random_() % 8;
    } else if (dice < 200) {
      bytes = 8 + random_() % 250;
    } else if (dice < 255 || random_() % 4 != 0) {
      bytes = random_() % 2001;
    } else {
      bytes = 2000 + random_() % (bytes_large - 2000);
    }
    return value_id(process_ + 1, ++values_, std::max(bytes, bytes_least));
  }
  Outcome saw(Operation& op, const Found& found, std::string_view value) {
    op.observed = value_id_of(value);
    op.version = found.version;
    if (op.observed == 0 || found.bytes != value.size())
      fault("a torn value of key " + std::to_string(op.key) + ", " + std::to_string(value.size()) + " bytes");
    versions_[op.key] = found.version;
    recorder_.end(op, Outcome::ok);
    return Outcome::ok;
  }
  void wrote(Operation& op, std::uint64_t version) {
    op.version = version;
    versions_[op.key] = version;
    recorder_.end(op, Outcome::ok);
  }
  Outcome end(Operation& op, const Error& error) {
    Outcome outcome = end_code(error);
    recorder_.end(op, outcome);
    return outcome;
  }
  Outcome end_code(const Error& error) {
    last_refusal = error;
    switch (error.code) {
      case Code::not_found:
        return Outcome::not_found;
      case Code::exists:
        return Outcome::exists;
      case Code::version_mismatch:
        return Outcome::version_mismatch;
      case Code::contended:
        ++board_.contended;
        return Outcome::unknown;
      case Code::revoked:
        return Outcome::unknown;
      case Code::no_space:
      case Code::quota:
      case Code::index_full:
        ++board_.refused;
        return Outcome::no_effect;
      default:
        fault(error.to_string());
        return Outcome::unknown;
    }
  }
  std::optional<std::uint64_t> key_of(const std::string& text) const {
    if (text.empty()) return 0;
    const std::uint64_t key = std::strtoull(text.c_str() + 1, nullptr, 10);
    return text == Stage::key_text(key) && key < keys_ ? std::optional(key) : std::nullopt;
  }

  unsigned process_;
  std::uint64_t keys_;
  Recorder& recorder_;
  Board& board_;
  std::mt19937_64 random_;
  std::vector<std::uint64_t> versions_;  // as last seen, by key
  std::optional<Table> table_;
  std::string buffer_, value_;
  std::uint64_t values_ = 0;
  std::uint32_t scans_ = 0;
};

// ---- processes

// A child that runs `body` and exits. One that hangs is ended by its alarm, which the parent sees as its
// death.
inline pid_t spawn(const std::function<void()>& body, unsigned seconds_most = 60) {
  const pid_t child = fork();
  BAILEY_ASSERT(child >= 0);
  if (child != 0) return child;
  alarm(seconds_most);
  body();
  _exit(0);
}

struct Ended {
  bool stopped = false;
  int signal = 0;  // that stopped or killed it
  int code = 0;
  bool well() const { return !stopped && signal == 0 && code == 0; }
};
// Waits until a child ends or stops.
inline Ended wait_for(pid_t child) {
  int status = 0;
  pid_t waited;
  do waited = waitpid(child, &status, WUNTRACED);
  while (waited < 0 && errno == EINTR);
  BAILEY_ASSERT(waited == child);
  if (WIFSTOPPED(status)) return {.stopped = true, .signal = WSTOPSIG(status)};
  if (WIFSIGNALED(status)) return {.signal = WTERMSIG(status)};
  return {.code = WEXITSTATUS(status)};
}
inline Ended resume(pid_t child) {
  kill(child, SIGCONT);
  return wait_for(child);
}

}  // namespace bailey::table
