#include "bailey/policy/reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "bailey/policy/size.h"
#include "bailey/policy/suggest.h"

namespace bailey::policy {

void TableReader::only(std::span<const std::string> known) const {
  for (const Entry& entry : table_.entries) {
    if (std::find(known.begin(), known.end(), entry.key) != known.end()) continue;
    std::string hint = suggestion(entry.key, known);
    if (entry.value.kind == Node::Kind::table && nearest(entry.key, known).empty())
      hint = "a \".\" parts names in TOML, so a name can't hold one";
    out_.error(entry.at, fmt::format("unknown key {} in {}", quote(entry.key), where_), hint);
  }
}

bool TableReader::require(std::string_view key, std::string_view example) const {
  if (table_.find(key) != nullptr) return true;
  // A mistyped key is told as such; that the right one is absent would be the same mistake again.
  const std::string wanted[] = {std::string(key)};
  for (const Entry& entry : table_.entries)
    if (!nearest(entry.key, wanted).empty()) return false;
  if (whole_)
    out_.error(at_, fmt::format("{} has no \"{}\"", where_, key),
               fmt::format("such as {} = {}", key, example));
  return false;
}

void TableReader::wrong_type(const Entry& entry, std::string_view wanted, std::string hint) const {
  out_.error(entry.value.at,
             fmt::format("{} in {} is {}, not {}", quote(entry.key), where_, name(entry.value.kind), wanted),
             std::move(hint));
}

const Entry* TableReader::typed(std::string_view key, Node::Kind kind, std::string_view example) const {
  const Entry* entry = table_.find(key);
  if (entry == nullptr) return nullptr;
  if (entry->value.kind == kind) return entry;
  wrong_type(*entry, name(kind), fmt::format("such as {} = {}", key, example));
  return nullptr;
}

std::optional<Placed<std::string>> TableReader::text(std::string_view key, std::string_view example) const {
  const Entry* entry = typed(key, Node::Kind::string, example);
  if (entry == nullptr) return std::nullopt;
  return Placed<std::string>{entry->value.at, entry->value.text};
}

std::optional<std::vector<Placed<std::string>>> TableReader::texts(std::string_view key,
                                                                   std::string_view example,
                                                                   std::size_t count_max) const {
  const Entry* entry = table_.find(key);
  if (entry == nullptr) return std::nullopt;
  std::string such_as = fmt::format("such as {} = {}", key, example);
  std::vector<Placed<std::string>> all;
  if (entry->value.kind == Node::Kind::string) {
    all.push_back({entry->value.at, entry->value.text});
    return all;
  }
  if (entry->value.kind != Node::Kind::array) {
    wrong_type(*entry, "text or an array of texts", such_as);
    return std::nullopt;
  }
  if (entry->value.items.empty()) {
    out_.error(entry->value.at, fmt::format("{} in {} is empty", quote(key), where_), such_as);
    return std::nullopt;
  }
  if (entry->value.items.size() > count_max) {
    out_.error(entry->value.at, fmt::format("{} in {} has {} entries, more than the {} that it may have",
                                            quote(key), where_, entry->value.items.size(), count_max));
    return std::nullopt;
  }
  for (const Node& item : entry->value.items) {
    if (item.kind == Node::Kind::string)
      all.push_back({item.at, item.text});
    else
      out_.error(item.at,
                 fmt::format("an entry of {} in {} is {}, not text", quote(key), where_, name(item.kind)),
                 such_as);
  }
  return all;
}

std::optional<Placed<std::uint64_t>> TableReader::size(std::string_view key) const {
  const Entry* entry = table_.find(key);
  if (entry == nullptr) return std::nullopt;
  const Node& value = entry->value;
  std::uint64_t bytes = 0;
  if (value.kind == Node::Kind::integer) {
    if (value.integer < 0) {
      out_.error(value.at,
                 fmt::format("{} in {}: the size {} is negative", quote(key), where_, value.integer),
                 "such as \"256MiB\"");
      return std::nullopt;
    }
    bytes = static_cast<std::uint64_t>(value.integer);
  } else if (value.kind == Node::Kind::string) {
    auto parsed = parse_size(value.text);
    if (!parsed) {
      out_.error(value.at, fmt::format("{} in {}: {}", quote(key), where_, parsed.error().message),
                 parsed.error().remedy);
      return std::nullopt;
    }
    bytes = *parsed;
  } else {
    wrong_type(*entry, "a size", fmt::format("such as {} = \"256MiB\"", key));
    return std::nullopt;
  }
  if (bytes == 0) {
    out_.error(value.at, fmt::format("{} in {} is zero", quote(key), where_), "such as \"256MiB\"");
    return std::nullopt;
  }
  return Placed<std::uint64_t>{value.at, bytes};
}

std::optional<Placed<std::uint64_t>> TableReader::count(std::string_view key, std::uint64_t max) const {
  const Entry* entry = table_.find(key);
  if (entry == nullptr) return std::nullopt;
  const Node& value = entry->value;
  if (value.kind != Node::Kind::integer) {
    std::uint64_t meant = 0;
    const char* text = value.text.data();
    auto [end, error] = std::from_chars(text, text + value.text.size(), meant);
    bool quoted = value.kind == Node::Kind::string && error == std::errc() && end == text + value.text.size();
    wrong_type(
        *entry, "a whole number",
        quoted ? fmt::format("without quotes: {} = {}", key, meant) : fmt::format("such as {} = 64", key));
    return std::nullopt;
  }
  if (value.integer < 1 || static_cast<std::uint64_t>(value.integer) > max) {
    out_.error(
        value.at,
        fmt::format("{} in {} is {}, which is not from 1 to {}", quote(key), where_, value.integer, max),
        value.integer < 1 ? "leave the key out where nothing is to be limited" : "");
    return std::nullopt;
  }
  return Placed<std::uint64_t>{value.at, static_cast<std::uint64_t>(value.integer)};
}

std::optional<std::size_t> TableReader::choice(std::string_view key,
                                               std::span<const std::string> known) const {
  const Entry* entry = typed(key, Node::Kind::string, fmt::format("\"{}\"", known.front()));
  if (entry == nullptr) return std::nullopt;
  auto found = std::find(known.begin(), known.end(), entry->value.text);
  if (found != known.end()) return static_cast<std::size_t>(found - known.begin());
  out_.error(entry->value.at, fmt::format("unknown {} {} in {}", key, quote(entry->value.text), where_),
             suggestion(entry->value.text, known));
  return std::nullopt;
}

std::optional<bool> TableReader::truth(std::string_view key) const {
  const Entry* entry = typed(key, Node::Kind::boolean, "true");
  if (entry == nullptr) return std::nullopt;
  return entry->value.truth;
}

}  // namespace bailey::policy
