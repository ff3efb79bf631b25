// What a benchmark leaves running or lying about, and takes away again: a private folder, and server
// processes.
//
// Thread safety: one thread at a time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bailey/base/error.h"

namespace bailey::bench {

// How the names of such folders begin.
inline constexpr const char* scratch_prefix = "bailey-bench-";

// A new private folder (0700) on tmpfs where there is one, else under $TMPDIR or /tmp; removed with all that
// is in it by the process that made it.
class Scratch {
 public:
  static Result<Scratch> make();
  Scratch(Scratch&& other) noexcept : path_(std::move(other.path_)), pid_(other.pid_) { other.path_.clear(); }
  Scratch& operator=(Scratch&&) = delete;
  ~Scratch();
  const std::string& path() const { return path_; }

 private:
  Scratch(std::string path, pid_t pid) : path_(std::move(path)), pid_(pid) {}
  std::string path_;
  pid_t pid_;
};

// A server program, in a process group of its own (Ctrl-C is ours to handle), silent, and stopped with this
// object: first asked, then killed. It also dies when this process does.
class Server {
 public:
  // `answers` is asked until it says yes; error timed_out after some seconds, io where the server ended
  // before. Error: unsupported where the program is not installed.
  static Result<Server> start(const std::vector<std::string>& command, const std::function<bool()>& answers);
  Server(Server&& other) noexcept : pid_(other.pid_), owner_(other.owner_) { other.pid_ = -1; }
  Server& operator=(Server&&) = delete;
  ~Server();
  pid_t pid() const { return pid_; }

 private:
  Server(pid_t pid, pid_t owner) : pid_(pid), owner_(owner) {}
  pid_t pid_;
  pid_t owner_;
};

// The path of a program in $PATH; error unsupported where there is none.
Result<std::string> find_program(const std::string& program);

// A port on the loopback address that was free a moment ago.
Result<std::uint16_t> free_port();

}  // namespace bailey::bench
