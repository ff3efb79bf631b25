// The `process` rung, cell by cell: what each kind of attacker gets out of each object, on a live broker.
//
// The tables here say what is expected. One test tries every cell; another holds docs/threat-model.md to
// them.
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string_view>

#include "tools/e2e/courtyard.h"

namespace bailey::e2e {
namespace {

// Object, attacker, then a cell for each of file_attempts or process_attempts.
template <std::size_t attempts>
using Row = std::array<std::string_view, attempts + 2>;
template <std::size_t attempts>
using Rows = std::vector<Row<attempts>>;

constexpr std::string_view same = "same uid", other = "other uid", root = "root";
constexpr std::string_view by_same = "not stopped: same uid", by_root = "not stopped: root",
                           by_right = "not stopped: a writer's right";
constexpr std::string_view opens = "opens; write EPERM";
constexpr std::string_view badf = "EBADF, reopened EPERM", acces = "EACCES, reopened EPERM",
                           inval = "EINVAL, reopened EPERM";

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

// ---- what this machine does otherwise

struct Machine {
  int yama = -1;            // kernel.yama.ptrace_scope; -1: there is none
  std::string pidfd_getfd;  // errno with which it fails on a descriptor of one's own; empty: it works
  std::uint64_t capabilities = 0;

  static Machine look() {
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
  std::string to_string() const {
    utsname about;
    ::uname(&about);
    return fmt::format("{} {}; yama's ptrace_scope: {}; pidfd_getfd: {}; uid {}, capabilities {:x}",
                       about.sysname, about.release, yama < 0 ? "none" : std::to_string(yama),
                       pidfd_getfd.empty() ? "works" : pidfd_getfd, ::geteuid(), capabilities);
  }
  bool has(unsigned capability) const { return (capabilities >> capability & 1) != 0; }

  // Why this attacker can't be played here; empty: it can.
  std::string cannot_be(std::string_view attacker) const {
    constexpr unsigned dac_override = 1, setuid = 7, sys_ptrace = 19;
    if (attacker == same) return "";
    if (::geteuid() != 0) return "the test is not run as root";
    if (attacker == other && !has(setuid)) return "root lacks CAP_SETUID here";
    if (attacker == root && (!has(dac_override) || !has(sys_ptrace)))
      return "root lacks CAP_SYS_PTRACE or CAP_DAC_OVERRIDE here";
    return "";
  }
  // What a cell of the table comes to here.
  std::string_view here(std::string_view attempt, std::string_view cell) const {
    if (attempt == "pidfd_getfd" && !pidfd_getfd.empty()) return pidfd_getfd;
    // From 1 on one's own children alone, from 2 on with a capability, with 3 nobody.
    bool refused = (cell == by_same && yama >= 1) || (cell == by_root && yama >= 3);
    if (refused && (attempt == "ptrace" || attempt == "pidfd_getfd")) return "EPERM";
    if (refused && attempt == "/proc/PID/mem") return "EACCES";
    return cell;
  }
  // Whether processes of one uid may attach to each other here.
  bool same_uid_attaches() const { return yama <= 0 && pidfd_getfd.empty(); }
};

const Machine& machine() {
  static const Machine looked = Machine::look();
  return looked;
}

Attacker attacker_of(std::string_view name) {
  uid_t uid = name == same ? Courtyard::uid() : name == root ? 0 : 64103;
  return {std::string(name), uid};
}

// ---- as Markdown

constexpr std::string_view shown_by = "`ProcessRung.EveryCellIsAsTheTableSays`";

template <std::size_t n, class Cell>
std::string table(std::string_view object, const std::array<const char*, n>& attempts, const Rows<n>& rows,
                  const Cell& cell) {
  std::string text = fmt::format("| {} | attacker |", object);
  for (const char* attempt : attempts) text += fmt::format(" {} |", attempt);
  text += " shown by |\n|";
  for (std::size_t column = 0; column < n + 3; ++column) text += " --- |";
  text += "\n";
  for (const Row<n>& row : rows) {
    text += fmt::format("| {} | {} |", row[0], row[1]);
    for (std::size_t at = 0; at < n; ++at) text += fmt::format(" {} |", cell(row, at));
    text += fmt::format(" {} |\n", shown_by);
  }
  return text;
}

template <class FileCell, class ProcessCell>
std::string matrix(const FileCell& file_cell, const ProcessCell& process_cell) {
  return "\n" + table("file", file_attempts, file_rows, file_cell) + "\n" +
         table("process", process_attempts, process_rows, process_cell) + "\n";
}

class ProcessRung : public ::testing::TestWithParam<std::string_view> {
 protected:
  // Started by the first test that needs it.
  static const Courtyard& courtyard() {
    if (!courtyard_) courtyard_ = std::make_unique<Courtyard>();
    return *courtyard_;
  }
  static void TearDownTestSuite() {
    courtyard_.reset();
    if (seen_.empty()) return;
    auto seen = [](const auto& row, std::size_t at) {
      auto found = seen_.find({row[0], row[1], at});
      return found == seen_.end() ? std::string("skipped") : found->second;
    };
    fmt::print("{}\n{}", machine().to_string(), matrix(seen, seen));
    seen_.clear();
  }

