#include "bench/report.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "bailey/base/fd.h"
#include "bench/server.h"

extern char** environ;

namespace bailey::bench {
namespace {

std::string ratio_text(const Row& row) {
  return row.has_ratio ? fmt::format("{:.3f}", row.ratio.median) : "";
}

// In a string of gnuplot's.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

}  // namespace

std::vector<Row> make_rows(const std::vector<Score>& scores, const std::string& base,
                           std::uint64_t value_bytes) {
  std::vector<Row> rows;
  for (const Score& score : scores) {
    Row row;
    row.system = score.system;
    row.operation = score.operation;
    row.clients = score.clients;
    row.value_bytes = value_bytes;
    row.per_second = median(score.per_second);
    row.p50_us = static_cast<double>(score.histogram.quantile(0.5)) / 1000;
    row.p99_us = static_cast<double>(score.histogram.quantile(0.99)) / 1000;
    for (const Score& other : scores) {
      if (other.system != base || other.operation != score.operation || other.clients != score.clients)
        continue;
      row.has_ratio = true;
      row.ratio = paired_ratio(other, score);
    }
    rows.push_back(row);
  }
  return rows;
}

std::string table_text(const std::vector<Row>& rows, const std::string& base) {
  std::string text =
      fmt::format("{:<22} {:<10} {:>7} {:>12} {:>9} {:>9}  {}\n", "system", "operation", "clients", "ops/s",
                  "p50 us", "p99 us", base + " is x times as quick (min .. max)");
  for (const Row& row : rows) {
    text += fmt::format("{:<22} {:<10} {:>7} {:>12.0f} {:>9.2f} {:>9.2f}  ", row.system, name(row.operation),
                        row.clients, row.per_second, row.p50_us, row.p99_us);
    if (!row.has_ratio) {
      text += "-\n";
    } else if (row.system == base) {
      text += "1\n";
    } else {
      text += fmt::format("{:.2f} ({:.2f} .. {:.2f})\n", row.ratio.median, row.ratio.min, row.ratio.max);
    }
  }
  return text;
}

std::string csv_text(const std::vector<Row>& rows, const Machine& machine,
                     const std::vector<std::string>& notes) {
  std::string text;
  for (const std::string& line : machine.lines()) text += "# " + line + "\n";
  for (const std::string& note : notes) text += "# " + note + "\n";
  for (const Row& row : rows)
    if (row.has_ratio)
      text += fmt::format("# spread of ratio: {} {} clients {}: {:.3f} .. {:.3f}\n", row.system,
                          name(row.operation), row.clients, row.ratio.min, row.ratio.max);
  text += "system,operation,clients,value_bytes,ops_per_s,p50_us,p99_us,ratio\n";
  for (const Row& row : rows)
    text += fmt::format("{},{},{},{},{:.0f},{:.3f},{:.3f},{}\n", row.system, name(row.operation), row.clients,
                        row.value_bytes, row.per_second, row.p50_us, row.p99_us, ratio_text(row));
  return text;
}

Status write_file(const std::string& path, const std::string& text) {
  const std::string part = path + ".part";
  Fd fd(::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd) return fail_os(errno, "could not create " + part);
  std::size_t written = 0;
  while (written < text.size()) {
    const ssize_t count = ::write(fd.get(), text.data() + written, text.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const int os = errno;
      ::unlink(part.c_str());
      return fail_os(os, "could not write " + part);
    }
    written += static_cast<std::size_t>(count);
  }
  if (std::rename(part.c_str(), path.c_str()) != 0) {
    const int os = errno;
    ::unlink(part.c_str());
    return fail_os(os, fmt::format("could not put {} in place", path));
  }
  return {};
}

Status plot_png(const std::vector<Row>& rows, const Machine& machine, const std::string& scratch,
                const std::string& path) {
  const std::string gnuplot = BAILEY_TRY(find_program("gnuplot"));
  std::vector<std::string> systems;
  std::vector<Operation> operations;
  for (const Row& row : rows) {
    if (row.clients != 1) continue;
    if (std::find(systems.begin(), systems.end(), row.system) == systems.end()) systems.push_back(row.system);
    if (std::find(operations.begin(), operations.end(), row.operation) == operations.end())
      operations.push_back(row.operation);
  }
  if (systems.empty())
    return fail(Code::invalid_argument, By::library, "there is nothing with one client to draw");
  // One line a system, one column an operation; "?" is a gap.
  std::string data = "system";
  for (Operation operation : operations) data += fmt::format(" {}", name(operation));
  data += "\n";
  for (const std::string& system : systems) {
    data += "\"" + system + "\"";
    for (Operation operation : operations) {
      const auto found = std::find_if(rows.begin(), rows.end(), [&](const Row& row) {
        return row.system == system && row.operation == operation && row.clients == 1;
      });
      data += found == rows.end() ? " ?" : fmt::format(" {:.0f}", found->per_second);
    }
    data += "\n";
  }
  const std::string data_path = scratch + "/plot.dat";
  const std::string script_path = scratch + "/plot.gp";
  BAILEY_TRY(write_file(data_path, data));
  std::string script = fmt::format(
      "set terminal pngcairo size 1400,800 noenhanced font 'sans,11'\n"
      "set output {}\n"
      "set title {}\n"
      "set style data histograms\nset style histogram clustered gap 1\nset style fill solid 0.9 border -1\n"
      "set rmargin 12\nset boxwidth 0.9\nset logscale y\nset grid ytics\nset ylabel 'operations a second "
      "(logarithmic)'\n"
      "set format y '%.0s%c'\nset xtics rotate by -30 noenhanced\nset key outside top center horizontal\n"
      "set datafile missing '?'\nset yrange [1000:*]\n"
      "plot for [c=2:{}] {} using c:xtic(1) title columnheader(c)\n",
      quoted(path),
      quoted(fmt::format("{} bytes a value, one client; {}, {} cores, {}; emulated: {}",
                         rows.empty() ? 0 : rows[0].value_bytes, machine.cpu, machine.cores, machine.kernel,
                         machine.emulated)),
      operations.size() + 1, quoted(data_path));
  BAILEY_TRY(write_file(script_path, script));
  char* arguments[] = {const_cast<char*>(gnuplot.c_str()), const_cast<char*>(script_path.c_str()), nullptr};
  pid_t pid = -1;
  if (const int os = ::posix_spawn(&pid, gnuplot.c_str(), nullptr, nullptr, arguments, environ); os != 0)
    return fail_os(os, "could not run gnuplot");
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  if (status != 0) return fail(Code::io, By::library, "gnuplot could not draw " + path);
  return {};
}

}  // namespace bailey::bench
