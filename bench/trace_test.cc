#include "bench/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <map>

#include "bench/report.h"

namespace bailey::bench {
namespace {

using ::testing::HasSubstr;

class TraceFile {
 public:
  explicit TraceFile(const std::string& text)
      : path_(::testing::TempDir() + "/bailey-trace-" + std::to_string(::getpid())) {
    EXPECT_TRUE(write_file(path_, text));
  }
  ~TraceFile() { ::unlink(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string refusal(std::string_view line) {
  const auto parsed = parse_trace_line(line, "t", 7);
  return parsed ? "accepted" : parsed.error().message;
}

TEST(TraceLine, EveryVerb) {
  auto line = parse_trace_line("INSERT usertable user123 [ field0=a]b field1=c ]", "t", 1);
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_EQ(line->kind, Kind::insert);
  EXPECT_EQ(line->key, "user123");
  EXPECT_EQ(line->value, "field0=a]b field1=c");
  line = parse_trace_line("READ usertable user5 [ <all fields>]\r", "t", 1);
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_EQ(line->kind, Kind::read);
  line = parse_trace_line("UPDATE usertable user6", "t", 1);
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_EQ(line->kind, Kind::update);
  EXPECT_FALSE(line->has_value);
  line = parse_trace_line("UPDATE usertable user6 []", "t", 1);
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_TRUE(line->has_value);
  EXPECT_EQ(line->value, "");
  line = parse_trace_line("SCAN usertable user7 50 [ <all fields>]", "t", 1);
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_EQ(line->kind, Kind::scan);
  EXPECT_EQ(line->scan_items, 50u);
  line = parse_trace_line("DELETE usertable user8", "t", 1);
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_EQ(line->kind, Kind::erase);
}

TEST(TraceLine, RefusalsNameFileLineAndReason) {
  EXPECT_THAT(refusal("DROP usertable user1"),
              HasSubstr("t:7: `DROP usertable user1` is refused: a line begins with"));
  EXPECT_THAT(refusal("READ"), HasSubstr("table's name is missing"));
  EXPECT_THAT(refusal("READ usertable"), HasSubstr("key is missing"));
  EXPECT_THAT(refusal("READ usertable [ <all fields>]"), HasSubstr("key is missing"));
  EXPECT_THAT(refusal("READ usertable k more"), HasSubstr("only [ fields ]"));
  EXPECT_THAT(refusal("READ usertable k [ open"), HasSubstr("only [ fields ]"));
  EXPECT_THAT(refusal("READ usertable k [ a ] b"), HasSubstr("after the ]"));
  EXPECT_THAT(refusal("SCAN usertable k"), HasSubstr("how many items"));
  EXPECT_THAT(refusal("SCAN usertable k 0"), HasSubstr("how many items"));
  EXPECT_THAT(refusal("SCAN usertable k -1"), HasSubstr("how many items"));
  EXPECT_THAT(refusal("SCAN usertable k 99999999"), HasSubstr("how many items"));
  EXPECT_THAT(refusal("SCAN usertable k [ a ]"), HasSubstr("how many items"));
  EXPECT_THAT(refusal("READ usertable " + std::string(4097, 'k')), HasSubstr("4097 bytes"));
  // What a terminal would obey is not repeated, and not at any length.
  EXPECT_THAT(refusal("\x1b[2J" + std::string(1000, 'x')), HasSubstr("`?[2Jxxx"));
  EXPECT_LT(refusal(std::string(100'000, 'x')).size(), 300u);
}

TEST(LineReader, LastLineNeedsNoEndAndLinesAreCounted) {
  const TraceFile file("one\n\nthree");
  auto reader = LineReader::open(file.path());
  ASSERT_TRUE(reader);
  std::string_view line;
  std::vector<std::string> lines;
  while (true) {
    const auto more = reader->next(line);
    ASSERT_TRUE(more);
    if (!*more) break;
    lines.emplace_back(line);
  }
  EXPECT_THAT(lines, ::testing::ElementsAre("one", "", "three"));
  EXPECT_EQ(reader->line(), 3u);
}

TEST(LineReader, LineOfTheLimitPassesAndOneMoreByteIsRefused) {
  const TraceFile fits("a\n" + std::string(trace_line_bytes_max, 'x') + "\nb\n");
  auto reader = LineReader::open(fits.path());
  ASSERT_TRUE(reader);
  std::string_view line;
  ASSERT_TRUE(reader->next(line));
  ASSERT_TRUE(reader->next(line));
  EXPECT_EQ(line.size(), trace_line_bytes_max);
  ASSERT_TRUE(reader->next(line));
  EXPECT_EQ(line, "b");
  const TraceFile longer("a\n" + std::string(trace_line_bytes_max + 1, 'x') + "\nb\n");
  reader = LineReader::open(longer.path());
  ASSERT_TRUE(reader);
  ASSERT_TRUE(reader->next(line));
  const auto refused = reader->next(line);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::too_large);
  EXPECT_THAT(refused.error().message, HasSubstr(":2: the line is longer"));
}

TEST(LineReader, EndlessLineIsRefusedInBoundedMemory) {
  auto reader = LineReader::open("/dev/zero");
  ASSERT_TRUE(reader);
  std::string_view line;
  const auto refused = reader->next(line);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::too_large);
}

std::vector<std::string> part_of(const std::string& path, const ClientShare& share, bool all_write) {
  auto source = TraceSource::open(path, share, all_write, "default");
  EXPECT_TRUE(source);
  std::vector<std::string> seen;
  Block block;
  while (true) {
    EXPECT_TRUE(source->next(block, 10));
    if (block.size() == 0) return seen;
    for (const Request& request : block.requests())
      seen.push_back(std::string(name(request.kind)) + " " + std::string(request.key) + " " +
                     std::string(request.value));
  }
}

TEST(TraceSource, OneClientReplaysEverythingInOrder) {
  const TraceFile file(
      "# a comment\nINSERT t a [ x=1 ]\n\nUPDATE t a\nREAD t a []\nSCAN t a 3\nDELETE t a\n");
  EXPECT_THAT(part_of(file.path(), {0, 1, true, 100}, true),
              ::testing::ElementsAre("insert a x=1", "update a default", "read a ", "scan a ", "delete a "));
  EXPECT_EQ(part_of(file.path(), {0, 1, true, 2}, true).size(), 2u);
}

TEST(TraceSource, ClientsShareTheLinesAndAKeyKeepsItsOrder) {
  std::string text;
  for (int i = 0; i < 300; ++i) {
    text += "INSERT t k" + std::to_string(i) + " [ v ]\n";
    text += "READ t k" + std::to_string(i) + "\n";
  }
  const TraceFile file(text);
  std::size_t lines = 0;
  for (unsigned client = 0; client < 3; ++client) {
    const auto part = part_of(file.path(), {client, 3, true, 10'000}, true);
    EXPECT_GT(part.size(), 100u);
    lines += part.size();
    for (std::size_t i = 0; i < part.size(); i += 2) {
      EXPECT_TRUE(part[i].starts_with("insert"));
      EXPECT_TRUE(part[i + 1].starts_with("read"));
    }
  }
  EXPECT_EQ(lines, 600u);
  // Where one writes, it has all writes; reads are spread.
  EXPECT_GE(part_of(file.path(), {0, 3, true, 10'000}, false).size(), 300u);
  for (const std::string& line : part_of(file.path(), {1, 3, false, 10'000}, false))
    EXPECT_TRUE(line.starts_with("read")) << line;
}

TEST(TraceSource, BadLineEndsTheReplayWithItsNumber) {
  const TraceFile file("READ t a\nREAD t b\nnonsense\n");
  auto source = TraceSource::open(file.path(), {0, 1, true, 100}, true, "v");
  ASSERT_TRUE(source);
  Block block;
  const Status refused = source->next(block, 10);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr(":3: `nonsense`"));
}

}  // namespace
}  // namespace bailey::bench
