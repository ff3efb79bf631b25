// A broker of a program's own, in processes of its own: it stops when the object goes, or the program dies.
//
// Process safety: for single-threaded programs (it forks); only the process that started the broker stops it.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>

#include "bailey/base/error.h"
#include "bailey/broker/serve.h"

namespace bailey::bench {

class BrokerProcess {
 public:
  // Returns once the socket answers. `keep` is called in the broker's process; what it gives back lives until
  // the broker has stopped. Error: why it could not start.
  static Result<BrokerProcess> start(broker::ServeOptions options,
                                     const std::function<std::shared_ptr<void>()>& keep = {});
  BrokerProcess(BrokerProcess&& other) noexcept;
  BrokerProcess& operator=(BrokerProcess&&) = delete;
  ~BrokerProcess();

  const broker::Running& running() const { return running_; }
  std::uint64_t ready_ns() const { return ready_ns_; }  // how long it took

 private:
  BrokerProcess() = default;
  pid_t pid_ = -1;
  pid_t owner_ = -1;
  broker::Running running_;
  std::uint64_t ready_ns_ = 0;
};

}  // namespace bailey::bench
