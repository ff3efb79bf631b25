// How results are told: a table for people, CSV for programs, a picture for both.
#pragma once

#include <string>
#include <vector>

#include "bench/contest.h"
#include "bench/machine.h"

namespace bailey::bench {

// A row of the comparison.
struct Row {
  std::string system;
  Operation operation = Operation::get;
  unsigned clients = 1;
  std::uint64_t value_bytes = 0;
  double per_second = 0;  // median over the rounds
  double p50_us = 0;      // of a call, which is one request or one batch
  double p99_us = 0;
  bool has_ratio = false;  // whether `base` was measured at the same operation
  Ratio ratio;             // base over this system: above 1, base is quicker
};

// Rows in the order of the scores, ratios against the system called `base`.
std::vector<Row> make_rows(const std::vector<Score>& scores, const std::string& base,
                           std::uint64_t value_bytes);

// Aligned, for a terminal.
std::string table_text(const std::vector<Row>& rows, const std::string& base);
// "system,operation,clients,value_bytes,ops_per_s,p50_us,p99_us,ratio", after comment lines with the
// machine's facts, `notes`, and the spread of each ratio.
std::string csv_text(const std::vector<Row>& rows, const Machine& machine,
                     const std::vector<std::string>& notes);

// Replaces the file, or leaves it as it was.
Status write_file(const std::string& path, const std::string& text);

// Draws operations a second of the rows with one client, by gnuplot. Error: unsupported where that is
// missing.
Status plot_png(const std::vector<Row>& rows, const Machine& machine, const std::string& scratch,
                const std::string& path);

}  // namespace bailey::bench
