// Scope: what a token allows once all its caveats hold together.
//
// Thread safety: values; texts lie in the token.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "bailey/capability/token.h"

namespace bailey::capability {

struct Scope {
  static constexpr std::uint64_t no_end = std::numeric_limits<std::uint64_t>::max();

  Access access = Access::read_only;
  std::uint64_t begin = 0;  // of a raw region: bytes [begin, end)
  std::uint64_t end = no_end;
  std::string_view prefix;               // that keys begin with; empty: all
  std::optional<std::uint64_t> expires;  // seconds since 1970
  std::array<std::string_view, BAILEY_TOKEN_CAVEATS_MAX> holders;
  std::size_t holder_count = 0;
  bool bearer = false;
  bool nothing = false;  // caveats that exclude each other

  // Whether it is for a part of a file: some bytes, or some keys.
  bool narrower_than_file() const { return begin != 0 || end != no_end || !prefix.empty(); }
  bool expired(std::uint64_t now_seconds) const { return expires && *expires <= now_seconds; }
  bool allows(Access asked) const { return asked == Access::read_only || access == Access::read_write; }
  // Whether somebody who is these principals may use it: every caveat of a holder must name one of them, and
  // without any the token must be a bearer's.
  bool held_by(std::span<const std::string> principals) const;
};

Scope scope_of(const Token& token);

}  // namespace bailey::capability
