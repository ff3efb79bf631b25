#include "bailey/guard/processor.h"

#include <cpuid.h>

namespace bailey::guard {

Status processor_has_keys() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned pku = 1u << 3, ospke = 1u << 4;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (ecx & pku) == 0)
    return fail(Code::unsupported, By::kernel, "this CPU has no protection keys (PKU)",
                "use a CPU that has them, or leave \"pkey\" out");
  if ((ecx & ospke) == 0)
    return fail(Code::unsupported, By::kernel,
                "the kernel does not use the protection keys that this CPU has (OSPKE)",
                "boot it without nopku");
  return {};
}

}  // namespace bailey::guard
