// Finds the instructions by which user code changes the rights of protection keys, in the bytes of code.
//
// Any byte offset counts: who may jump anywhere also jumps into the middle of instructions. Two instructions
// matter: WRPKRU (0F 01 EF), and XRSTOR (0F AE /5 with a memory operand), which loads PKRU from memory where
// bit 9 of EAX says so. Not XRSTORS (0F C7 /3): the kernel alone may execute it.
//
// Freestanding: strict_agent.cc compiles it without a C library. Thread-safe: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bailey::guard {

enum class Switch : std::uint8_t { none, wrpkru, xrstor };

// What is known about one that was found, by the bytes around it.
enum class Known : std::uint8_t {
  no,    // somebody's own, or a stray: bytes of other instructions
  gate,  // write_pkru() of pkru.h; its callers compare afterwards
  // Instructions of glibc that a process can do without, and that disarm() may take away:
  pkey_set,    // libc's pkey_set()
  lazy_bound,  // ld.so's _dl_runtime_resolve_xsave(c): only lazy binding comes there
};

struct Found {
  Switch what = Switch::none;
  Known known = Known::no;
  std::size_t at = 0;  // of its first byte
};

// The first that begins at `from` or later and ends within `bytes`; Switch::none where there is no more.
Found next_switch(const unsigned char* code, std::size_t bytes, std::size_t from);

// Overwrites the instruction by UD2: who comes there is killed by SIGILL.
void disarm(unsigned char* code, const Found& found);

}  // namespace bailey::guard
