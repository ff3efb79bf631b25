// The window: one range of addresses, the same in every process, where all that protection keys guard lies.
//
// Its place is fixed so that a filter of system calls can be written before the program that it filters
// begins: "no mprotect, munmap, mremap ... that meets the window". Between the heap of position-independent
// programs and the mappings of the kernel's choice, and outside the shadow of the address sanitizer.
//
// Thread safety: reserve_window() is thread-safe, Places is for whoever holds the lock of keys.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

#include "bailey/base/error.h"

namespace bailey::guard {

inline constexpr std::uintptr_t window_base = 0x2000'0000'0000;
inline constexpr std::size_t window_bytes = std::size_t{1} << 42;

// Reserves the addresses, without memory behind them, for the life of the process; the first call does it.
// Error unsupported where something lies there (a sanitizer's shadow, a limit of address space).
// Under `bailey exec --strict` it maps nothing: the filter of system calls keeps others out.
Status reserve_window();

// Whether any of these bytes lies in the window.
inline bool meets_window(const void* at, std::size_t bytes) {
  const auto from = reinterpret_cast<std::uintptr_t>(at);
  if (bytes == 0 || from >= window_base + window_bytes) return false;
  return from >= window_base || bytes > window_base - from;
}

// The flag with which mmap(2) takes a place: under `bailey exec --strict` only where nothing is.
int flag_of_a_place();

// Who lies where in the window. Each place begins at 2 MiB, as huge pages want it, and has a page of nothing
// behind it.
class Places {
 public:
  // Error no_space where the window is full.
  Result<std::byte*> take(std::size_t bytes);
  // Unmaps what lies at a place that was taken, and keeps the addresses reserved. Under `bailey exec
  // --strict` the place is a grave from now on (strict_layout.h), and nobody's again.
  void give_back(std::byte* at, std::size_t bytes);

 private:
  std::map<std::uintptr_t, std::size_t> free_{{window_base, window_bytes}};  // start, bytes; none adjoin
};

}  // namespace bailey::guard
