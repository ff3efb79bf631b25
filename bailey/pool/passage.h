// Passage: an operation's way into the pages of a view that a gate guards.
//
// While it lives the view is open to the thread. Who is passed none of the view's pages, because the view is
// guarded and closed, makes one first:
//
//   if (view.closed()) [[unlikely]]
//     return pool::in_gate(view, [this, key] { return the same operation again; });
//
// which costs an operation of a view without gates one load and one branch; captured by value, since what is
// captured by reference has to lie in memory on every way.
//
// Thread safety: that of its view, on whose thread's stack it lies.
#pragma once

#include "bailey/guard/gate.h"
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

// An operation on a closed view. Never inlined: it is not on the way of views without gates.
template <class Operation>
[[gnu::noinline]] auto in_gate(View& view, Operation&& operation) -> decltype(operation()) {
  Passage passage(view);
  if (!passage.opened()) return passage.refused();
  return operation();
}

}  // namespace bailey::pool
