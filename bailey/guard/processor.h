// Whether there are protection keys at all.
//
// Thread-safe.
#pragma once

#include "bailey/base/error.h"

namespace bailey::guard {

// Takes no key. Error unsupported, by the kernel: the processor has none, or the kernel does not use them.
Status processor_has_keys();

}  // namespace bailey::guard
