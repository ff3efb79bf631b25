// How one table's rate compares with another's, over several rounds.
//
// Thread safety: values.
#pragma once

#include <string>

namespace bailey::demo {

// Ours over theirs: the median, the least and the most of the rounds.
struct Ratio {
  double median, least, most;

  // "0.95 (0.91 to 0.98)".
  std::string in_figures() const;
  // "2 to 9 % slower"; where the rounds don't agree on who is quicker, both ends are said.
  std::string in_words() const;
};

}  // namespace bailey::demo
