// The window: one range of addresses, the same in every process, where all that protection keys guard lies.
//
// Its place is fixed so that a filter of system calls can be written before the program that it filters
// begins: "no mprotect, munmap, mremap ... that meets the window". Between the heap of position-independent
// programs and the mappings of the kernel's choice, and outside the shadow of the address sanitizer.
//
// Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bailey/base/error.h"

namespace bailey::guard {

inline constexpr std::uintptr_t window_base = 0x2000'0000'0000;
inline constexpr std::size_t window_bytes = std::size_t{1} << 42;

// Reserves the addresses, without memory behind them, for the life of the process; the first call does it.
// Error unsupported where something lies there (a sanitizer's shadow, a limit of address space).
Status reserve_window();

}  // namespace bailey::guard
