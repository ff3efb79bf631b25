#include "bench/stores/own_broker.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>

namespace bailey::bench {
namespace {

constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint64_t spare_mib = 64;  // of the pool, over its region
constexpr unsigned answer_ms_max = 30'000;

}  // namespace

Result<std::unique_ptr<OwnBroker>> OwnBroker::start(const std::string& kind, table::Mode mode,
                                                    std::uint64_t region_bytes, const std::string& more) {
  Scratch scratch = BAILEY_TRY(Scratch::make());
  const std::uint64_t size = region_bytes / mib + 4;
  broker::ServeOptions serve;
  serve.policy_file = scratch.path() + "/policy.toml";
  serve.socket_path = scratch.path() + "/broker.sock";
  std::ofstream(serve.policy_file) << fmt::format(
      "[pool]\nname = \"bench\"\nmedium = \"memory:{}MiB\"\n[principal.{}]\nidentity = \"user:{}\"\n",
      size + spare_mib, principal, ::getuid());
  std::ofstream(serve.policy_file, std::ios::app)
      << fmt::format("[region.{}]\nkind = \"{}\"\nmode = \"{}\"\nsize = \"{}MiB\"\n{}", region, kind,
                     mode == table::Mode::shared ? "shared" : "exclusive", size, more);
  std::ofstream(serve.policy_file, std::ios::app)
      << fmt::format("[[grant]]\nprincipal = \"{}\"\nregion = \"{}\"\nrights = \"rw\"\n", principal, region);
  BrokerProcess broker = BAILEY_TRY(BrokerProcess::start(std::move(serve)));
  return std::unique_ptr<OwnBroker>(new OwnBroker(std::move(scratch), std::move(broker)));
}

Result<Session> OwnBroker::session() const {
  session::Options options;
  options.socket_path = broker_.running().socket_path;
  options.timeout_ms = answer_ms_max;
  // A session makes its process non-dumpable, and the next store's broker could not be started from it.
  options.allow_dump = true;
  return Session::connect(options);
}

}  // namespace bailey::bench
