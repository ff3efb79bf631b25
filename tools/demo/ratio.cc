#include "tools/demo/ratio.h"

#include <fmt/format.h>

#include <cmath>

namespace bailey::demo {
namespace {

long percent(double ratio) { return std::lround(std::abs(ratio - 1) * 100); }

std::string range(const std::string& least, const std::string& most, std::string_view what) {
  return least == most ? fmt::format("{} {}", least, what) : fmt::format("{} to {} {}", least, most, what);
}

}  // namespace

std::string Ratio::in_figures() const {
  return fmt::format("{:.2f} ({:.2f} to {:.2f})", median, least, most);
}

std::string Ratio::in_words() const {
  // What rounds to no difference is none.
  const long slower = least < 1 ? percent(least) : 0, quicker = most > 1 ? percent(most) : 0;
  if (slower == 0 && quicker == 0) return "as quick";
  if (slower != 0 && quicker != 0)
    return fmt::format("between {} % slower and {} % quicker", slower, quicker);
  if (slower != 0)
    return range(fmt::to_string(most < 1 ? percent(most) : 0), fmt::to_string(slower), "% slower");
  // Beyond twice, nobody thinks in percent.
  if (least >= 2) return range(fmt::format("{:.1f}", least), fmt::format("{:.1f}", most), "times as quick");
  return range(fmt::to_string(least > 1 ? percent(least) : 0), fmt::to_string(quicker), "% quicker");
}

}  // namespace bailey::demo
