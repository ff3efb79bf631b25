// What a program's file says about how it begins.
//
// Thread-safe: pure functions. The bytes may be anybody's: all is checked against the file's size.
#pragma once

#include <span>
#include <string>

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"

namespace bailey::guard {

struct ProgramFile {
  std::string interpreter;     // the dynamic linker that the kernel begins it with; empty: none
  bool needs_library = false;  // it names a shared library
};

// Error unsupported, with what it is, for what is no 64-bit x86 ELF program; corrupt where it contradicts
// itself.
Result<ProgramFile> read_program_file(std::span<const std::byte> file);

}  // namespace bailey::guard
