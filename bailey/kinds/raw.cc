#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "bailey/kinds/raw_kind.h"
#include "bailey/medium/access.h"
#include "bailey/pool/passage.h"

namespace bailey::kinds {
namespace {

constexpr std::size_t row_bytes = 16;

// A row of the region as it was at one moment of the grant. Bytes that are being written may be mixed.
Status copy_row(pool::View& view, std::uint64_t at, std::array<std::byte, row_bytes>& row) {
  for (unsigned attempt = 0; attempt < table::attempts_max; ++attempt) {
    if (!view.current()) BAILEY_TRY(view.attend());
    medium::copy_out_bytes(row.data(), view.index() + at, row.size());
    if (view.current()) return {};
  }
  return fail(Code::contended, By::peer,
              fmt::format("the region's layout changed under each of {} looks", table::attempts_max),
              "try again");
}

}  // namespace

table::Geometry plan_raw(table::Mode mode, std::uint64_t, std::uint64_t) { return {mode, 0, 0, 0}; }

void format_raw(MutableBytes, const table::Geometry&) {}

Result<Report> check_raw(pool::View& view, const table::Geometry&) {
  if (!view.current()) BAILEY_TRY(view.attend());
  Report report;
  report.findings.push_back({Finding::Grade::note,
                             fmt::format("{} bytes without a layout: any are sound", view.index_bytes()),
                             0,
                             {}});
  return report;
}

Result<std::string> inspect_raw(pool::View& view, const table::Geometry& geometry,
                                const InspectOptions& options) {
  if (view.closed()) return pool::in_gate(view, {}, [&] { return inspect_raw(view, geometry, options); });
  std::string text =
      fmt::format("raw, {}: {} bytes without a layout\n",
                  geometry.mode == table::Mode::shared ? "shared" : "exclusive", view.index_bytes());
  if (!options.contents) return text + "--contents prints them\n";
  std::uint64_t lines = 0;
  std::array<std::byte, row_bytes> row, last;
  bool repeated = false;
  for (std::uint64_t at = 0; at + row_bytes <= view.index_bytes(); at += row_bytes) {
    BAILEY_TRY(copy_row(view, at, row));
    if (at != 0 && row == last) {
      if (!std::exchange(repeated, true)) text += "*\n";
      continue;
    }
    if (lines++ == options.lines_max) return text + "... the rest is left off; --lines prints more\n";
    repeated = false;
    last = row;
    text += fmt::format("{:08x} ", at);
    for (std::byte byte : row) text += fmt::format(" {:02x}", std::to_integer<unsigned>(byte));
    text += "  ";
    for (std::byte byte : row) {
      char c = static_cast<char>(byte);
      text += c >= 0x20 && c < 0x7f ? c : '.';
    }
    text += '\n';
  }
  return text;
}

}  // namespace bailey::kinds
