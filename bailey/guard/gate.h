// Gate: the only way into pages of a key, for the thread that stands in it and as long as the object lives.
//
//   Gate gate(pin);
//   if (!gate.opened()) return gate.refused();
//
// What it writes into PKRU, the register of the thread that says which keys are open, it reads back and
// compares with what it meant, which lies in memory: a jump into its middle with another value in a register
// ends the process. It closes on every path out, exceptions too. Gates nest, in any order of keys.
//
// What runs inside a gate is this library alone: no callback of a program, no wait for a broker (see Closed).
// What else can run in the thread, and what it then has open:
//  - a signal handler: nothing. The kernel enters it with the PKRU that a program begins with, and gives the
//    thread its own back when the handler returns;
//  - operator new, where a program brings its own: what the gate opened. Likewise a test's hook;
//  - a thread born in a gate (by one of those) inherits what is open, and the kernel tells nobody. It is
//  closed
//    again at the first gate of its own. Nothing of this library starts a thread;
//  - a jump out (longjmp) skips the closing. The thread's next gate that does not lie below the older one in
//  the
//    stack notices that that one's frame is gone, and ends the process; where the jump was out of a signal
//    handler all is closed from there on.
//
// Thread safety: a gate is for the thread that made it, and lies on its stack.
#pragma once

#include <cstdint>

#include "bailey/base/error.h"
#include "bailey/guard/keys.h"

namespace bailey::guard {

class Gate {
 public:
  // Opens, where need be after a wait for a hardware key (keys.h has the bound).
  explicit Gate(Pin& pin);
  ~Gate();
  Gate(const Gate&) = delete;

  bool opened() const { return opened_; }
  // Why not. busy, or io.
  std::unexpected<Error> refused() const { return std::unexpected(refused_); }

 private:
  friend class Closed;
  friend class Keys;
  // The way around by the lock: binds the key and counts the gate.
  static Status bind(Pin& pin);

  Pin& pin_;
  Gate* outer_;               // the gate that this one stands in
  const void* frame_;         // where in the stack this one was made
  std::uint32_t before_ = 0;  // PKRU
  std::uint32_t within_ = 0;  // PKRU
  bool opened_ = false;
  Error refused_;
};

// While it lives, all gates that the thread stands in are closed: for calls out of a gate, to whatever waits
// or is not the library's. The key stays where it is. Does nothing in a thread that stands in no gate.
class Closed {
 public:
  Closed();
  ~Closed();
  Closed(const Closed&) = delete;

 private:
  Gate* gate_;
};

}  // namespace bailey::guard
