// Several clients at once: processes by fork, or threads where a store is for one process alone.
//
// The members are started once and wait for orders, so that a measured stretch starts with everything mapped
// and warm. They die with this process.
//
// Thread safety: one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bailey/base/fd.h"
#include "bench/histogram.h"
#include "bench/measure.h"
#include "bench/store.h"

namespace bailey::bench {

class Crew {
 public:
  // Clients that read. `keys` and `values` are shared with them and outlive the crew; each starts at another
  // place of `keys`.
  static Result<Crew> start(const System& system, Store& store, unsigned clients, const KeyOrder& keys,
                            const ValuePool& values);
  Crew(Crew&&) = default;
  Crew& operator=(Crew&&) = delete;
  ~Crew();

  // Orders all members to work for `budget_ns`, each call timed or not, and returns at once; then collect().
  Status order(Operation operation, std::uint64_t budget_ns, bool timed);
  struct Outcome {
    double operations_per_second = 0;  // sum of the members'; meaningless where timed
    Histogram histogram;               // merged; empty where not timed
    Disturbance disturbance;
  };
  // Waits for all members. Error: where one failed or died.
  Result<Outcome> collect();

 private:
  struct Order {
    Operation operation;
    bool timed;
    std::uint64_t budget_ns;
  };
  // In memory shared with the members; each writes its own, before it answers.
  struct Report {
    Rate rate;
    Histogram histogram;
    char error[256];
  };
  struct Member {
    Fd line;         // orders out, answers in; closing it ends the member
    pid_t pid = -1;  // or
    std::thread thread;
  };
  Crew() = default;
  static void serve(int line, Report& report, const System& system, Store& store, unsigned number,
                    const KeyOrder& keys, const ValuePool& values);

  pid_t owner_ = -1;
  Mapping reports_;
  std::vector<Member> members_;
};

}  // namespace bailey::bench
