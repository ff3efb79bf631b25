// `bailey demo`: one broker, three principals in three processes, one table.
#pragma once

#include "bailey/base/error.h"

namespace bailey::demo {

struct Options {
  bool quick = false;    // fewer records and shorter stretches; otherwise the same
  bool one_uid = false;  // all under the caller's uid, also where they could have uids of their own
};

// Prints to standard output; the status to exit with. Starts processes and waits for them.
int run(const Options& options);

}  // namespace bailey::demo
