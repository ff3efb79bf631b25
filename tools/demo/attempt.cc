#include "tools/demo/attempt.h"

#include <fmt/format.h>

namespace bailey::demo {
namespace {

template <std::size_t room>
void set(char (&field)[room], std::string_view text) {
  const std::size_t bytes = std::min(text.size(), room - 1);
  std::memcpy(field, text.data(), bytes);
  field[bytes] = 0;
}

}  // namespace

Attempt Attempt::let_through(std::string_view what) {
  Attempt attempt;
  set(attempt.what, what);
  set(attempt.answer, "it was let through");
  return attempt;
}

Attempt Attempt::refused_by(std::string_view what, const Error& error) {
  Attempt attempt;
  set(attempt.what, what);
  set(attempt.by, name(error.by));
  set(attempt.answer, error.to_string());
  attempt.refused = true;
  return attempt;
}

Attempt Attempt::system_call(std::string_view what, std::string_view call, int os) {
  if (os == 0) return let_through(what);
  Attempt attempt;
  set(attempt.what, what);
  set(attempt.by, name(By::kernel));
  set(attempt.answer, fmt::format("{}: {} ({})", call, strerrorname_np(os), strerrordesc_np(os)));
  attempt.refused = true;
  return attempt;
}

}  // namespace bailey::demo
