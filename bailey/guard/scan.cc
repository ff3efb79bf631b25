#include "bailey/guard/scan.h"

namespace bailey::guard {
namespace {

constexpr std::size_t switch_bytes = 3;

// Volatile, so that no compiler makes one constant of them: this code is scanned too.
bool same(const unsigned char* code, const volatile unsigned char* wanted, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i)
    if (code[i] != wanted[i]) return false;
  return true;
}

// The mark of write_pkru().
const volatile unsigned char after_gate[]{0x0f, 0x1f, 0x84, 0x00, 'G', 'A', 'T', 'E'};
// glibc's pkey_set() ends: or eax,esi; wrpkru; xor eax,eax; ret.
const volatile unsigned char before_pkey_set[]{0x09, 0xf0};
const volatile unsigned char after_pkey_set[]{0x31, 0xc0, 0xc3};
// glibc's _dl_runtime_resolve_xsave(c): mov eax,STATE_SAVE_MASK; xor edx,edx; xrstor [rsp+0x40].
const volatile unsigned char before_lazy_bound[]{0xb8, 0xee, 0x00, 0x00, 0x00, 0x31, 0xd2};
const volatile unsigned char after_lazy_bound[]{0x24, 0x40};

template <std::size_t n>
bool precedes(const volatile unsigned char (&wanted)[n], const unsigned char* code, std::size_t at) {
  return at >= n && same(code + at - n, wanted, n);
}
template <std::size_t n>
bool follows(const volatile unsigned char (&wanted)[n], const unsigned char* code, std::size_t bytes,
             std::size_t at) {
  return bytes - at - switch_bytes >= n && same(code + at + switch_bytes, wanted, n);
}

Switch switch_at(const unsigned char* code) {
  if (code[0] != 0x0f) return Switch::none;
  if (code[1] == 0x01 && code[2] == 0xef) return Switch::wrpkru;
  const unsigned modrm = code[2];
  if (code[1] == 0xae && (modrm >> 3 & 7) == 5 && modrm >> 6 != 3) return Switch::xrstor;
  return Switch::none;
}

Known known(Switch what, const unsigned char* code, std::size_t bytes, std::size_t at) {
  if (what == Switch::wrpkru) {
    if (follows(after_gate, code, bytes, at)) return Known::gate;
    if (precedes(before_pkey_set, code, at) && follows(after_pkey_set, code, bytes, at))
      return Known::pkey_set;
  } else if (code[at + 2] == 0x6c && precedes(before_lazy_bound, code, at) &&
             follows(after_lazy_bound, code, bytes, at)) {
    return Known::lazy_bound;
  }
  return Known::no;
}

}  // namespace

Found next_switch(const unsigned char* code, std::size_t bytes, std::size_t from) {
  for (std::size_t at = from; bytes >= switch_bytes && at <= bytes - switch_bytes; ++at)
    if (const Switch what = switch_at(code + at); what != Switch::none)
      return {what, known(what, code, bytes, at), at};
  return {};
}

void disarm(unsigned char* code, const Found& found) {
  code[found.at] = 0x0f;
  code[found.at + 1] = 0x0b;
}

}  // namespace bailey::guard
