// Begins a program, under `bailey exec --strict` or without it, and hears what it says: for its test, and for
// the attack suite.
#pragma once

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "bailey/base/fd.h"
#include "bailey/guard/strict.h"
#include "bailey/guard/strict_layout.h"

namespace bailey::guard {

struct Ended {
  int status = 0;  // as waitpid(2) has it
  std::string out, err;
  int exit() const { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }
  int signal() const { return WIFSIGNALED(status) ? WTERMSIG(status) : 0; }
};

struct How {
  bool strict = true;
  uid_t user = ::geteuid();
  std::function<void()> before = [] {};   // in the process that becomes the program
  std::vector<std::string> preload = {};  // strict only
};

inline std::string text_of(int fd) {
  std::string text;
  char some[4096];
  for (ssize_t got; (got = ::pread(fd, some, sizeof some, static_cast<off_t>(text.size()))) > 0;)
    text.append(some, static_cast<std::size_t>(got));
  return text;
}

inline Ended run(const std::vector<std::string>& words, const How& how = {}) {
  Fd out(::memfd_create("out", MFD_CLOEXEC)), err(::memfd_create("err", MFD_CLOEXEC));
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(out.get(), 1);
    ::dup2(err.get(), 2);
    if (how.user != ::geteuid() && (::setgid(how.user) != 0 || ::setuid(how.user) != 0)) ::_exit(99);
    how.before();
    if (how.strict) {
      const std::string why = exec_strictly(words, how.preload).to_string();
      [[maybe_unused]] auto wrote = ::write(2, why.data(), why.size());
      ::_exit(exit_not_begun);
    }
    std::vector<char*> pointers;
    for (const std::string& one : words) pointers.push_back(const_cast<char*>(one.c_str()));
    pointers.push_back(nullptr);
    ::execv(pointers[0], pointers.data());
    ::_exit(98);
  }
  Ended ended;
  ::waitpid(child, &ended.status, 0);
  ended.out = text_of(out.get());
  ended.err = text_of(err.get());
  return ended;
}

// What strict_hostile says: by attempt, "done" or the name of an errno.
inline std::map<std::string, std::string> results(const std::string& out) {
  std::map<std::string, std::string> results;
  std::istringstream lines(out);
  for (std::string attempt, result; lines >> attempt >> result;) results[attempt] = result;
  return results;
}

}  // namespace bailey::guard
