#include "bailey/policy/document.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <tuple>

// The library's code is compiled here: with our bound on nesting, without exceptions for mistakes, and with
// its assertions as a throw. It asserts what hostile text can break ("x = [}"), and with NDEBUG assumes it
// instead, which would be undefined; its parser is written to be left by a throw, since that is how it
// reports mistakes by default.
namespace bailey::policy {
namespace {
struct LibraryDoubt {};
[[noreturn]] void doubt() { throw LibraryDoubt{}; }
}  // namespace
}  // namespace bailey::policy
#undef NDEBUG
#define TOML_ASSERT(expression) ((expression) ? static_cast<void>(0) : ::bailey::policy::doubt())
#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#define TOML_MAX_NESTED_VALUES 32
#include <toml++/toml.h>

namespace bailey::policy {
namespace {

Position place(const toml::source_region& source) { return {source.begin.line, source.begin.column}; }

// Length of the UTF-8 sequence at `at`, 0 where it is broken (also overlong, a surrogate, or beyond
// U+10FFFF).
std::size_t sequence_bytes(std::string_view text, std::size_t at) {
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
  if (byte(0) < 0x80) return 1;
  std::size_t length = byte(0) >> 5 == 0x6 ? 2 : byte(0) >> 4 == 0xe ? 3 : byte(0) >> 3 == 0x1e ? 4 : 0;
  if (length == 0 || at + length > text.size()) return 0;
  std::uint32_t point = byte(0) & (0x7fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    point = point << 6 | (byte(i) & 0x3f);
  }
  constexpr std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  if (point < least[length] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return 0;
  return length;
}

bool check_utf8(std::string_view text, Diagnostics& out) {
  Position at;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t length = sequence_bytes(text, i);
    if (length == 0) {
      out.error(at, fmt::format("byte 0x{:02x} is not UTF-8", static_cast<unsigned char>(text[i])),
                "a policy is text in UTF-8; save it so");
      return false;
    }
    if (text[i] == '\n') {
      ++at.line;
      at.column = 1;
    } else {
      ++at.column;
    }
    i += length;
  }
  return true;
}

std::string_view trimmed(std::string_view text) {
  std::size_t from = text.find_first_not_of(" \t\r");
  if (from == std::string_view::npos) return {};
  return text.substr(from, text.find_last_not_of(" \t\r") - from + 1);
}

bool is_header(std::string_view line) { return trimmed(line).starts_with('['); }

// Whether a header's brackets are followed by what may begin a name. The library asserts it instead of
// checking it, and a policy must not end the program.
bool names_something(std::string_view header) {
  header = trimmed(header).substr(1);
  if (header.starts_with('[')) header.remove_prefix(1);
  header = trimmed(header);
  if (header.empty()) return false;
  char c = header[0];
  return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '"' || c == '\'';
}

// Columns count characters: the bytes before `at` that begin one.
std::uint32_t column_of(std::string_view line, std::size_t at) {
  auto begins = std::count_if(line.begin(), line.begin() + static_cast<std::ptrdiff_t>(at),
                              [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
  return static_cast<std::uint32_t>(begins + 1);
}

struct Line {
  std::string text;
  bool alone = false;  // no array or inline table reaches into it or out of it
};

// Splits into lines and enforces the bounds on one; the scan is exact because strings end with their line.
std::optional<std::vector<Line>> scan(std::string_view text, Diagnostics& out) {
  std::vector<Line> lines;
  int depth = 0;
  bool good = true;
  for (std::size_t from = 0; from <= text.size();) {
    std::size_t end = std::min(text.find('\n', from), text.size());
    std::string_view line = text.substr(from, end - from);
    auto number = static_cast<std::uint32_t>(lines.size() + 1);
    // A return is part of the line's end, nowhere else; what else controls a terminal has no place here.
    std::string_view body = line.ends_with('\r') ? line.substr(0, line.size() - 1) : line;
    auto control = std::find_if(body.begin(), body.end(), [](char c) {
      return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
    });
    if (control != body.end()) {
      out.error({number, column_of(line, static_cast<std::size_t>(control - body.begin()))},
                fmt::format("control character 0x{:02x}", static_cast<unsigned char>(*control)),
                "take it out");
      good = false;
    }
    int depth_before = depth;
    bool header = depth == 0 && is_header(line);
    unsigned dots = 0;
    bool beyond_ascii = false;  // told once a line; the library relies on tables of Unicode that have holes
    char open = 0;
    for (std::size_t i = 0; i < line.size(); ++i) {
      char c = line[i];
      if (open != 0) {
        // What looks like a text here can be the rest of a broken number to the library.
        if (static_cast<unsigned char>(c) >= 0x80 && !beyond_ascii) {
          beyond_ascii = true;
          out.error({number, column_of(line, i)}, "a letter beyond ASCII in a text",
                    "write it as an escape within double quotes, like \"caf\\u00e9\"");
          good = false;
        }
        if (c == '\\' && open == '"') {
          ++i;
        } else if (c == open) {
          open = 0;
        }
        continue;
      }
      if (c == '#') break;
      if (c == '"' || c == '\'') {
        if (line.substr(i, 3) == std::string(3, c)) {
          out.error({number, column_of(line, i)}, "a text over several lines has no place in a policy",
                    "use one pair of quotes");
          good = false;
          break;
        }
        open = c;
      }
      if (static_cast<unsigned char>(c) >= 0x80 && !beyond_ascii) {
        beyond_ascii = true;
        out.error({number, column_of(line, i)}, "a letter beyond ASCII outside quotes",
                  "keys, names and numbers are ASCII; did an editor write typographic quotes?");
        good = false;
      }
      dots += c == '.' ? 1 : 0;
      depth += c == '[' || c == '{' ? 1 : c == ']' || c == '}' ? -1 : 0;
    }
    if (dots > dots_max) {
      out.error({number, 1}, fmt::format("more than {} dots in one line", dots_max),
                "a policy's keys are not that deep");
      good = false;
    }
    if (header && !names_something(line)) {
      out.error({number, static_cast<std::uint32_t>(line.find('[') + 1)}, "a table without a name",
                "a table begins as [region.NAME] or [[grant]]");
      good = false;
    }
    lines.push_back({std::string(line), header || (depth_before == 0 && depth == 0)});
    // A header is whole in its line, and a stray bracket is told where it is.
    depth = header ? 0 : std::max(depth, 0);
    from = end + 1;
  }
  if (!good) return std::nullopt;
  return lines;
}

Node convert(const toml::node& from) {
  Node node;
  node.at = place(from.source());
  if (const auto* table = from.as_table()) {
    node.kind = Node::Kind::table;
    for (auto&& [key, value] : *table)
      node.entries.push_back({std::string(key.str()), place(key.source()), convert(value)});
    std::sort(node.entries.begin(), node.entries.end(),
              [](const Entry& a, const Entry& b) { return std::tie(a.at, a.key) < std::tie(b.at, b.key); });
  } else if (const auto* array = from.as_array()) {
    node.kind = Node::Kind::array;
    for (const toml::node& item : *array) node.items.push_back(convert(item));
  } else if (const auto* text = from.as_string()) {
    node.kind = Node::Kind::string;
    node.text = text->get();
  } else if (const auto* integer = from.as_integer()) {
    node.kind = Node::Kind::integer;
    node.integer = integer->get();
  } else if (const auto* truth = from.as_boolean()) {
    node.kind = Node::Kind::boolean;
    node.truth = truth->get();
  } else {
    node.kind = from.is_floating_point() ? Node::Kind::real : Node::Kind::date;
  }
  return node;
}

// The bare word after "key =" where quotes were forgotten, else empty.
std::string_view bare_value(std::string_view line) {
  std::size_t equals = line.find('=');
  if (equals == std::string_view::npos) return {};
  std::string_view value = line.substr(equals + 1);
  value = trimmed(value.substr(0, value.find('#')));
  for (char c : value)
    if (!(std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == ':' || c == '.' ||
          c == '?' || c == '/' || c == '+' || c == '@' || c == '*'))
      return {};
  return value;
}

// Where `key` was given before: the last table that begins above `line` and has it, since TOML's "current
// table" is the last header.
const Entry* find_earlier(const Node& node, std::string_view key, std::uint32_t line) {
  const Entry* best = nullptr;
  for (const Entry& entry : node.entries) {
    if (entry.at.line > line) continue;
    if (entry.key == key && (best == nullptr || best->at < entry.at)) best = &entry;
    const Entry* inner = nullptr;
    if (entry.value.kind == Node::Kind::table) inner = find_earlier(entry.value, key, line);
    if (entry.value.kind == Node::Kind::array)
      for (const Node& item : entry.value.items) {
        const Entry* found = find_earlier(item, key, line);
        if (found != nullptr && (inner == nullptr || inner->at < found->at)) inner = found;
      }
    if (inner != nullptr && (best == nullptr || best->at < inner->at)) best = inner;
  }
  return best;
}

std::string join(const std::vector<Line>& lines, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    text += lines[i].text;
    text += '\n';
  }
  return text;
}

// Nothing where the library meets what it does not expect.
std::optional<toml::parse_result> parse_toml(const std::string& text) {
  try {
    return toml::parse(text);
  } catch (const LibraryDoubt&) {
    return std::nullopt;
  }
}

// The line at which the library loses its way. It reads from the front, so that shorter texts do no harm
// until that line is in them.
std::size_t doubtful_line(const std::vector<Line>& lines) {
  std::size_t good = 0, bad = lines.size();
  while (bad - good > 1) {
    std::size_t middle = good + (bad - good) / 2;
    (parse_toml(join(lines, middle)) ? good : bad) = middle;
  }
  return bad - 1;
}

// The name between the last two single quotes of the library's message.
std::string quoted_name(std::string_view description) {
  std::size_t end = description.rfind('\'');
  if (end == std::string_view::npos || end == 0) return {};
  std::size_t begin = description.rfind('\'', end - 1);
  if (begin == std::string_view::npos) return {};
  return std::string(description.substr(begin + 1, end - begin - 1));
}

void report_duplicate(const std::vector<Line>& lines, std::size_t index, std::string_view description,
                      Diagnostics& out) {
  std::string_view line = lines[index].text;
  auto number = static_cast<std::uint32_t>(index + 1);
  auto column = static_cast<std::uint32_t>(std::min(line.find_first_not_of(" \t"), line.size()) + 1);
  std::string name = quoted_name(description);
  if (is_header(line)) {
    if (name == "grant")
      out.error({number, column}, "[grant] is given twice", "each grant begins with [[grant]], two brackets");
    else
      out.error({number, column}, fmt::format("the table {} is given twice", quote(name)),
                "keep one and put all its keys there");
    return;
  }
  std::string last_part = name.substr(name.rfind('.') + 1);
  std::string hint = "keep one of them";
  auto before = parse_toml(join(lines, index));
  if (before && *before) {
    Node root = convert(before->table());
    const Entry* earlier = find_earlier(root, last_part, number);
    if (earlier != nullptr) hint = fmt::format("first given at line {}; keep one of them", earlier->at.line);
  }
  out.error({number, column}, fmt::format("duplicate key {}", quote(name)), hint);
}

void report_syntax(std::string_view line, Position at, std::string_view description, Diagnostics& out) {
  constexpr std::string_view prefix = "Error while parsing ";
  if (description.starts_with(prefix)) description.remove_prefix(prefix.size());
  std::string hint;
  std::string_view bare = bare_value(line);
  if (is_header(line)) {
    hint = "a table begins as [region.NAME] or [[grant]]";
  } else if (line.find('=') == std::string_view::npos) {
    hint = "write key = value";
  } else if (description.find("not representable") != std::string_view::npos) {
    hint = "write a smaller number";
  } else if (!bare.empty()) {
    hint = fmt::format("text needs quotes, such as {}", quote(bare));
  }
  std::string cleaned = quote(description);
  out.error(at, fmt::format("not TOML: {}", cleaned.substr(1, cleaned.size() - 2)), hint);
}

}  // namespace

const Entry* Node::find(std::string_view key) const {
  for (const Entry& entry : entries)
    if (entry.key == key) return &entry;
  return nullptr;
}

std::string_view name(Node::Kind kind) {
  switch (kind) {
    case Node::Kind::table:
      return "a table";
    case Node::Kind::array:
      return "an array";
    case Node::Kind::string:
      return "text";
    case Node::Kind::integer:
      return "a whole number";
    case Node::Kind::real:
      return "a number with a fraction";
    case Node::Kind::boolean:
      return "true or false";
    case Node::Kind::date:
      return "a date or time";
  }
  return "something unknown";
}

Document read_document(std::string_view text, Diagnostics& out) {
  Document document;
  if (text.size() > text_bytes_max) {
    out.error({1, 1}, fmt::format("the policy has {} bytes, more than the {} that it may have", text.size(),
                                  text_bytes_max));
    return document;
  }
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // a byte order mark, as some editors write
  if (!check_utf8(text, out)) return document;
  auto lines = scan(text, out);
  if (!lines) return document;

  document.whole = true;
  std::vector<std::uint32_t> stand_ins;  // lines whose header was replaced
  for (unsigned pass = 0; pass <= recoveries_max; ++pass) {
    auto parsed = parse_toml(join(*lines, lines->size()));
    if (parsed && *parsed) {
      document.root = convert(parsed->table());
      std::erase_if(document.root.entries, [&](const Entry& entry) {
        return std::find(stand_ins.begin(), stand_ins.end(), entry.at.line) != stand_ins.end();
      });
      document.readable = true;
      return document;
    }
    Position at;
    std::string_view description = "this line makes no sense";
    if (parsed) {
      at = place(parsed->error().source());
      description = parsed->error().description();
    } else {
      at.line = static_cast<std::uint32_t>(doubtful_line(*lines) + 1);
    }
    std::size_t index = std::clamp<std::size_t>(at.line, 1, lines->size()) - 1;
    Line& line = (*lines)[index];
    bool duplicate = description.find("cannot redefine") != std::string_view::npos;
    if (duplicate && line.alone) {
      report_duplicate(*lines, index, description, out);
    } else {
      report_syntax(line.text, at, description, out);
      document.whole = false;
    }
    if (!line.alone) break;
    if (is_header(line.text)) {
      // Without a header its keys would fall into the table above; they go where nobody looks.
      line.text = fmt::format("[\"\\u0001{}\"]", index);
      stand_ins.push_back(at.line);
    } else {
      line.text.clear();
    }
  }
  document.whole = false;
  return document;
}

}  // namespace bailey::policy
