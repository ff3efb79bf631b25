#include "bench/trace.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include "bailey/table/table.h"

namespace bailey::bench {
namespace {

constexpr unsigned scan_items_max = 1'000'000;

std::string_view take_word(std::string_view& text) {
  const std::size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) {
    text = {};
    return {};
  }
  text.remove_prefix(first);
  const std::size_t end = text.find_first_of(" \t\r");
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(word.size());
  return word;
}

// For messages: a line may be long, and may hold anything.
std::string shown(std::string_view text) {
  std::string out;
  for (char c : text.substr(0, 40)) out += c >= ' ' && c <= '~' ? c : '?';
  return text.size() > 40 ? out + "..." : out;
}

std::uint64_t client_hash(std::string_view key) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211;
  return hash ^ (hash >> 32);
}

struct Verb {
  std::string_view word;
  Kind kind;
};
constexpr std::array verbs = {Verb{"READ", Kind::read}, Verb{"UPDATE", Kind::update},
                              Verb{"INSERT", Kind::insert}, Verb{"SCAN", Kind::scan},
                              Verb{"DELETE", Kind::erase}};

}  // namespace

Result<TraceLine> parse_trace_line(std::string_view text, std::string_view file, std::uint64_t line) {
  const auto refuse = [&](std::string why) {
    return fail(Code::invalid_argument, By::library,
                fmt::format("{}:{}: `{}` is refused: {}", file, line, shown(text), why));
  };
  std::string_view rest = text;
  const std::string_view word = take_word(rest);
  TraceLine parsed;
  bool known = false;
  for (const Verb& verb : verbs) {
    if (word != verb.word) continue;
    parsed.kind = verb.kind;
    known = true;
  }
  if (!known) return refuse("a line begins with INSERT, READ, UPDATE, SCAN or DELETE");
  if (take_word(rest).empty()) return refuse("the table's name is missing");
  parsed.key = take_word(rest);
  if (parsed.key.empty() || parsed.key[0] == '[') return refuse("the key is missing");
  if (parsed.key.size() > table::key_bytes_max)
    return refuse(fmt::format("the key has {} bytes, at most {} are possible", parsed.key.size(),
                              table::key_bytes_max));
  if (parsed.kind == Kind::scan) {
    const std::string_view count = take_word(rest);
    const char* end = count.data() + count.size();
    const auto [stop, error] = std::from_chars(count.data(), end, parsed.scan_items);
    if (count.empty() || error != std::errc{} || stop != end || parsed.scan_items == 0 ||
        parsed.scan_items > scan_items_max)
      return refuse(
          fmt::format("after the key of a scan comes how many items, from 1 to {}", scan_items_max));
  }
  const std::size_t open = rest.find_first_not_of(" \t\r");
  if (open == std::string_view::npos) return parsed;
  const std::size_t close = rest.rfind(']');
  if (rest[open] != '[' || close == std::string_view::npos || close < open)
    return refuse("after the key only [ fields ] may come");
  if (rest.find_first_not_of(" \t\r", close + 1) != std::string_view::npos)
    return refuse("nothing may come after the ]");
  std::string_view fields = rest.substr(open + 1, close - open - 1);
  if (!fields.empty() && fields.front() == ' ') fields.remove_prefix(1);
  if (!fields.empty() && fields.back() == ' ') fields.remove_suffix(1);
  parsed.value = fields;
  parsed.has_value = true;
  return parsed;
}

Result<LineReader> LineReader::open(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_os(errno, fmt::format("could not open the trace {}", path));
  return LineReader(std::move(fd), path);
}

Result<bool> LineReader::next(std::string_view& line) {
  std::size_t searched = from_;
  for (;;) {
    const std::size_t end = buffer_.find('\n', searched);
    if (end != std::string::npos || (ended_ && from_ < buffer_.size())) {
      const std::size_t stop = end == std::string::npos ? buffer_.size() : end;
      ++line_;
      if (stop - from_ > trace_line_bytes_max) break;
      line = std::string_view(buffer_).substr(from_, stop - from_);
      from_ = std::min(stop + 1, buffer_.size());
      return true;
    }
    if (ended_) return false;
    buffer_.erase(0, from_);
    from_ = 0;
    searched = buffer_.size();
    if (buffer_.size() > trace_line_bytes_max) {
      ++line_;
      break;
    }
    constexpr std::size_t part_bytes = 256 << 10;
    buffer_.resize(searched + part_bytes);
    ssize_t got;
    do {
      got = ::read(fd_.get(), buffer_.data() + searched, part_bytes);
    } while (got < 0 && errno == EINTR);
    const int os = errno;
    buffer_.resize(searched + static_cast<std::size_t>(got > 0 ? got : 0));
    if (got < 0) return fail_os(os, fmt::format("could not read the trace {}", path_));
    ended_ = got == 0;
  }
  return fail(Code::too_large, By::library,
              fmt::format("{}:{}: the line is longer than the {} bytes that a line of a trace may have",
                          path_, line_, trace_line_bytes_max));
}

namespace {
bool is_passed_over(std::string_view text) {
  return text.find_first_not_of(" \t\r") == std::string_view::npos || text[0] == '#';
}
}  // namespace

Result<TraceFacts> survey_trace(const std::string& path, std::uint64_t operations_max) {
  LineReader reader = BAILEY_TRY(LineReader::open(path));
  TraceFacts facts;
  std::string_view text;
  while (facts.operations < operations_max && BAILEY_TRY(reader.next(text))) {
    if (is_passed_over(text)) continue;
    const TraceLine line = BAILEY_TRY(parse_trace_line(text, path, reader.line()));
    ++facts.operations;
    if (line.kind == Kind::insert) ++facts.inserts;
    facts.value_bytes_max = std::max<std::uint64_t>(facts.value_bytes_max, line.value.size());
  }
  return facts;
}

Result<TraceSource> TraceSource::open(const std::string& path, const ClientShare& share, bool all_write,
                                      std::string_view default_value) {
  LineReader reader = BAILEY_TRY(LineReader::open(path));
  return TraceSource(std::move(reader), share, all_write, default_value);
}

Status TraceSource::next(Block& block, std::size_t requests_max) {
  block.clear();
  while (block.size() < requests_max && share_.operations > 0) {
    std::string_view text;
    if (!BAILEY_TRY(reader_.next(text))) break;
    if (is_passed_over(text)) continue;
    const TraceLine line = BAILEY_TRY(parse_trace_line(text, reader_.path(), reader_.line()));
    --share_.operations;
    const bool reads = line.kind == Kind::read || line.kind == Kind::scan;
    const unsigned client =
        reads || all_write_ ? static_cast<unsigned>(client_hash(line.key) % share_.clients) : 0;
    if (client != share_.number) continue;
    if (line.kind == Kind::insert || line.kind == Kind::update) {
      if (line.has_value) {
        block.add_with_value(line.kind, line.key, line.value);
      } else {
        block.add(line.kind, line.key, default_value_);
      }
    } else {
      block.add(line.kind, line.key, {}, line.scan_items);
    }
  }
  return {};
}

}  // namespace bailey::bench
