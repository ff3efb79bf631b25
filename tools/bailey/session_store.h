// A broker's table as the benchmarks drive it.
//
// Thread and process safety: the store is made in the parent; each process makes its own client, and with it
// a session of its own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/store.h"
#include "tools/bailey/command.h"

namespace bailey::tools {

// Connects, opens, and drives the table. `read_write` where it will write.
Result<std::unique_ptr<bench::Client>> session_client(const Reach& reach, const std::string& region,
                                                      bool writes);

class SessionStore : public bench::Store {
 public:
  // Errors: invalid_argument where no region is named, or it has another mode or protection than asked for;
  // those of connecting and opening.
  static Result<std::unique_ptr<bench::Store>> make(const Reach& reach, const std::string& region,
                                                    const std::string& mode,
                                                    const std::vector<std::string>& protect);
  Result<std::unique_ptr<bench::Client>> client(bool writes) override {
    return session_client(reach_, region_, writes);
  }
  bool single_writer() const override { return exclusive_; }

 private:
  SessionStore(Reach reach, std::string region, bool exclusive)
      : reach_(std::move(reach)), region_(std::move(region)), exclusive_(exclusive) {}
  Reach reach_;
  std::string region_;
  bool exclusive_;
};

}  // namespace bailey::tools
