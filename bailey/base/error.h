// What an operation that can fail returns, and how a failure is told to a person.
//
// Operating errors (a refusal, a shortage, a dead peer, hostile bytes) are values: Result<T>. A broken
// invariant of our own is a crash: BAILEY_ASSERT stays on in production.
//
// Thread safety: values; no shared state.
#pragma once

#if defined(__cplusplus) && __cplusplus < 202100L
#error "Bailey's headers need C++23: -std=c++23, or target_link_libraries(... bailey::bailey) in CMake"
#endif

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace bailey {

// One word for what went wrong; programs branch on it. Stable: the numbers are part of the C API and of the
// protocol. Append only.
enum class Code : std::uint8_t {
  invalid_argument = 1,  // the caller's argument is wrong; nothing was tried
  not_found = 2,         // no such key, region, principal
  exists = 3,            // insert of a key that is there; a region that is there
  version_mismatch = 4,  // put-if-version: the record has another version now
  contended = 5,         // gave up after a stated number of steps against other parties; try again
  corrupt = 6,           // bytes in shared memory or in a message contradict themselves
  index_full = 7,        // the table's index, fixed at creation, has no slot left for this key
  no_space = 8,          // the machine, cgroup or file system has too little left
  quota = 9,             // the grant's or the region's quota is used up
  denied = 10,           // policy gives this principal no such right
  unavailable = 11,      // the broker is away; what needs it waited its bound and gave up
  revoked = 12,          // the grant ended while it was held
  unsupported = 13,      // this machine, medium or mode cannot do it
  incompatible = 14,     // another version or build of the format or the protocol
  timed_out = 15,
  io = 16,               // a system call failed; Error::os has errno
  closed = 17,           // the object was closed by its holder
  forked = 18,           // the handle belongs to the parent process
  too_large = 19,        // key, value, message or request over its limit
  unauthenticated = 20,  // identity could not be shown
  busy = 21,             // somebody else holds what only one may hold
};

// Who said no.
enum class By : std::uint8_t {
  library = 1,  // Bailey's code in this process; honest clients only
  broker = 2,   // the authority
  kernel = 3,   // the operating system: holds against hostile code too
  peer = 4,     // the other party's bytes
};

std::string_view name(Code code);
std::string_view name(By by);

// A failure: what was refused, by whom, why, and what to do. An Error without a message costs no allocation,
// so that `not_found` is cheap on hot paths.
struct [[nodiscard]] Error {
  Code code = Code::io;
  By by = By::library;
  int os = 0;           // errno, or 0
  std::string message;  // "put of key \"x\" in region orders: refused, the grant is read-only"
  std::string remedy;   // "ask an admin for rw: [[grant]] ... rights = \"rw\"", or empty

  // One paragraph for people: message, code or errno's text, who refused, and the remedy.
  std::string to_string() const;
};

template <class T>
using Result = std::expected<T, Error>;
using Status = Result<void>;

// fail(Code::denied, By::broker, "message", "remedy") in a return statement.
inline std::unexpected<Error> fail(Code code, By by, std::string message, std::string remedy = {}) {
  return std::unexpected(Error{code, by, 0, std::move(message), std::move(remedy)});
}
// For hot paths: code alone, no allocation.
inline std::unexpected<Error> fail(Code code) { return std::unexpected(Error{code, By::library, 0, {}, {}}); }
// A failed system call: By::kernel, with `os` as its errno.
std::unexpected<Error> fail_os(int os, std::string message, std::string remedy = {});

// Prints and aborts; see BAILEY_ASSERT.
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);

}  // namespace bailey

#define BAILEY_ASSERT(expression) \
  ((expression) ? static_cast<void>(0) : ::bailey::assertion_failed(#expression, __FILE__, __LINE__))

// BAILEY_TRY(expr): the value of a Result, or a return of its error from the enclosing function. The counter
// gives each use a name of its own, so that one may stand inside another.
#define BAILEY_TRY(...) BAILEY_TRY_NAMED_(BAILEY_JOIN_(bailey_result_, __COUNTER__), __VA_ARGS__)
#define BAILEY_JOIN_(a, b) BAILEY_JOIN_NOW_(a, b)
#define BAILEY_JOIN_NOW_(a, b) a##b
#define BAILEY_TRY_NAMED_(result, ...)                   \
  __extension__({                                        \
    auto result = (__VA_ARGS__);                         \
    if (!result) [[unlikely]]                            \
      return std::unexpected(std::move(result).error()); \
    ::bailey::detail::take(std::move(result));           \
  })

namespace bailey::detail {
template <class T>
T take(Result<T>&& result) {
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}
}  // namespace bailey::detail
