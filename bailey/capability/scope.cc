#include "bailey/capability/scope.h"

#include <algorithm>

namespace bailey::capability {
namespace {

struct Narrower {
  Scope& scope;
  void operator()(const Range& range) {
    // A range that reaches the last byte of 64 bits has an end that no integer holds: none is lost by the
    // clamp, since no file is as long.
    std::uint64_t end =
        range.length > Scope::no_end - range.offset ? Scope::no_end : range.offset + range.length;
    scope.begin = std::max(scope.begin, range.offset);
    scope.end = std::min(scope.end, end);
    scope.nothing |= scope.begin >= scope.end;
  }
  void operator()(const Prefix& prefix) {
    if (prefix.bytes.starts_with(scope.prefix))
      scope.prefix = prefix.bytes;
    else
      scope.nothing |= !scope.prefix.starts_with(prefix.bytes);
  }
  void operator()(const Rights& rights) {
    if (rights.access == Access::read_only) scope.access = Access::read_only;
  }
  void operator()(const Expiry& expiry) {
    scope.expires = std::min(scope.expires.value_or(expiry.seconds), expiry.seconds);
  }
  void operator()(const Holder& holder) { scope.holders[scope.holder_count++] = holder.name; }
};

}  // namespace

bool Scope::held_by(std::span<const std::string> principals) const {
  if (holder_count == 0) return bearer;
  return std::all_of(
      holders.begin(), holders.begin() + static_cast<std::ptrdiff_t>(holder_count),
      [&](std::string_view name) { return std::ranges::find(principals, name) != principals.end(); });
}

Scope scope_of(const Token& token) {
  Head head = token.head();
  Scope scope;
  scope.access = head.access;
  scope.bearer = head.bearer;
  for (std::size_t i = 0; i < token.caveats(); ++i) std::visit(Narrower{scope}, token.caveat(i));
  return scope;
}

}  // namespace bailey::capability
