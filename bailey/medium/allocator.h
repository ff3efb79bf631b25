// The allocator: a process of its own that takes the pages of files, so that where memory runs short it is
// no broker that the kernel kills.
//
// It is started before there is a secret, and never holds a file: what it does is to fork workers, one ahead,
// each of which takes one request from the line. Workers are the first that the kernel kills (oom_score_adj
// 1000). Nobody else of the same uid can attach to either: a process can open its own oom_score_adj only
// while it is dumpable, so the allocator does that before there is anything to see, and from then on raises
// its score for the moment of a fork, since a child inherits score and non-dumpability. Should it die
// nonetheless, the keeper starts the next one in the same way, by its own score; requests wait in the line
// until then.
//
// Process safety: an Allocator belongs to the process that started it, which is single-threaded; in a forked
// child it is only a way to the line.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "bailey/base/error.h"
#include "bailey/base/fd.h"
#include "bailey/medium/file.h"

namespace bailey::medium {

class Allocator {
 public:
  // For a process that is dumpable and knows no secret yet. Error denied where it is not dumpable.
  static Result<Allocator> start();
  // The next one, after the last was seen to be dead. `forget` runs in it first of all, to give up what its
  // parent has come to know since.
  Status restart(const std::function<void()>& forget);

  Allocator() = default;
  Allocator(Allocator&& other) noexcept = default;
  Allocator& operator=(Allocator&& other) noexcept;
  ~Allocator() { end(); }  // of the process, where it is ours

  int line() const { return line_.get(); }  // what Allocation::start takes
  // In a forked child that asks, and does not start others: the line alone.
  void only_ask();

  pid_t pid() const { return child_.pid; }         // -1 once it was reaped
  int pidfd() const { return child_.file.get(); }  // readable once it is dead
  // After it died: how, in words.
  std::string reap();

 private:
  // This process's own oom_score_adj.
  struct Score {
    Fd file;
    std::string before;
    static Result<Score> open();
    Status raise() const;
    void restore() const;
  };
  struct Child {
    Child() = default;
    Child(Child&& other) noexcept : pid(std::exchange(other.pid, -1)), file(std::move(other.file)) {}
    Child& operator=(Child&&) = default;
    pid_t pid = -1;
    Fd file;
  };
  enum class Start { first, next };
  Status fork_it(Start start, const std::function<void()>& forget);
  [[noreturn]] static void run(int served, pid_t parent, Start start);
  void end();

  pid_t owner_ = 0;
  Fd line_, served_;  // both ends, so that requests outlive an allocator
  Score score_;
  Child child_;
};

// Pages being taken for a whole file. One that is dropped before its end is finished for nobody.
class Allocation {
 public:
  // Asks. `copy_from`: a file as large, whose bytes are copied once the pages are there; -1 for zeros. Does
  // not wait: error busy where the line is full.
  static Result<Allocation> start(int line, const Place& place, int fd, std::uint64_t bytes,
                                  int copy_from = -1);

  // Hangs up (POLLHUP) once finish() will not block.
  int fd() const { return answer_.get(); }
  // Waits, and says how it went: no_space where the kernel killed the worker or had no more; unavailable
  // where the allocator died before it had one.
  Status finish(const std::string& what);

 private:
  Fd answer_;
  std::uint64_t bytes_ = 0;
};

// room_for, start and finish in one. Error unavailable where the allocator dies before it hears of it.
Status allocate(const Allocator& allocator, const Place& place, int fd, std::uint64_t bytes,
                const std::string& what);

}  // namespace bailey::medium
