// Replays a trace: one operation a line, as YCSB's "basic" database prints them.
//
//   INSERT usertable user123 [ field0=... field1=... ]
//   READ usertable user123 [ <all fields>]
//   UPDATE usertable user123 [ field3=... ]
//   SCAN usertable user123 50 [ <all fields>]
//   DELETE usertable user123
//
// The value of an insert or update is the text between the brackets; where there is none, bytes of the
// caller's. The table's name is not looked at. Empty lines and lines that begin with # are passed over; any
// other line is an error.
//
// The file is read as it is needed and may be of any length; it is hostile input.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "bailey/base/error.h"
#include "bailey/base/fd.h"
#include "bench/request.h"
#include "bench/workload.h"

namespace bailey::bench {

inline constexpr std::size_t trace_line_bytes_max = 1 << 20;

struct TraceLine {
  Kind kind = Kind::read;
  std::string_view key;
  std::string_view value;  // empty where the line has no brackets
  bool has_value = false;
  unsigned scan_items = 0;
};

// Error: invalid_argument with file and line.
Result<TraceLine> parse_trace_line(std::string_view text, std::string_view file, std::uint64_t line);

// Lines of a file, one by one, in bounded memory.
class LineReader {
 public:
  static Result<LineReader> open(const std::string& path);
  // The next line without its end, valid until the next call; false at the end of the file. Error: too_large.
  Result<bool> next(std::string_view& line);
  std::uint64_t line() const { return line_; }
  const std::string& path() const { return path_; }

 private:
  LineReader(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  Fd fd_;
  std::string path_;
  std::string buffer_;
  std::size_t from_ = 0;  // of what is not yet given out
  bool ended_ = false;
  std::uint64_t line_ = 0;
};

// What a trace holds, found by reading all of it: so a bad line is refused before anything is done.
struct TraceFacts {
  std::uint64_t operations = 0;
  std::uint64_t inserts = 0;
  std::uint64_t value_bytes_max = 0;
};
Result<TraceFacts> survey_trace(const std::string& path, std::uint64_t operations_max);

// One client's part of a trace: of the first share.operations operations, those that are this client's. A
// key's lines all go to one client, so that they keep their order; where only client 0 writes, it gets all
// writes and the reads are spread over all by their keys.
class TraceSource : public RequestSource {
 public:
  static Result<TraceSource> open(const std::string& path, const ClientShare& share, bool all_write,
                                  std::string_view default_value);
  Status next(Block& block, std::size_t requests_max) override;

 private:
  TraceSource(LineReader reader, const ClientShare& share, bool all_write, std::string_view default_value)
      : reader_(std::move(reader)), share_(share), all_write_(all_write), default_value_(default_value) {}
  LineReader reader_;
  ClientShare share_;
  bool all_write_;
  std::string_view default_value_;
};

}  // namespace bailey::bench
