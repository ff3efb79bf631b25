// PKRU: the register of a thread's rights to protection keys, two bits a key.
//
// `bailey exec --strict` knows write_pkru() by the mark behind its instruction (scan.cc) and lets no other
// WRPKRU into a process. Who calls it compares afterwards what the register holds with what was meant
// (gate.cc).
//
// Thread-safe: a register of the calling thread. Both need a CPU and a kernel with protection keys.
#pragma once

#include <cstdint>

namespace bailey::guard {

inline std::uint32_t read_pkru() {
  std::uint32_t low, high;
  asm volatile("rdpkru" : "=a"(low), "=d"(high) : "c"(0) : "memory");
  return low;
}

inline void write_pkru(std::uint32_t value) {
  // The mark is an instruction that does nothing: nopl 0x45544147(%rax,%rax,1).
  asm volatile("wrpkru\n\t.byte 0x0f, 0x1f, 0x84, 0x00, 'G', 'A', 'T', 'E'"
               :
               : "a"(value), "c"(0), "d"(0)
               : "memory");
}

}  // namespace bailey::guard
