// A principal of the demo in a process of its own, which obeys the demo's orders.
//
// Process safety: started and used by one process; the actor ends when that process does, or when its object
// goes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bailey/base/fd.h"
#include "bench/histogram.h"
#include "bench/measure.h"
#include "bench/store.h"
#include "bench/workload.h"
#include "tools/bailey/command.h"
#include "tools/demo/attempt.h"

namespace bailey::demo {

inline constexpr std::size_t attempts_max = 8;

// What an actor tells, in memory that it shares with the demo.
struct Board {
  bench::Rate rate;
  bench::Histogram histogram;  // of the timed stretches
  std::uint64_t missing = 0;
  std::uint64_t loaded = 0;
  std::uint32_t attempts = 0;
  Attempt attempt[attempts_max];
  char error[640] = {};
};

// Who it is, and what it works on.
struct Part {
  std::string name;
  std::optional<uid_t> uid;  // becomes this user; else it has a key
  tools::Reach reach;        // to the broker of the demo
  std::string region;
  bool writes = false;
  unsigned number = 0;  // of the clients that run the workload
  unsigned clients = 1;
  const bench::Workload* workload = nullptr;
  std::vector<bench::Store*> stores;  // beside the broker's table, which is number 0; these follow
};

enum class Task : std::uint8_t {
  open,    // its client of every store
  load,    // the records of the workload
  run,     // the workload, for a time
  honest,  // asks politely for what it has no right to
  hostile  // tries to take it
};

class Actor {
 public:
  static Result<Actor> start(Part part);
  Actor(Actor&&) = default;
  Actor& operator=(Actor&&) = delete;
  ~Actor();

  struct Order {
    Task task;
    std::uint8_t store = 0;
    bool timed = false;
    std::uint64_t budget_ns = 0;
    pid_t broker = 0, client = 0;  // for the hostile
  };
  // Returns at once.
  Status order(const Order& order);
  // The end of the last order. `waiting` is called about ten times a second. Errors: what the actor met; that
  // it died.
  Status wait(const std::function<void()>& waiting = {});

  const Board& board() const { return *board_; }
  const std::string& name() const { return name_; }
  pid_t pid() const { return process_.pid; }

 private:
  struct Process {
    pid_t pid = -1;
    Process() = default;
    explicit Process(pid_t started) : pid(started) {}
    Process(Process&& other) noexcept : pid(std::exchange(other.pid, -1)) {}
    ~Process();
  };
  Actor() = default;

  std::string name_;
  Mapping memory_;
  Board* board_ = nullptr;
  Process process_;
  Fd line_;  // its closing ends the actor; so it goes before the process is waited for
};

// Whether this process may become these users and no longer be root.
bool can_become(uid_t uid);

}  // namespace bailey::demo
