// The control page: what the broker alone writes and all sessions read (abi/control.h).
//
// The keeper makes it once; brokers inherit the mapping, so words go on counting when a broker is replaced.
// Not thread-safe; readers are other processes.
#pragma once

#include <array>
#include <cstdint>

#include "bailey/abi/control.h"
#include "bailey/base/error.h"
#include "bailey/base/fd.h"
#include "bailey/medium/allocator.h"

namespace bailey::broker {

using Id = std::array<std::uint8_t, 16>;

class ControlPage {
 public:
  // A new page, sealed, with all grant words at `epoch` << 32.
  static Result<ControlPage> create(const medium::Allocator& allocator, const Id& pool, std::uint64_t epoch);

  // For sessions: open for reading only.
  int reader() const { return reader_.get(); }
  std::uint64_t bytes() const { return mapping_.size(); }

  void set_pool(const Id& pool);
  void set_epoch(std::uint64_t epoch);

  std::uint64_t grant(std::uint32_t number) const;
  // The word's holder has something to hear. Returns the new value.
  std::uint64_t bump_grant(std::uint32_t number);
  std::uint64_t membership(std::uint32_t region) const;
  void bump_membership(std::uint32_t region);

 private:
  bailey_control* page() const { return reinterpret_cast<bailey_control*>(mapping_.data()); }
  Mapping mapping_;
  Fd reader_;
};

}  // namespace bailey::broker
