#include "bailey/kinds/kinds.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "bailey/base/count.h"
#include "bailey/kinds/raw_kind.h"
#include "bailey/kinds/table_kind.h"

namespace bailey::kinds {
namespace {

constexpr std::array kinds_list{
    Kind{"table", table::Geometry::plan, table::Table::format, check_table, inspect_table},
    Kind{"raw", plan_raw, format_raw, check_raw, inspect_raw},
};

}  // namespace

std::span<const Kind> all() { return kinds_list; }

const Kind* find(std::string_view name) {
  auto found = std::ranges::find(kinds_list, name, &Kind::name);
  return found != kinds_list.end() ? &*found : nullptr;
}

bool Report::sound() const {
  return std::ranges::none_of(findings, [](const Finding& f) { return f.grade == Finding::Grade::damage; });
}

std::string Report::to_string() const {
  std::string text;
  if (slots != 0)  // of what has records
    text = fmt::format(
        "{}, {} of keys, {} of values\n"
        "{}, {:.1f} % in use; {} with overflow; {}\n",
        counted(records, "record"), counted(key_bytes, "byte"), counted(value_bytes, "byte"),
        counted(slots, "slot"), 100.0 * static_cast<double>(records) / static_cast<double>(slots),
        counted(buckets_overflowing, "bucket"), counted(segments, "segment"));
  for (const Finding& finding : findings) {
    text += finding.grade == Finding::Grade::damage ? "DAMAGE  " : "note    ";
    if (finding.count != 0) text += fmt::format("{} x ", finding.count);
    text += finding.problem;
    if (!finding.example.empty()) text += fmt::format(" (first: {})", finding.example);
    text += '\n';
  }
  text += sound() ? "sound\n" : "DAMAGED\n";
  return text;
}

}  // namespace bailey::kinds
