#include "bailey/session/window.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "bailey/pool/passage.h"
#include "bailey/session/credential.h"
#include "bailey/session/session.h"

namespace bailey::session {
// ---- accesses

Status Window::may_begin(bool writes) {
  const std::string& region = held_->opened->region;
  if (held_->revoked)
    return fail(Code::revoked, By::library, fmt::format("the window on region {} was revoked", region),
                "acquire another");
  if (writes ? !view_->current() : !view_->alive()) BAILEY_TRY(view_->attend());
  if (held_->each) BAILEY_TRY(held_->opened->credential->scope_of(*held_->each));
  return {};
}

template <class Copy>
Status Window::access(bool writes, Bytes buffer, std::uint64_t offset, Copy&& copy) {
  if (writes && !writable_) return read_only();
  if (!within(offset, buffer.size())) return out_of_bounds(offset, buffer.size());
  if (view_->closed())
    return pool::in_gate(*view_, {buffer}, [&] { return access(writes, buffer, offset, copy); });
  for (unsigned attempt = 0; attempt < attempts_max; ++attempt) {
    BAILEY_TRY(may_begin(writes));
    copy(at(offset));
    // The last load. Where it says no, writers may have left what these bytes went into: once more, then.
    if (view_->current()) return {};
    BAILEY_TRY(view_->attend());
  }
  return fail(Code::contended);
}

Status Window::read_slowly(std::uint64_t offset, MutableBytes out) {
  return access(false, out, offset,
                [out](const std::byte* at) { medium::copy_out_bytes(out.data(), at, out.size()); });
}

Status Window::write_slowly(std::uint64_t offset, Bytes in) {
  return access(true, in, offset, [in](std::byte* at) { medium::copy_in_bytes(at, in.data(), in.size()); });
}

Result<bool> Window::compare(std::uint64_t offset, Bytes with) {
  bool same = true;
  BAILEY_TRY(access(false, with, offset, [&](const std::byte* at) {
    same = true;
    std::array<std::byte, 4096> piece;
    for (std::size_t done = 0; done < with.size() && same;) {
      std::size_t count = std::min(piece.size(), with.size() - done);
      medium::copy_out_bytes(piece.data(), at + done, count);
      same = std::memcmp(piece.data(), with.data() + done, count) == 0;
      done += count;
    }
  }));
  return same;
}

std::unexpected<Error> Window::out_of_bounds(std::uint64_t offset, std::uint64_t count) const {
  return fail(Code::invalid_argument, By::library,
              fmt::format("{} bytes from {} on are not within the window's {} on region {}", count, offset,
                          bytes_, held_->opened->region));
}

std::unexpected<Error> Window::read_only() const {
  return fail(Code::denied, By::library,
              fmt::format("the window on region {} is for reading", held_->opened->region),
              "acquire it with a token that has rights rw");
}

// ---- acquiring

Result<Raw> Raw::open(Region region, std::string_view name) {
  if (region.kind != "raw")
    return fail(Code::unsupported, By::library, fmt::format("region {} is a {}, not raw", name, region.kind));
  auto opened = std::make_shared<Window::Opened>();
  std::uint64_t bytes = region.view->index_bytes();
  opened->view = std::move(region.view);
  opened->credential = std::move(region.credential);
  opened->region = name;
  return Raw(std::move(opened), bytes);
}

const capability::Token& Raw::token() const { return opened_->credential->token(); }

Result<Raw::Allowed> Raw::verified(const capability::Token& token) const {
  capability::Scope scope = BAILEY_TRY(opened_->credential->scope_of(token));
  if (scope.expires || scope.holder_count != 0 || !scope.prefix.empty())
    return fail(Code::unsupported, By::library,
                "the token has caveats that a window can't hold to: an expiry, a holder or a key prefix",
                "narrow the token that the region is opened with: the broker ends that in time, and knows "
                "its holder");
  if (scope.nothing || scope.begin >= bytes_)
    return fail(Code::denied, By::library,
                fmt::format("the token allows nothing of region {}", opened_->region));
  return Allowed{scope.begin, std::min(scope.end, bytes_), scope.allows(Access::read_write)};
}

Result<Window> Raw::within(const Allowed& allowed, const capability::Range& range, Access access) const {
  if (range.offset > bytes_ || range.length == 0 || range.length > bytes_ - range.offset)
    return fail(Code::invalid_argument, By::library,
                fmt::format("{} bytes from {} on are not within the {} of region {}", range.length,
                            range.offset, bytes_, opened_->region));
  bool writable = access == Access::read_write;
  if (range.offset < allowed.begin || range.offset + range.length > allowed.end ||
      (writable && !allowed.writable))
    return fail(Code::denied, By::library,
                fmt::format("the token allows {} of bytes {}..{} of region {}, and {} of {}..{} was asked",
                            allowed.writable ? "rw" : "r", allowed.begin, allowed.end - 1, opened_->region,
                            writable ? "rw" : "r", range.offset, range.offset + range.length - 1),
                "ask for less, or open the region with a token for more");
  auto held = std::make_shared<Window::Held>();
  held->opened = opened_;
  return Window(std::move(held), range.offset, range.length, writable);
}

Result<Window> Raw::acquire(const capability::Token& token, Verify verify) const {
  Allowed allowed = BAILEY_TRY(verified(token));
  Window window = BAILEY_TRY(within(allowed, {allowed.begin, allowed.end - allowed.begin},
                                    allowed.writable ? Access::read_write : Access::read_only));
  if (verify == Verify::each) {
    window.held_->each = std::make_unique<capability::Token>(token);
    window.held_->plain = false;
  }
  return window;
}

Result<Window> Raw::acquire(std::uint64_t offset, std::uint64_t bytes, Access access, Verify verify) const {
  // Asked of what the session has first, for an error that says what there is.
  BAILEY_TRY(within(BAILEY_TRY(verified(token())), {offset, bytes}, access));
  capability::Token narrower = BAILEY_TRY(token().narrow(capability::Range{offset, bytes}));
  if (access == Access::read_only) narrower = BAILEY_TRY(narrower.narrow(capability::Rights{access}));
  return acquire(narrower, verify);
}

Result<std::vector<Window>> Raw::acquire(const capability::Token& token,
                                         std::span<const capability::Range> ranges, Access access) const {
  Allowed allowed = BAILEY_TRY(verified(token));
  std::vector<Window> windows;
  windows.reserve(ranges.size());
  for (const capability::Range& range : ranges) windows.push_back(BAILEY_TRY(within(allowed, range, access)));
  return windows;
}

}  // namespace bailey::session
