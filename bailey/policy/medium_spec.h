// Where a pool's bytes live, as the policy writes it: "memory:4GiB?numa=1&delay_ns=150".
//
//   spec    = kind ":" where [ "?" option *( "&" option ) ]
//   kind    = "memory" | "hugepages"   where = a size
//           | "file"                   where = an absolute path; it can hold no "?"
//   option  = "numa=" node | "delay_ns=" nanoseconds | "flush=" ( "none" | "clwb" | "clflushopt" )
//
// Thread safety: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "bailey/base/error.h"

namespace bailey::policy {

enum class MediumKind : std::uint8_t { memory = 1, file = 2, hugepages = 3 };
enum class Flush : std::uint8_t { none = 0, clwb = 1, clflushopt = 2 };

inline constexpr std::uint64_t pool_bytes_min = 4u << 20;
inline constexpr std::uint64_t huge_page_bytes = 2u << 20;
inline constexpr std::uint32_t numa_node_max = 1023;
inline constexpr std::uint32_t delay_ns_max = 1'000'000;

struct MediumSpec {
  MediumKind kind = MediumKind::memory;
  std::uint64_t bytes = 0;            // of the pool; 0 for file: what its file system has
  std::string path;                   // for file:, absolute
  std::optional<std::uint32_t> numa;  // node to take memory from
  std::uint32_t delay_ns = 0;         // injected at each access, to emulate a slower medium
  Flush flush = Flush::none;          // what a writer does to its lines after it published

  bool operator==(const MediumSpec&) const = default;
  // Reads back as the same spec.
  std::string to_string() const;
};

// Error invalid_argument: `message` says what is wrong, `remedy` what was probably meant.
Result<MediumSpec> parse_medium(std::string_view text);

// Whether whoever can read a region of this medium can write it too. Of no medium that the broker has: it
// gives readers descriptors that are good for reading alone.
bool readers_can_write(MediumKind kind);

std::string_view name(MediumKind kind);
std::string_view name(Flush flush);

}  // namespace bailey::policy