  template <class Target, std::size_t n>
  static void try_all(const std::vector<Target>& targets, const std::array<const char*, n>& attempts,
                      const Rows<n>& rows) {
    unsigned found = 0;
    for (const Row<n>& row : rows) {
      if (row[1] != GetParam()) continue;
      auto target = std::ranges::find_if(targets, [&](const Target& each) { return each.name == row[0]; });
      ASSERT_NE(target, targets.end()) << row[0];
      ++found;
      for (std::size_t at = 0; at < n; ++at) {
        std::string came = attempt_on(*target, at, attacker_of(row[1]));
        seen_[{row[0], row[1], at}] = came;
        std::string_view expected = machine().here(attempts[at], row[at + 2]);
        EXPECT_EQ(came, expected) << row[0] << ", " << row[1] << ", " << attempts[at];
        if (expected != row[at + 2])
          fmt::print("differs on this machine: {}, {}, {}: {}, in the table {}\n", row[0], row[1],
                     attempts[at], expected, row[at + 2]);
      }
    }
    EXPECT_EQ(found, targets.size()) << "an object has no row, or two";
  }

  static inline std::unique_ptr<Courtyard> courtyard_;
  static inline std::map<std::tuple<std::string_view, std::string_view, std::size_t>, std::string> seen_;
};
INSTANTIATE_TEST_SUITE_P(Attackers, ProcessRung, ::testing::Values(same, other, root), [](const auto& about) {
  std::string name(about.param);
  std::erase(name, ' ');
  return name;
});

TEST_P(ProcessRung, EveryCellIsAsTheTableSays) {
  if (std::string why = machine().cannot_be(GetParam()); !why.empty())
    GTEST_SKIP() << "attacker " << GetParam() << ": " << why;
  try_all(courtyard().files(), file_attempts, file_rows);
  try_all(courtyard().processes(), process_attempts, process_rows);
}

TEST_F(ProcessRung, TheDocumentHasThisTable) {
  std::ifstream file(BAILEY_THREAT_MODEL);
  ASSERT_TRUE(file) << BAILEY_THREAT_MODEL;
  std::ostringstream text;
  text << file.rdbuf();
  std::string document = text.str();
  constexpr std::string_view begin = "<!-- matrix -->\n", end = "<!-- /matrix -->\n";
  std::size_t from = document.find(begin), to = document.find(end);
  ASSERT_NE(document.find("## The process rung, cell by cell\n"), document.npos);
  ASSERT_NE(from, document.npos) << "no " << begin;
  ASSERT_NE(to, document.npos) << "no " << end;
  from += begin.size();
  ASSERT_LE(from, to);
  auto expected = [](const auto& row, std::size_t at) { return row[at + 2]; };
  EXPECT_TRUE(document.substr(from, to - from) == matrix(expected, expected))
      << "between the markers should stand:\n"
      << matrix(expected, expected);
}

// The same attempts get through where nothing is done against them: else the table would show nothing.
TEST_F(ProcessRung, TheSameAttemptsGetThroughWhereNothingStopsThem) {
  constexpr std::uint64_t bytes = 64 << 10;
  Fd file(::memfd_create("unprotected", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_TRUE(file);
  ASSERT_EQ(::ftruncate(file.get(), bytes), 0);
  ASSERT_EQ(::fchmod(file.get(), 0666), 0);
  Fd reader(::open(fmt::format("/proc/self/fd/{}", file.get()).c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(reader);
  broker::Words ready;
  broker::Process open([&] {
    if (!become(Courtyard::uid())) return 97;
    ready.say();
    for (;;) ::pause();
  });
  ASSERT_EQ(ready.hear(), 'x');
  struct stat about;
  ASSERT_EQ(::fstat(file.get(), &about), 0);
  FileTarget target{"unprotected", reader.get(), false, bytes, about.st_dev, about.st_ino, {open.pid}};
  ProcessTarget process{"open", open.pid};
  auto is_by_attaching = [](std::string_view attempt) { return attempt != "/proc/PID/fd"; };
  Attacker attacker = attacker_of(same);
  for (std::size_t at = 0; at < file_attempts.size(); ++at)
    if (at != 1 || machine().same_uid_attaches()) {
      EXPECT_EQ(attempt_on(target, at, attacker), by_same) << file_attempts[at];
    }
  for (std::size_t at = 0; at < process_attempts.size(); ++at)
    if (!is_by_attaching(process_attempts[at]) || machine().same_uid_attaches()) {
      EXPECT_EQ(attempt_on(process, at, attacker), by_same) << process_attempts[at];
    }
}

}  // namespace
}  // namespace bailey::e2e
