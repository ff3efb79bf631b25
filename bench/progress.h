// A progress bar on standard error: drawn only where that is a terminal, at most ten times a second, gone
// when done.
//
// Thread safety: one thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bailey::bench {

class Progress {
 public:
  // `title` stands before the bar. Draws only where standard error is a terminal.
  explicit Progress(std::string title);
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;

  // `done` of `total`; `note` stands behind the bar.
  void show(std::uint64_t done, std::uint64_t total, std::string_view note = {});
  // Removes the bar, so that a line can be printed in its place.
  void clear();

 private:
  std::string title_;
  bool terminal_;
  bool drawn_ = false;
  std::uint64_t drawn_ns_ = 0;
};

}  // namespace bailey::bench
