// A broker of the benchmark's own with one region, on the rung `process`.
//
// It is started and stopped with the object, by the process that made it.
#pragma once

#include <memory>
#include <string>

#include "bailey/session/session.h"
#include "bench/broker_process.h"
#include "bench/server.h"
#include "bench/store.h"

namespace bailey::bench {

class OwnBroker {
 public:
  static constexpr const char* region = "bench";
  static constexpr const char* principal = "bench";  // this user; may write the region, and is an admin

  // `kind` is the region's, `more` are further lines of it.
  static Result<std::unique_ptr<OwnBroker>> start(const std::string& kind, table::Mode mode,
                                                  std::uint64_t region_bytes, const std::string& more = "");
  Result<Session> session() const;

 private:
  OwnBroker(Scratch scratch, BrokerProcess broker)
      : scratch_(std::move(scratch)), broker_(std::move(broker)) {}
  Scratch scratch_;
  BrokerProcess broker_;  // stops before its folder goes
};

}  // namespace bailey::bench
