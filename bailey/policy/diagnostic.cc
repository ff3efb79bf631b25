#include "bailey/policy/diagnostic.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <tuple>

namespace bailey::policy {

std::string Diagnostic::to_string() const {
  std::string text = fmt::format("{}:{}:{}: {}{}", file, line, column,
                                 severity == Severity::warning ? "warning: " : "", message);
  if (!hint.empty()) text += "; " + hint;
  return text;
}

void Diagnostics::add(Severity severity, Position at, std::string message, std::string hint) {
  bool error = severity == Severity::error;
  std::size_t count = error ? ++errors_ : ++warnings_;
  std::size_t max = error ? errors_max : warnings_max;
  if (count > max + 1) return;
  if (count == max + 1) {
    message = fmt::format("more than {} {}; the rest is not shown", max, error ? "mistakes" : "warnings");
    hint.clear();
  }
  list_.push_back({file_, at.line, at.column, severity, std::move(message), std::move(hint)});
}

void Diagnostics::error(Position at, std::string message, std::string hint) {
  add(Severity::error, at, std::move(message), std::move(hint));
}
void Diagnostics::warning(Position at, std::string message, std::string hint) {
  add(Severity::warning, at, std::move(message), std::move(hint));
}

std::vector<Diagnostic> Diagnostics::take() {
  // By place, and at one place in the order in which they were found.
  std::vector<std::size_t> order(list_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::tie(list_[a].line, list_[a].column, a) < std::tie(list_[b].line, list_[b].column, b);
  });
  std::vector<Diagnostic> sorted;
  for (std::size_t index : order) sorted.push_back(std::move(list_[index]));
  list_.clear();
  errors_ = warnings_ = 0;
  return sorted;
}

std::string quote(std::string_view text) {
  constexpr std::size_t shown_max = 80;
  std::string out = "\"";
  std::size_t at = 0;
  while (at < text.size() && at < shown_max) {
    auto byte = static_cast<unsigned char>(text[at]);
    std::size_t length = byte < 0x80         ? 1
                         : byte >> 5 == 0x6  ? 2
                         : byte >> 4 == 0xe  ? 3
                         : byte >> 3 == 0x1e ? 4
                                             : 0;
    bool whole = length != 0 && at + length <= text.size();
    for (std::size_t i = 1; whole && i < length; ++i)
      whole = (static_cast<unsigned char>(text[at + i]) & 0xc0) == 0x80;
    // U+0080..U+009F are control characters too: terminals may obey them.
    bool control = byte < 0x20 || byte == 0x7f ||
                   (byte == 0xc2 && whole && static_cast<unsigned char>(text[at + 1]) < 0xa0);
    if (!whole || control) {
      out += fmt::format("\\x{:02x}", byte);
      ++at;
    } else {
      out.append(text.substr(at, length));
      at += length;
    }
  }
  if (at < text.size()) out += "...";
  return out + "\"";
}

}  // namespace bailey::policy
