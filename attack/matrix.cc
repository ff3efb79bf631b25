#include "attack/matrix.h"

#include <fmt/format.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "bailey/base/fd.h"

namespace bailey::attack {
namespace {

constexpr std::string_view opens = "opens; write EPERM";
constexpr std::string_view badf = "EBADF, reopened EPERM", acces = "EACCES, reopened EPERM",
                           inval = "EINVAL, reopened EPERM";

}  // namespace

// clang-format off
const Rows<file_attempts.size()> file_rows{
    // object, attacker,                              /proc/PID/fd pidfd_getfd reopen mmap    mprotect  write     truncate  punch
    {"segment before its seal", same,                 "EACCES", "EPERM", "–",       "–",       "–",       "–",       "–",       "–"},
    {"segment before its seal", other,                "EACCES", "EPERM", "–",       "–",       "–",       "–",       "–",       "–"},
    {"segment before its seal", root,                 by_root,  by_root, "–",       "–",       "–",       "–",       "–",       "–"},
    {"open segment, reader's descriptor", same,       "EACCES", "EPERM", opens,     acces,     "EACCES",  badf,      inval,     badf},
    {"open segment, reader's descriptor", other,      "EACCES", "EPERM", "EACCES",  "EACCES",  "EACCES",  "EBADF",   "EINVAL",  "EBADF"},
    {"open segment, reader's descriptor", root,       opens,    opens,   opens,     acces,     "EACCES",  badf,      inval,     badf},
    {"open segment, writer's descriptor", same,       "EACCES", "EPERM", opens,     "EPERM",   "EACCES",  "EPERM",   "EPERM",   "EPERM"},
    {"open segment, writer's descriptor", other,      "EACCES", "EPERM", "EACCES",  "EPERM",   "EACCES",  "EPERM",   "EPERM",   "EPERM"},
    {"open segment, writer's descriptor", root,       opens,    opens,   opens,     "EPERM",   "EACCES",  "EPERM",   "EPERM",   "EPERM"},
    {"frozen segment, reader's descriptor", same,     "EACCES", "EPERM", opens,     acces,     "EACCES",  badf,      inval,     badf},
    {"frozen segment, reader's descriptor", other,    "EACCES", "EPERM", "EACCES",  "EACCES",  "EACCES",  "EBADF",   "EINVAL",  "EBADF"},
    {"frozen segment, reader's descriptor", root,     opens,    opens,   opens,     acces,     "EACCES",  badf,      inval,     badf},
    {"exclusive index, reader's descriptor", same,    "EACCES", "EPERM", opens,     acces,     "EACCES",  badf,      inval,     badf},
    {"exclusive index, reader's descriptor", other,   "EACCES", "EPERM", "EACCES",  "EACCES",  "EACCES",  "EBADF",   "EINVAL",  "EBADF"},
    {"exclusive index, reader's descriptor", root,    opens,    opens,   opens,     acces,     "EACCES",  badf,      inval,     badf},
    {"exclusive index, writer's descriptor", same,    "EACCES", "EPERM", opens,     "EPERM",   "EACCES",  "EPERM",   "EPERM",   "EPERM"},
    {"exclusive index, writer's descriptor", other,   "EACCES", "EPERM", "EACCES",  "EPERM",   "EACCES",  "EPERM",   "EPERM",   "EPERM"},
    {"exclusive index, writer's descriptor", root,    opens,    opens,   opens,     "EPERM",   "EACCES",  "EPERM",   "EPERM",   "EPERM"},
    {"shared index, reader's descriptor", same,       "EACCES", "EPERM", by_same,   by_same,   by_same,   by_same,   inval,     by_same},
    {"shared index, reader's descriptor", other,      "EACCES", "EPERM", "EACCES",  "EACCES",  "EACCES",  "EBADF",   "EINVAL",  "EBADF"},
    {"shared index, reader's descriptor", root,       by_root,  by_root, by_root,   by_root,   by_root,   by_root,   inval,     by_root},
    {"shared index, writer's descriptor", same,       "EACCES", "EPERM", by_right,  by_right,  by_right,  by_right,  "EPERM",   by_right},
    {"shared index, writer's descriptor", other,      "EACCES", "EPERM", "EACCES",  by_right,  by_right,  by_right,  "EPERM",   by_right},
    {"shared index, writer's descriptor", root,       by_root,  by_root, by_right,  by_right,  by_right,  by_right,  "EPERM",   by_right},
    {"control page", same,                            "EACCES", "EPERM", opens,     acces,     "EACCES",  badf,      inval,     badf},
    {"control page", other,                           "EACCES", "EPERM", "EACCES",  "EACCES",  "EACCES",  "EBADF",   "EINVAL",  "EBADF"},
    {"control page", root,                            opens,    opens,   opens,     acces,     "EACCES",  badf,      inval,     badf},
};

const Rows<process_attempts.size()> process_rows{
    // object, attacker, /proc/PID/fd pidfd_getfd ptrace /proc/PID/mem
    {"broker", same,     "EACCES", "EPERM", "EPERM", "EACCES"},
    {"broker", other,    "EACCES", "EPERM", "EPERM", "EACCES"},
    {"broker", root,     by_root,  by_root, by_root, by_root},
    {"keeper", same,     "EACCES", "EPERM", "EPERM", "EACCES"},
    {"keeper", other,    "EACCES", "EPERM", "EPERM", "EACCES"},
    {"keeper", root,     by_root,  by_root, by_root, by_root},
    {"allocator", same,  "EACCES", "EPERM", "EPERM", "EACCES"},
    {"allocator", other, "EACCES", "EPERM", "EPERM", "EACCES"},
    {"allocator", root,  by_root,  by_root, by_root, by_root},
    {"allocator's worker", same,  "EACCES", "EPERM", "EPERM", "EACCES"},
    {"allocator's worker", other, "EACCES", "EPERM", "EPERM", "EACCES"},
    {"allocator's worker", root,  by_root,  by_root, by_root, by_root},
    {"session", same,    "EACCES", "EPERM", "EPERM", "EACCES"},
    {"session", other,   "EACCES", "EPERM", "EPERM", "EACCES"},
    {"session", root,    by_root,  by_root, by_root, by_root},
};
// clang-format on

Machine Machine::look() {
  Machine machine;
  std::ifstream("/proc/sys/kernel/yama/ptrace_scope") >> machine.yama;
  Fd self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  Fd taken(static_cast<int>(::syscall(SYS_pidfd_getfd, self.get(), 0, 0)));
  if (!self || !taken) machine.pidfd_getfd = ::strerrorname_np(errno);
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("CapEff:")) machine.capabilities = std::strtoull(line.c_str() + 7, nullptr, 16);
  return machine;
}

