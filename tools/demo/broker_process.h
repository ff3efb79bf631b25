// The broker of a demo, in processes of its own: it stops, and takes its folder with it, when the object goes
// or the demo dies.
#pragma once

#include <sys/types.h>

#include <string>

#include "bailey/broker/serve.h"
#include "tools/demo/folder.h"

namespace bailey::demo {

class BrokerProcess {
 public:
  // Returns once the socket answers. Error: why it could not start.
  static Result<BrokerProcess> start(Folder& folder);
  BrokerProcess(BrokerProcess&& other) noexcept;
  BrokerProcess& operator=(BrokerProcess&&) = delete;
  ~BrokerProcess();

  const broker::Running& running() const { return running_; }
  std::uint64_t ready_ns() const { return ready_ns_; }  // how long it took

 private:
  BrokerProcess() = default;
  pid_t pid_ = -1;
  broker::Running running_;
  std::uint64_t ready_ns_ = 0;
};

}  // namespace bailey::demo
