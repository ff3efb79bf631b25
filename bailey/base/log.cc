#include "bailey/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>

namespace bailey::log {
namespace {

std::atomic<Level> threshold{Level::off};

spdlog::logger& logger() {
  static spdlog::logger instance = [] {
    spdlog::logger made("bailey", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    made.set_level(spdlog::level::trace);
    made.set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
    made.flush_on(spdlog::level::trace);
    return made;
  }();
  return instance;
}

}  // namespace

void set_level(Level level) { threshold.store(level, std::memory_order_relaxed); }

bool enabled(Level level) {
  return level >= threshold.load(std::memory_order_relaxed) && level != Level::off;
}

void write(Level level, std::string_view room, std::string_view text) {
  static constexpr spdlog::level::level_enum levels[] = {spdlog::level::debug, spdlog::level::info,
                                                         spdlog::level::warn, spdlog::level::err};
  logger().log(levels[static_cast<int>(level)], "{}: {}", room, text);
}

}  // namespace bailey::log
