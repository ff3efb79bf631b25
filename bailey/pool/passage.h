// Passage: an operation's way into the pages of a view that a gate guards.
//
// While it lives the view is open to the thread. Who is passed none of the view's pages, because the view is
// guarded and closed, makes one first:
//
//   if (view.closed()) [[unlikely]]
//     return pool::in_gate(view, {as_bytes(key)}, [this, key] { return the same operation again; });
//
// What the caller gives to be read or filled in is named, so that it can't lie where only the gate leads: the
// operation would be the caller's hand in guarded pages. It is looked at before the gate opens; a thread that
// changes it meanwhile could as well change the stack of the one in the gate, which is not stopped.
//
// That costs an operation of a view without gates one load and one branch; captured by value, since what is
// captured by reference has to lie in memory on every way.
//
// Thread safety: that of its view, on whose thread's stack it lies.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "bailey/base/bytes.h"
#include "bailey/guard/gate.h"
#include "bailey/guard/window.h"
#include "bailey/pool/view.h"

namespace bailey::pool {

class Passage {
 public:
  // Of a view that is closed().
  explicit Passage(View& view) : view_(view), gate_(*view.parts_.pin) { view.closed_ = !gate_.opened(); }
  ~Passage() { view_.closed_ = true; }
  Passage(const Passage&) = delete;

  bool opened() const { return gate_.opened(); }
  // busy: more regions are at work in this process at this moment than the processor has keys.
  std::unexpected<Error> refused() const { return gate_.refused(); }

 private:
  View& view_;
  guard::Gate gate_;
};

inline bool meets_window(Bytes of_caller) { return guard::meets_window(of_caller.data(), of_caller.size()); }

inline std::unexpected<Error> argument_in_window() {
  return fail(Code::denied, By::library,
              "an argument of the operation lies in guarded pages, which the caller may not touch",
              "give memory of the program's own");
}

// An operation on a closed view. Never inlined: it is not on the way of views without gates.
template <class Operation>
[[gnu::noinline]] auto in_gate(View& view, std::initializer_list<Bytes> of_caller, Operation&& operation)
    -> decltype(operation()) {
  if (std::ranges::any_of(of_caller, meets_window)) return argument_in_window();
  Passage passage(view);
  if (!passage.opened()) return passage.refused();
  return operation();
}

}  // namespace bailey::pool
