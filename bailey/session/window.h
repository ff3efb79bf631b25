// Raw: a region of plain bytes that a session has open. Window: a bounds-checked handle to a part of it.
//
//   auto raw = session->open_raw("frames", bailey::Access::read_write);
//   auto window = raw->acquire(4096, 4096, bailey::Access::read_write);
//   window->write(0, bytes);
//
// A window is acquired with a token: the one that the session holds for the region, or what code of this
// process narrowed from it. The token is verified then; each access afterwards checks bounds, rights, whether
// the window was revoked and, as its last load, the session's grant word. No clock is read and nobody is
// asked.
//
// What a window enforces it enforces on code that keeps to windows: the session has all of the file mapped.
// Where the region has the rung `pkey` its pages are closed but within an access, so that code of this
// process has no other way to them; elsewhere nothing stops a stray pointer. What holds against other
// processes are the kernel's descriptors and seals, as everywhere.
//
// Reads are not validated: while another writes the same bytes a read may give old and new ones mixed. In
// mode `exclusive` one session writes, in mode `shared` any that has rw.
//
// Thread safety: a Raw and its windows are for one thread at a time, that of their session.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"
#include "bailey/base/fd.h"
#include "bailey/capability/token.h"
#include "bailey/medium/access.h"
#include "bailey/pool/view.h"

namespace bailey::session {

class Credential;
struct Region;

class Window {
 public:
  std::uint64_t bytes() const { return bytes_; }
  bool writable() const { return writable_; }

  // `offset` counts from the window's beginning. Errors: invalid_argument (out of bounds), denied (a window
  // for reading, its token is not what it was, or the buffer lies among guarded pages),
  // revoked (the window, the grant or the token), unavailable, forked, contended, busy (the gate). After an
  // error of a write its bytes may be there or not.
  [[gnu::always_inline]] Status read(std::uint64_t offset, MutableBytes out) {
    if (ready(offset, out.size()) && view_->alive()) [[likely]] {
      medium::copy_out_bytes(out.data(), at(offset), out.size());
      // The last load.
      if (view_->current()) [[likely]]
        return {};
    }
    return read_slowly(offset, out);
  }
  [[gnu::always_inline]] Status write(std::uint64_t offset, Bytes in) {
    // Who writes looks at the grant word first, too: nothing goes into a file that writers have left.
    if (ready(offset, in.size()) && writable_ && view_->current()) [[likely]] {
      medium::copy_in_bytes(at(offset), in.data(), in.size());
      if (view_->current()) [[likely]]
        return {};
    }
    return write_slowly(offset, in);
  }
  // Whether these bytes are there.
  Result<bool> compare(std::uint64_t offset, Bytes with);

  // Ends this window and all copies of it, for good.
  void revoke() { held_->plain = false, held_->revoked = true; }

 private:
  friend class Raw;
  struct Opened {
    std::unique_ptr<pool::View> view;
    std::shared_ptr<const Credential> credential;
    std::string region;
  };
  struct Held {
    bool plain = true;  // neither revoked nor to be verified at each access
    bool revoked = false;
    std::shared_ptr<Opened> opened;
    std::unique_ptr<capability::Token> each;  // the token to verify then
  };
  static constexpr unsigned attempts_max = 512;

  Window(std::shared_ptr<Held> held, std::uint64_t begin, std::uint64_t bytes, bool writable)
      : held_(std::move(held)),
        view_(held_->opened->view.get()),
        begin_(begin),
        bytes_(bytes),
        writable_(writable) {}

  bool within(std::uint64_t offset, std::uint64_t count) const {
    return offset <= bytes_ && count <= bytes_ - offset;
  }
  // Whether an access needs nothing but to be made, as far as this process knows.
  bool ready(std::uint64_t offset, std::uint64_t count) const {
    return within(offset, count) && held_->plain && !view_->closed();
  }
  std::byte* at(std::uint64_t offset) const { return view_->index() + begin_ + offset; }
  // The same accesses with all that is rare, or asked for, or an error.
  [[gnu::cold]] Status read_slowly(std::uint64_t offset, MutableBytes out);
  [[gnu::cold]] Status write_slowly(std::uint64_t offset, Bytes in);
  template <class Copy>
  Status access(bool writes, Bytes buffer, std::uint64_t offset, Copy&& copy);
  Status may_begin(bool writes);
  std::unexpected<Error> out_of_bounds(std::uint64_t offset, std::uint64_t count) const;
  std::unexpected<Error> read_only() const;

  std::shared_ptr<Held> held_;
  pool::View* view_;
  std::uint64_t begin_;
  std::uint64_t bytes_;
  bool writable_;
};

class Raw {
 public:
  enum class Verify : std::uint8_t {
    once,  // when the window is acquired
    each,  // and at each access, for comparison: it costs what verifying costs
  };

  // Lays it over an open region. Error unsupported where that is of another kind.
  static Result<Raw> open(Region region, std::string_view name);

  std::uint64_t bytes() const { return bytes_; }
  // What this session may do here; to be narrowed for others in this process, and given to acquire().
  const capability::Token& token() const;

  // A window of the session's own token, narrowed to the range and rights. Errors: invalid_argument (beyond
  // the region), denied (beyond the token).
  Result<Window> acquire(std::uint64_t offset, std::uint64_t bytes, Access access,
                         Verify verify = Verify::once) const;
  // A window for all that the token allows. Errors: denied (not of this session, changed, allows nothing),
  // unsupported (caveats that only a broker can hold to: expiry, holder, key prefix).
  Result<Window> acquire(const capability::Token& token, Verify verify = Verify::once) const;
  // Many windows with one token, which is verified once: all or none.
  Result<std::vector<Window>> acquire(const capability::Token& token,
                                      std::span<const capability::Range> ranges, Access access) const;

 private:
  struct Allowed {
    std::uint64_t begin = 0, end = 0;
    bool writable = false;
  };
  Raw(std::shared_ptr<Window::Opened> opened, std::uint64_t bytes)
      : opened_(std::move(opened)), bytes_(bytes) {}
  Result<Allowed> verified(const capability::Token& token) const;
  Result<Window> within(const Allowed& allowed, const capability::Range& range, Access access) const;

  std::shared_ptr<Window::Opened> opened_;
  std::uint64_t bytes_;
};

}  // namespace bailey::session
