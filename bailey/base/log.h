// Log lines, on standard error: time, level, room, text. Keys, values, secrets and tokens are never logged.
//
// A library that logs unasked is a nuisance: the level is `off` until the program (broker, tools) sets it.
// Thread-safe.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace bailey::log {

enum class Level { debug, info, warning, error, off };

void set_level(Level level);
bool enabled(Level level);
void write(Level level, std::string_view room, std::string_view text);

template <class... Args>
void debug(std::string_view room, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::debug)) write(Level::debug, room, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void info(std::string_view room, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::info)) write(Level::info, room, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warning(std::string_view room, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::warning)) write(Level::warning, room, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void error(std::string_view room, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::error)) write(Level::error, room, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace bailey::log
