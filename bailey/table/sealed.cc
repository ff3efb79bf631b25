#include "bailey/table/sealed.h"

namespace bailey::table {

Seen open_copy(pool::View& view, SealedCopy& copy, Error& failure) {
  pool::Sealer& sealer = *view.sealer();
  switch (copy.open(sealer, failure)) {
    case pool::Sealer::Opened::yes:
      if (!sealer.rolled_back(copy.bound.hash, copy.bound.version)) return Seen::match;
      failure = sealer.corrupt("a record was put back that its writer had replaced");
      return Seen::failed;
    case pool::Sealer::Opened::unheard:
      // The broker moves the grant word before it gives anybody the new key.
      if (!view.current()) return Seen::unheard;
      [[fallthrough]];
    case pool::Sealer::Opened::forged:
      failure = sealer.corrupt("a record is not what any holder of the region's key wrote");
      return Seen::failed;
    case pool::Sealer::Opened::failed:
      break;
  }
  return Seen::failed;
}

}  // namespace bailey::table
