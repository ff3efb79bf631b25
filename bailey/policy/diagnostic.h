// What is wrong with a policy, said as a compiler says it: file, line, column, what, and what was probably
// meant.
//
// Thread safety: values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bailey::policy {

struct Position {
  std::uint32_t line = 1;    // from 1
  std::uint32_t column = 1;  // from 1, in characters
  auto operator<=>(const Position&) const = default;
};

enum class Severity : std::uint8_t { warning = 1, error = 2 };

struct Diagnostic {
  std::string file;
  std::uint32_t line = 1;
  std::uint32_t column = 1;
  Severity severity = Severity::error;
  std::string message;
  std::string hint;  // empty where there is none

  // policy.toml:12:3: unknown key "sise" in [region.orders]; did you mean "size"?
  std::string to_string() const;
};

// Beyond these a list helps nobody, and a hostile file must not buy unbounded work.
inline constexpr std::size_t errors_max = 100;
inline constexpr std::size_t warnings_max = 50;

// Collects, in any order; at most so many of each, and one that says that there are more. Warnings never
// crowd out errors.
class Diagnostics {
 public:
  explicit Diagnostics(std::string_view file) : file_(file) {}

  void error(Position at, std::string message, std::string hint = {});
  void warning(Position at, std::string message, std::string hint = {});
  // More errors would not be shown: the caller may stop looking. Never true without errors.
  bool full() const { return errors_ > errors_max; }
  std::size_t errors() const { return errors_; }
  // Sorted by place; leaves the collector empty.
  std::vector<Diagnostic> take();

 private:
  void add(Severity severity, Position at, std::string message, std::string hint);

  std::string file_;
  std::vector<Diagnostic> list_;
  std::size_t errors_ = 0;
  std::size_t warnings_ = 0;
};

// Text of others for a message: quoted, at most 80 bytes, control characters and broken UTF-8 as \xNN, so
// that a file can't play tricks with the terminal that shows the message.
std::string quote(std::string_view text);

}  // namespace bailey::policy
