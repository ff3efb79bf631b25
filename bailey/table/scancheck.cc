#include "bailey/table/scancheck.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace bailey::table {
namespace {

struct OfKey {
  std::vector<const Operation*> writes;  // acknowledged, by end
  std::vector<const Operation*> erases;  // that happened or may have, by start
};

// The last write that was acknowledged before the scan, if no erase can have taken away what it left; else
// null.
const Operation* there_throughout(const OfKey& of, const Operation& scan) {
  const auto after = std::partition_point(of.writes.begin(), of.writes.end(), [&](const Operation* write) {
    return write->end_ns < scan.start_ns;
  });
  if (after == of.writes.begin()) return nullptr;
  const Operation* write = *std::prev(after);
  for (const Operation* erase : of.erases) {
    if (erase->start_ns > scan.end_ns) break;
    if (erase->end_ns >= write->start_ns) return nullptr;
  }
  return write;
}

}  // namespace

ScancheckReport scancheck(std::span<const Operation> history) {
  std::map<std::uint64_t, OfKey> keys;
  std::vector<const Operation*> scans;
  std::set<std::pair<std::pair<std::uint32_t, std::uint32_t>, std::uint64_t>> came;  // process and scan; key
  for (const Operation& op : history) {
    if (op.action == Action::scan) {
      if (op.outcome == Outcome::ok) scans.push_back(&op);
    } else if (op.action == Action::get) {
      if (op.scan != 0) came.insert({{op.process, op.scan}, op.key});
    } else if (op.action == Action::erase) {
      if (op.outcome == Outcome::ok || op.outcome == Outcome::unknown) keys[op.key].erases.push_back(&op);
    } else if (op.outcome == Outcome::ok) {
      keys[op.key].writes.push_back(&op);
    }
  }
  for (auto& [key, of] : keys) {
    std::sort(of.writes.begin(), of.writes.end(),
              [](const Operation* a, const Operation* b) { return a->end_ns < b->end_ns; });
    std::sort(of.erases.begin(), of.erases.end(),
              [](const Operation* a, const Operation* b) { return a->start_ns < b->start_ns; });
  }
  ScancheckReport report;
  for (const Operation* scan : scans) {
    ++report.scans;
    for (const auto& [key, of] : keys) {
      const Operation* write = there_throughout(of, *scan);
      if (write == nullptr) continue;
      ++report.keys;
      if (!report.missing.empty() || came.contains({{scan->process, scan->scan}, key})) continue;
      report.missing = fmt::format("key {} was there throughout a scan and did not come\n  {}\n  {}\n", key,
                                   describe(*write, write->start_ns), describe(*scan, write->start_ns));
    }
  }
  return report;
}

}  // namespace bailey::table
