#include "bailey/policy/suggest.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "bailey/policy/diagnostic.h"

namespace bailey::policy {
namespace {
constexpr std::size_t word_bytes_max = 64;
constexpr std::size_t listed_max = 12;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
}  // namespace

unsigned edit_distance(std::string_view a, std::string_view b) {
  if (a.size() > word_bytes_max || b.size() > word_bytes_max)
    return static_cast<unsigned>(std::max(a.size(), b.size()));
  using Row = std::array<unsigned, word_bytes_max + 1>;
  Row before_last{}, last{}, now{};
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = static_cast<unsigned>(j);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    now[0] = static_cast<unsigned>(i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      char x = lower(a[i - 1]), y = lower(b[j - 1]);
      now[j] = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (x == y ? 0u : 1u)});
      if (i > 1 && j > 1 && x == lower(b[j - 2]) && lower(a[i - 2]) == y)
        now[j] = std::min(now[j], before_last[j - 2] + 1);
    }
    before_last = last;
    last = now;
  }
  return last[b.size()];
}

std::string_view nearest(std::string_view word, std::span<const std::string> known) {
  if (word.empty() || word.size() > word_bytes_max) return {};
  std::string_view best;
  unsigned best_distance = static_cast<unsigned>(std::max<std::size_t>(1, word.size() / 3)) + 1;
  for (const std::string& candidate : known) {
    std::size_t apart = std::max(candidate.size(), word.size()) - std::min(candidate.size(), word.size());
    if (apart >= best_distance) continue;
    unsigned distance = edit_distance(word, candidate);
    // Half the letters of a short word wrong is another word.
    if (distance < best_distance && distance < candidate.size()) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string suggestion(std::string_view word, std::span<const std::string> known) {
  std::string_view best = nearest(word, known);
  if (!best.empty()) return fmt::format("did you mean {}?", quote(best));
  if (known.empty() || known.size() > listed_max) return {};
  std::string list;
  for (const std::string& one : known) list += (list.empty() ? "" : ", ") + quote(one);
  return "known: " + list;
}

}  // namespace bailey::policy
