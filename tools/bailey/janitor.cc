#include "tools/bailey/janitor.h"

#include <time.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "bailey/base/count.h"
#include "bailey/base/log.h"
#include "bailey/session/session.h"

namespace bailey::tools {
namespace {

constexpr timespec pause{1, 0};

// What is known of a region where the last round gave nothing back.
struct Rest {
  std::uint64_t frozen_bytes = 0;
  unsigned rounds = 0;  // how long it is left alone, unless more freezes
  unsigned left = 0;
};
constexpr unsigned rounds_most = 64;
using Rests = std::map<std::string, Rest>;

// Writers clean up behind themselves and behind the dead when they run short; this is for regions that have
// none, or none that can. To see what lives in a segment it reads it whole, so it looks ever more seldom
// where nothing changes.
Status clean(Session& session, Rests& rests) {
  const nlohmann::json status = nlohmann::json::parse(BAILEY_TRY(session.status()));
  for (const nlohmann::json& region : status.at("regions")) {
    if (region.at("segments_frozen").get<std::uint64_t>() == 0) continue;
    // Writers that hold no segment have nowhere to move anything, and in a full region they wait for us.
    const auto number = [&](const char* field) { return region.at(field).get<std::uint64_t>(); };
    if (number("writers") != 0 && number("segments_open") != 0 && number("bytes") <= number("size")) continue;
    const auto name = region.at("name").get<std::string>();
    const auto frozen_bytes = region.at("frozen_bytes").get<std::uint64_t>();
    Rest& rest = rests[name];
    if (rest.frozen_bytes != frozen_bytes) rest = {.frozen_bytes = frozen_bytes};
    if (rest.left > 0) {
      --rest.left;
      continue;
    }
    Result<Table> table = session.open_table(name, Access::read_write);
    if (!table) {
      // A writer came first, or there is no room; the next round looks again.
      log::debug("janitor", "region {}: {}", name, table.error().to_string());
      continue;
    }
    const Result<std::size_t> given_back = table->maintain();
    if (!given_back)
      log::debug("janitor", "region {}: {}", name, given_back.error().to_string());
    else if (*given_back != 0)
      log::info("janitor", "region {}: gave back {}", name, counted(*given_back, "segment"));
    rest.rounds = std::min(2 * rest.rounds + 1, rounds_most);
    rest.left = rest.rounds;
  }
  return {};
}

}  // namespace

int run_janitor(const std::string& socket_path) {
  session::Options options;
  options.socket_path = socket_path;
  Result<Session> session = Session::connect(options);
  if (!session) {
    log::warning("janitor", "could not connect: {}", session.error().to_string());
    return 1;
  }
  for (Rests rests;;) {
    if (const Status cleaned = clean(*session, rests); !cleaned) {
      log::info("janitor", "stops: {}", cleaned.error().to_string());
      return 1;
    }
    ::nanosleep(&pause, nullptr);
  }
}

}  // namespace bailey::tools