std::string Machine::to_string() const {
  utsname about;
  ::uname(&about);
  return fmt::format("{} {}; yama's ptrace_scope: {}; pidfd_getfd: {}; uid {}, capabilities {:x}",
                     about.sysname, about.release, yama < 0 ? "none" : std::to_string(yama),
                     pidfd_getfd.empty() ? "works" : pidfd_getfd, ::geteuid(), capabilities);
}

std::string Machine::cannot_be(std::string_view attacker) const {
  constexpr unsigned dac_override = 1, setuid = 7, sys_ptrace = 19;
  if (attacker == same) return "";
  if (::geteuid() != 0) return "the test is not run as root";
  if (attacker == other && !has(setuid)) return "root lacks CAP_SETUID here";
  if (attacker == root && (!has(dac_override) || !has(sys_ptrace)))
    return "root lacks CAP_SYS_PTRACE or CAP_DAC_OVERRIDE here";
  return "";
}

std::string_view Machine::here(std::string_view attempt, std::string_view cell) const {
  if (attempt == "pidfd_getfd" && !pidfd_getfd.empty()) return pidfd_getfd;
  // From 1 on one's own children alone, from 2 on with a capability, with 3 nobody.
  bool refused = (cell == by_same && yama >= 1) || (cell == by_root && yama >= 3);
  if (refused && (attempt == "ptrace" || attempt == "pidfd_getfd")) return "EPERM";
  if (refused && attempt == "/proc/PID/mem") return "EACCES";
  return cell;
}

const Machine& machine() {
  static const Machine looked = Machine::look();
  return looked;
}

}  // namespace bailey::attack
