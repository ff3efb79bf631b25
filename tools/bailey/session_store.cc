#include "tools/bailey/session_store.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "bench/stores/table_driver.h"

namespace bailey::tools {

Result<std::unique_ptr<bench::Client>> session_client(const Reach& reach, const std::string& region,
                                                      bool writes) {
  Session session = BAILEY_TRY(reach.connect());
  Table table = BAILEY_TRY(session.open_table(region, writes ? Access::read_write : Access::read_only));
  return std::make_unique<bench::TableDriver>(std::move(table));
}

Result<std::unique_ptr<bench::Store>> SessionStore::make(const Reach& reach, const std::string& region,
                                                         const std::string& mode,
                                                         const std::vector<std::string>& protect) {
  if (region.empty())
    return fail(Code::invalid_argument, By::library, "which region of the broker to run on is not said",
                "give --region NAME, or --medium memory: for a table without a broker");
  Session session = BAILEY_TRY(reach.connect());
  const session::Region opened = BAILEY_TRY(session.open_region(region, Access::read_only));
  const bool exclusive = opened.geometry.mode == table::Mode::exclusive;
  const std::string is = exclusive ? "exclusive" : "shared";
  if (mode != is)
    return fail(Code::invalid_argument, By::broker, fmt::format("region {} is {}, not {}", region, is, mode),
                fmt::format("give --mode {}, or change the policy", is));
  for (const std::string& rung : protect)
    if (std::find(opened.protect.begin(), opened.protect.end(), rung) == opened.protect.end())
      return fail(
          Code::invalid_argument, By::broker,
          fmt::format("region {} has {} in force, not {}", region, fmt::join(opened.protect, ", "), rung),
          "leave --protect out, or change the policy");
  return std::unique_ptr<bench::Store>(new SessionStore(reach, region, exclusive));
}

}  // namespace bailey::tools
