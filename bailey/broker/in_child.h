// Work in child processes, a keeper with its broker among it: for tests, and for the attack suite.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "bailey/base/clock.h"
#include "bailey/broker/serve.h"

namespace bailey::broker {

// Waits until `done` or 10 s are over; how long it took, in ns.
inline std::uint64_t wait_until(const std::function<bool()>& done) {
  std::uint64_t start = monotonic_ns();
  while (!done() && monotonic_ns() - start < 10'000'000'000) ::usleep(200);
  return monotonic_ns() - start;
}

// A child process: runs `work` and says its exit status. Killed when it goes, unless it ended; ends by itself
// where nobody does.
class Process {
 public:
  explicit Process(const std::function<int()>& work, unsigned seconds_most = 100) {
    std::fflush(nullptr);
    pid = ::fork();
    if (pid != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::alarm(seconds_most);
    int status = 99;
    try {
      status = work();
    } catch (const std::exception& thrown) {
      fmt::print(stderr, "child: {}\n", thrown.what());
    }
    ::_exit(status);
  }
  Process(Process&& other) noexcept : pid(std::exchange(other.pid, -1)) {}
  ~Process() {
    if (pid <= 0) return;
    kill(SIGKILL);
    wait();
  }
  void kill(int signal) const { ::kill(pid, signal); }
  // The exit status, or 1000 + signal.
  int wait() {
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    pid = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  pid_t pid;
};

// A child of this process that is not that one; 0: there is none. A keeper without a janitor has its broker
// and its allocator, which has a worker.
inline pid_t child_of(pid_t parent, pid_t but) {
  for (auto& entry : std::filesystem::directory_iterator("/proc")) {
    pid_t pid = std::atoi(entry.path().filename().c_str());
    std::ifstream status(entry.path() / "status");
    for (std::string line; pid > 0 && pid != but && std::getline(status, line);)
      if (line == fmt::format("PPid:\t{}", parent)) return pid;
  }
  return 0;
}

// A pipe on which one side says words to the other.
struct Words {
  Words() {
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  }
  ~Words() {
    ::close(ends[0]);
    ::close(ends[1]);
  }
  void say(char word = 'x') const {
    if (::write(ends[1], &word, 1) != 1) throw std::runtime_error("a word could not be said");
  }
  // 0 where nothing comes within 20 s.
  char hear() const {
    pollfd ready{ends[0], POLLIN, 0};
    char word = 0;
    if (::poll(&ready, 1, 20'000) != 1 || ::read(ends[0], &word, 1) != 1) return 0;
    return word;
  }
  int ends[2];
};

// A keeper's main: 0 where it was stopped, else 1, and the error on standard error.
inline int serve_and_tell(const ServeOptions& options) {
  const Status served = serve_until_stopped(options);
  if (!served) fmt::print(stderr, "{}\n", served.error().to_string());
  return served ? 0 : 1;
}

// A keeper and its broker in processes of their own. `before` runs in the keeper first. Throws where it is
// not ready after 20 s.
struct Served {
  explicit Served(ServeOptions options, const std::function<void()>& before = {},
                  unsigned seconds_most = 100) {
    Words ready;
    const std::uint64_t start = monotonic_ns();
    keeper = std::make_unique<Process>(
        [&] {
          if (before) before();
          options.ready = [&](const Running& running) {
            if (::write(ready.ends[1], &running.broker, sizeof running.broker) < 0) ::_exit(98);
          };
          return serve_and_tell(options);
        },
        seconds_most);
    ::close(std::exchange(ready.ends[1], -1));  // so that its end is heard
    pollfd told{ready.ends[0], POLLIN, 0};
    if (::poll(&told, 1, 20'000) != 1) throw std::runtime_error("the broker is not ready after 20 s");
    if (::read(ready.ends[0], &broker, sizeof broker) != static_cast<ssize_t>(sizeof broker))
      throw std::runtime_error("the broker did not come up");
    ready_ns = monotonic_ns() - start;
  }
  std::unique_ptr<Process> keeper;
  pid_t broker = 0;  // the first one
  std::uint64_t ready_ns = 0;
};

inline std::string region_toml(const std::string& name, const std::string& mode,
                               const std::string& size = "16MiB", const std::string& more = "",
                               const std::string& protect = "\"process\"") {
  return fmt::format("[region.{}]\nkind = \"table\"\nmode = \"{}\"\nsize = \"{}\"\nprotect = [{}]\n{}\n",
                     name, mode, size, protect, more);
}
inline std::string grant_toml(const std::string& principal, const std::string& region,
                              const std::string& rights, const std::string& more = "") {
  return fmt::format("[[grant]]\nprincipal = \"{}\"\nregion = \"{}\"\nrights = \"{}\"\n{}\n", principal,
                     region, rights, more);
}

}  // namespace bailey::broker
