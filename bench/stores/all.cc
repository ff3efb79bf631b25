#include "bench/store.h"

namespace bailey::bench {

std::string_view name(Operation operation) {
  switch (operation) {
    case Operation::get:
      return "get";
    case Operation::multi_get:
      return "multi-get";
    case Operation::insert:
      return "insert";
    case Operation::update:
      return "update";
    case Operation::set:
      return "set";
    case Operation::multi_set:
      return "multi-set";
  }
  return "?";
}

std::vector<System> all_systems([[maybe_unused]] std::vector<std::string>& missing) {
  std::vector<System> systems;
  add_bailey(systems);
  add_brokered(systems);
  add_windows(systems);
  add_probe(systems);
  add_locked(systems);
  add_map(systems);
#ifdef BAILEY_BENCH_LMDB
  add_lmdb(systems);
#else
  missing.emplace_back("lmdb: skipped, liblmdb was not there when this was built");
#endif
#ifdef BAILEY_BENCH_REDIS
  add_redis(systems);
#else
  missing.emplace_back("redis: skipped, hiredis was not there when this was built");
#endif
#ifdef BAILEY_BENCH_MEMCACHED
  add_memcached(systems);
#else
  missing.emplace_back("memcached: skipped, libmemcached was not there when this was built");
#endif
  return systems;
}

}  // namespace bailey::bench
