#include "bailey/guard/gate.h"

#include <cstdio>
#include <cstdlib>

#include "bailey/guard/pkru.h"

namespace bailey::guard {
namespace {

struct Thread {
  Gate* innermost;
  // What is being written into PKRU. Volatile: the comparison after the write loads it.
  volatile std::uint32_t meant;
};
// Reached without a call, also from a shared library.
[[gnu::tls_model("initial-exec")]] constinit thread_local Thread thread{};

[[noreturn]] void end_process(const char* why) {
  std::fprintf(stderr, "bailey: %s; the process ends\n", why);
  std::abort();
}

// A function of its own, which takes nothing from registers: whoever jumped to the write has them in his
// hand.
[[gnu::noinline]] void check_pkru() {
  if (read_pkru() != thread.meant) [[unlikely]]
    end_process("a gate wrote the protection keys' register, which holds another value now");
}

inline void switch_to(std::uint32_t value) {
  thread.meant = value;
  write_pkru(value);
  check_pkru();
}

}  // namespace

Gate::Gate(Pin& pin) : pin_(pin), outer_(thread.innermost), frame_(__builtin_frame_address(0)) {
  // The inner gate's function is called from the outer one's, or is the same, and both live.
  if (outer_ != nullptr && (frame_ > outer_->frame_ || this == outer_)) [[unlikely]]
    end_process("a gate was left by a jump (longjmp), without being closed");
  Key& key = *pin.key_;
  pin.open_.store(pin.open_.load(std::memory_order_relaxed) + 1, std::memory_order_seq_cst);
  int hardware = key.hardware_.load(std::memory_order_seq_cst);
  if (hardware < 0) [[unlikely]] {
    pin.open_.store(pin.open_.load(std::memory_order_relaxed) - 1, std::memory_order_release);
    if (auto bound = bind(pin); !bound) {
      refused_ = std::move(bound).error();
      return;
    }
    hardware = key.hardware_.load(std::memory_order_relaxed);
  }
  before_ = read_pkru();
  // A thread that stands in no gate and has something open was born in one: it ends here.
  if (outer_ == nullptr) before_ |= closed_bits();
  within_ = before_ & ~(3u << (2 * hardware));
  switch_to(within_);
  thread.innermost = this;
  opened_ = true;
}

Gate::~Gate() {
  if (!opened_) return;
  thread.innermost = outer_;
  switch_to(before_);
  // Only its own thread changes it, but for a fork, in whose child it may be 0 already.
  if (std::uint32_t open = pin_.open_.load(std::memory_order_relaxed); open != 0)
    pin_.open_.store(open - 1, std::memory_order_release);
}

Closed::Closed() : gate_(thread.innermost) {
  if (gate_ != nullptr) switch_to(gate_->before_ | closed_bits());
}

Closed::~Closed() {
  if (gate_ != nullptr) switch_to(gate_->within_);
}

}  // namespace bailey::guard
