#include "bailey/broker/loop.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "bailey/base/clock.h"

namespace bailey::broker {

Result<Loop> Loop::create() {
  Loop loop;
  loop.epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!loop.epoll_) return fail_os(errno, "could not make an epoll");
  return loop;
}

Result<Loop::Watch> Loop::watch(int fd, std::uint32_t events, Handler handler) {
  Watch watch = ++next_;
  epoll_event event{};
  event.events = events;
  event.data.u64 = watch;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return fail_os(errno, "could not watch a descriptor");
  watched_.emplace(watch, Watched{fd, std::make_shared<Handler>(std::move(handler))});
  return watch;
}

void Loop::change(Watch watch, std::uint32_t events) {
  auto found = watched_.find(watch);
  if (found == watched_.end()) return;
  epoll_event event{};
  event.events = events;
  event.data.u64 = watch;
  BAILEY_ASSERT(::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, found->second.fd, &event) == 0);
}

void Loop::forget(Watch watch) {
  auto found = watched_.find(watch);
  if (found == watched_.end()) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, found->second.fd, nullptr);
  watched_.erase(found);
}

Loop::Timer Loop::after(std::uint64_t ns, std::function<void()> handler) {
  Timer timer = ++next_;
  std::uint64_t deadline = monotonic_ns() + ns;
  timers_.emplace(std::pair{deadline, timer}, std::move(handler));
  deadlines_.emplace(timer, deadline);
  return timer;
}

void Loop::cancel(Timer timer) {
  auto found = deadlines_.find(timer);
  if (found == deadlines_.end()) return;
  timers_.erase({found->second, timer});
  deadlines_.erase(found);
}

void Loop::fire_timers() {
  std::uint64_t now = monotonic_ns();
  while (!timers_.empty() && timers_.begin()->first.first <= now && !stopped_) {
    auto handler = std::move(timers_.begin()->second);
    deadlines_.erase(timers_.begin()->first.second);
    timers_.erase(timers_.begin());
    handler();
  }
}

int Loop::wait_ms() const {
  if (timers_.empty()) return -1;
  std::uint64_t deadline = timers_.begin()->first.first, now = monotonic_ns();
  if (deadline <= now) return 0;
  return static_cast<int>(std::min<std::uint64_t>((deadline - now + 999'999) / 1'000'000, 3'600'000));
}

Status Loop::run() {
  std::array<epoll_event, 64> events;
  while (!stopped_) {
    int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), wait_ms());
    if (count < 0 && errno != EINTR) return fail_os(errno, "epoll_wait failed");
    for (int i = 0; i < count && !stopped_; ++i) {
      epoll_event event = events[static_cast<std::size_t>(i)];
      Watch watch = event.data.u64;  // a copy: epoll_event is packed
      // An earlier handler of this round may have forgotten it.
      auto found = watched_.find(watch);
      if (found == watched_.end()) continue;
      auto handler = found->second.handler;
      (*handler)(event.events);
    }
    fire_timers();
  }
  return {};
}

}  // namespace bailey::broker
