// The `process` rung, cell by cell: what each kind of attacker gets out of each object, on a live broker.
//
// The tables here say what is expected. One test tries every cell; another holds docs/threat-model.md to
// them.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <fstream>
#include <map>
#include <sstream>
#include <string_view>

#include "attack/courtyard.h"
#include "attack/matrix.h"

namespace bailey::attack {
namespace {

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
    if (courtyard_) {
      EXPECT_TRUE(courtyard_->stop()) << "the keeper ends when it is asked to";
    }
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
    if (!become(defended_uid())) return 97;
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
}  // namespace bailey::attack
