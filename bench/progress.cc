#include "bench/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "bailey/base/clock.h"

namespace bailey::bench {
namespace {
constexpr std::uint64_t redraw_ns = 100'000'000;

std::size_t terminal_columns() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}
}  // namespace

Progress::Progress(std::string title) : title_(std::move(title)), terminal_(::isatty(STDERR_FILENO) == 1) {}

void Progress::show(std::uint64_t done, std::uint64_t total, std::string_view note) {
  if (!terminal_) return;
  const std::uint64_t now = monotonic_ns();
  if (drawn_ && now - drawn_ns_ < redraw_ns) return;
  drawn_ = true;
  drawn_ns_ = now;
  constexpr std::size_t width = 30;
  const double share = total == 0 ? 1 : std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
  const auto filled = static_cast<std::size_t>(share * width);
  std::string line = fmt::format("{} [{}{}] {:3.0f}% {}", title_, std::string(filled, '#'),
                                 std::string(width - filled, '.'), share * 100, note);
  // A line that wraps could not be drawn over.
  line.resize(std::min(line.size(), terminal_columns() - 1));
  fmt::print(stderr, "\r\x1b[K{}", line);
  std::fflush(stderr);
}

void Progress::clear() {
  if (!drawn_) return;
  drawn_ = false;
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
}

}  // namespace bailey::bench
