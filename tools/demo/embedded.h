// Files of the tree that the command carries, so that it needs none of them where it runs.
#pragma once

#include <string_view>

namespace bailey::demo {

extern const std::string_view embedded_policy;    // share/policy.toml
extern const std::string_view embedded_workload;  // bench/workloads/workloadb

}  // namespace bailey::demo
