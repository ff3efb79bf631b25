// The agent (strict_agent.cc) as the file that it was linked to.
#pragma once

#include <cstddef>
#include <span>

namespace bailey::guard {

std::span<const std::byte> strict_agent_image();

}  // namespace bailey::guard
