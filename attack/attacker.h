// Attempts on what the broker guards, made by a process of a given uid with nothing but system calls.
//
// Each attempt runs in a forked child that becomes the attacker, holds one descriptor at most, and says in a
// few words what came of it: the name of the errno, of the signal that ended it, or "not stopped: ..." with
// who did it. An attempt that gets through writes what was there before and undoes what it can.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace bailey::attack {

struct Attacker {
  std::string name;  // "same uid", "other uid", "root"
  uid_t uid = 0;
};

// A file of the pool as an attacker finds it.
struct FileTarget {
  std::string name;
  int held = -1;         // the descriptor that the attacker was given; -1: none
  bool writers = false;  // it was given it to write
  std::uint64_t bytes = 0;
  dev_t device = 0;  // with `inode`: how it is known among other processes' descriptors
  ino_t inode = 0;
  std::vector<pid_t> holders;  // processes that have it open
};

struct ProcessTarget {
  std::string name;
  pid_t pid = 0;
};

inline constexpr std::array<const char*, 8> file_attempts{"/proc/PID/fd", "pidfd_getfd", "reopen",   "map",
                                                          "mprotect",     "write",       "truncate", "punch"};
inline constexpr std::array<const char*, 4> process_attempts{"/proc/PID/fd", "pidfd_getfd", "ptrace",
                                                             "/proc/PID/mem"};

// `attempt` is a place in file_attempts. "–" where there is nothing to try it with.
std::string attempt_on(const FileTarget& target, std::size_t attempt, const Attacker& attacker);
std::string attempt_on(const ProcessTarget& target, std::size_t attempt, const Attacker& attacker);

// Runs `work` in a forked process that becomes the attacker and keeps these descriptors alone; what it says,
// or "SIG..." where a signal ended it. It is killed with the process that forked it.
std::string in_attacker(const Attacker& attacker, std::vector<int> kept,
                        const std::function<std::string()>& work);

// The uid of brokers and sessions that are attacked: one of their own where this process is root, so that
// root is an attacker like others; else this process's.
uid_t defended_uid();
// "same uid", "other uid" or "root".
Attacker attacker_of(std::string_view name);

// Becomes that user for good, with no capabilities unless it is root, open to debuggers as processes are by
// default. Whether it worked.
bool become(uid_t uid);

}  // namespace bailey::attack
