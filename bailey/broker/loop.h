// One thread's loop over descriptors and timers.
//
// Handlers may add and remove anything, themselves included, while they run. Not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>

#include "bailey/base/error.h"
#include "bailey/base/fd.h"

namespace bailey::broker {

class Loop {
 public:
  using Watch = std::uint64_t;  // names what is watched; never reused, 0 is none
  using Handler = std::function<void(std::uint32_t events)>;

  static Result<Loop> create();

  // `events` as of epoll (EPOLLIN ...). The descriptor stays the caller's and outlives the watch.
  Result<Watch> watch(int fd, std::uint32_t events, Handler handler);
  void change(Watch watch, std::uint32_t events);
  void forget(Watch watch);

  using Timer = std::uint64_t;
  Timer after(std::uint64_t ns, std::function<void()> handler);
  void cancel(Timer timer);

  // Until stop(). Error: io, where the kernel's epoll fails.
  Status run();
  void stop() { stopped_ = true; }

 private:
  struct Watched {
    int fd;
    std::shared_ptr<Handler> handler;  // shared: it may forget itself while it runs
  };
  void fire_timers();
  int wait_ms() const;

  Fd epoll_;
  std::unordered_map<Watch, Watched> watched_;
  std::map<std::pair<std::uint64_t, Timer>, std::function<void()>> timers_;  // by deadline
  std::unordered_map<Timer, std::uint64_t> deadlines_;
  std::uint64_t next_ = 0;
  bool stopped_ = false;
};

}  // namespace bailey::broker
