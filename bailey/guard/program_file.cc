#include "bailey/guard/program_file.h"

#include <elf.h>

#include <cstring>

namespace bailey::guard {
namespace {

std::unexpected<Error> not_for_us(const char* what, const char* to_do) {
  return fail(Code::unsupported, By::library, what, to_do);
}
std::unexpected<Error> out_of_bounds(const char* what) {
  return fail(Code::corrupt, By::library, std::string(what) + " leads out of the file");
}

// A copy of what stands at `offset`.
template <class T>
bool fetch(std::span<const std::byte> file, std::uint64_t offset, T& into) {
  if (offset > file.size() || file.size() - offset < sizeof into) return false;
  std::memcpy(&into, file.data() + offset, sizeof into);
  return true;
}

}  // namespace

Result<ProgramFile> read_program_file(std::span<const std::byte> file) {
  char begins[2];
  if (fetch(file, 0, begins) && begins[0] == '#' && begins[1] == '!')
    return not_for_us("it is a script", "name its interpreter: ... -- INTERPRETER SCRIPT ARG...");
  Elf64_Ehdr header;
  if (!fetch(file, 0, header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64 ||
      header.e_phentsize != sizeof(Elf64_Phdr))
    return not_for_us("it is no 64-bit x86 program", "name one");
  ProgramFile program;
  for (std::uint64_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr part;
    if (header.e_phoff > file.size() || !fetch(file, header.e_phoff + i * sizeof part, part))
      return out_of_bounds("its list of parts");
    if (part.p_type != PT_INTERP && part.p_type != PT_DYNAMIC) continue;
    if (part.p_offset > file.size() || part.p_filesz > file.size() - part.p_offset)
      return out_of_bounds("a part");
    const auto bytes = file.subspan(part.p_offset, part.p_filesz);
    if (part.p_type == PT_INTERP) {
      const auto* text = reinterpret_cast<const char*>(bytes.data());
      program.interpreter.assign(text, ::strnlen(text, bytes.size()));
      continue;
    }
    Elf64_Dyn entry;
    for (std::uint64_t at = 0; fetch(bytes, at, entry) && entry.d_tag != DT_NULL; at += sizeof entry)
      program.needs_library |= entry.d_tag == DT_NEEDED;
  }
  return program;
}

}  // namespace bailey::guard
