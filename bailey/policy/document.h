// The text of a policy as a tree, each key and value with its place. The only code that knows the TOML
// library.
//
// Recovers from a mistake of syntax where one line holds it, so that one run tells all mistakes: the line is
// taken out and the rest read again.
//
// Bounds: text up to text_bytes_max; at most dots_max dots a line outside strings and no strings over several
// lines, which bounds the depth of the tree (the library frees it recursively); at most recoveries_max
// passes.
//
// Thread safety: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bailey/policy/diagnostic.h"

namespace bailey::policy {

inline constexpr std::size_t text_bytes_max = 1 << 20;
inline constexpr unsigned dots_max = 16;
inline constexpr unsigned recoveries_max = 32;

struct Entry;

struct Node {
  enum class Kind : std::uint8_t { table, array, string, integer, real, boolean, date };

  Kind kind = Kind::table;
  Position at;
  std::string text;            // of a string
  std::int64_t integer = 0;    // of an integer
  bool truth = false;          // of a boolean
  std::vector<Entry> entries;  // of a table, in the order of the file
  std::vector<Node> items;     // of an array

  const Entry* find(std::string_view key) const;
};

struct Entry {
  std::string key;
  Position at;
  Node value;
};

std::string_view name(Node::Kind kind);  // "text", "a whole number", "a table" ...

struct Document {
  Node root;
  bool readable = false;  // false: nothing could be read, `root` is empty
  bool whole = false;     // false: lines were left out, so what seems missing may be in them
};

Document read_document(std::string_view text, Diagnostics& out);

}  // namespace bailey::policy
