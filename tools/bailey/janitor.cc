#include "tools/bailey/janitor.h"

#include <time.h>

#include <nlohmann/json.hpp>

#include "bailey/base/log.h"
#include "bailey/session/session.h"

namespace bailey::tools {
namespace {

constexpr timespec pause{1, 0};

// Writers clean up behind themselves and behind the dead when they run short; this is for regions that have
// none.
Status clean(Session& session) {
  const nlohmann::json status = nlohmann::json::parse(BAILEY_TRY(session.status()));
  for (const nlohmann::json& region : status.at("regions")) {
    if (region.at("segments_frozen").get<std::uint64_t>() == 0) continue;
    if (region.at("writers").get<std::uint64_t>() != 0) continue;
    const auto name = region.at("name").get<std::string>();
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
      log::info("janitor", "region {}: gave back {} segments", name, *given_back);
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
  for (;;) {
    if (const Status cleaned = clean(*session); !cleaned) {
      log::info("janitor", "stops: {}", cleaned.error().to_string());
      return 1;
    }
    ::nanosleep(&pause, nullptr);
  }
}

}  // namespace bailey::tools
