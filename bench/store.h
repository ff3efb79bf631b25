// What the benchmarks drive: one interface for Bailey and for everything that it is compared with.
//
// The interface is a virtual call, the same for every side, and passes the caller's memory through: no side
// pays for a conversion that another is spared.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"
#include "bailey/table/table.h"

namespace bailey::bench {

// One key of a get_many: `key` and `out` are the caller's, `ok` and `found.bytes` are filled in.
using Lookup = table::Get;
// One write of an apply: `ok` is filled in.
using Write = table::Write;

// One thread's way into a store.
//
// Failures are counted by the caller and never expected in a measured run, so they are cheap to tell and
// carry their reason only in error().
class Client {
 public:
  virtual ~Client() = default;

  // The value's bytes, copied to `out`, which is large enough; -1 where there is no such key or the store
  // failed.
  virtual std::ptrdiff_t get(std::string_view key, MutableBytes out) = 0;
  // False where the store failed. A missing key is just not ok.
  virtual bool get_many(std::span<Lookup> lookups) = 0;
  virtual bool put(std::string_view key, std::string_view value) = 0;
  virtual bool insert(std::string_view key, std::string_view value) = 0;  // false where the key is there
  virtual bool update(std::string_view key, std::string_view value) = 0;  // false where it is not
  virtual bool erase(std::string_view key) = 0;
  // Puts all of them; false where one failed.
  virtual bool put_many(std::span<Write> writes) = 0;
  // Visits the next items of this client's own cursor, copying each; how many, or -1 where there are no
  // scans.
  virtual std::ptrdiff_t scan(std::size_t) { return -1; }
  // Before a pause: lets go of whatever others would wait for (a read transaction, a lock).
  virtual void rest() {}

  // Why the last call failed, for people; empty where the key was just not there, or there already.
  const std::string& error() const { return error_; }

 protected:
  bool failed(std::string why) {
    error_ = std::move(why);
    return false;
  }
  std::string error_;
};

struct StoreOptions {
  std::uint64_t records = 0;      // how many it will hold at most
  std::uint64_t value_bytes = 0;  // of each, at most
  std::uint64_t key_bytes = 24;
  std::string scratch;  // a private folder in memory (tmpfs where there is one)
};

// An empty store. Made in the parent; clients are made by the processes (or threads) that use them.
class Store {
 public:
  virtual ~Store() = default;
  // `writes`: whether it will write. At most one writing client lives at a time, where single_writer().
  virtual Result<std::unique_ptr<Client>> client(bool writes) = 0;
  // Whether forked processes share it; else only threads of one process.
  virtual bool across_processes() const { return true; }
  virtual bool single_writer() const { return false; }
};

// Operations that a comparison may ask of a system.
enum class Operation : std::uint8_t { get, multi_get, insert, update, set, multi_set };
std::string_view name(Operation operation);

// One line of the comparison: a store, and how it is driven.
struct System {
  std::string name;
  std::string summary;
  // Systems of one store differ only in how they drive it, and share it.
  std::string store;
  std::vector<Operation> operations;
  // How many requests go in one call, also for get and set: 1 is one at a time. Multi-operations use 16 where
  // this is 1.
  unsigned pipeline = 1;
  // Error: unsupported where this machine lacks what it needs; the comparison says so and goes on.
  std::function<Result<std::unique_ptr<Store>>(const StoreOptions&)> make;
};

// Bailey's table over a plain pool, without a broker; unprotected, or with its records sealed under a key
// that is drawn for it. Errors: no_space where it would take more than `bytes_max` (0: no limit); unsupported
// where this machine has not the cipher.
Result<std::unique_ptr<Store>> make_plain_table(const StoreOptions& options, table::Mode mode,
                                                std::uint64_t bytes_max = 0, bool encrypted = false,
                                                bool is_signed = false);

// Bytes of a pool for these records of a table, overwritten without end.
std::uint64_t pool_bytes(const StoreOptions& options, std::uint64_t more_a_record = 0);

// By what a table of a broker is opened.
enum class Right : std::uint8_t {
  grant,
  token,
  token_each,  // which the session verifies again before each operation
};
// Bailey's table on the rung `process`, and `encrypted` on top of it if so wished, of a broker that is
// started for it. For a process without threads. Errors: those of starting a broker.
Result<std::unique_ptr<Store>> make_brokered_table(const StoreOptions& options, table::Mode mode, Right right,
                                                   bool encrypted = false);

// All systems of this build, Bailey first. `missing` says what was left out when building, and why.
std::vector<System> all_systems(std::vector<std::string>& missing);

// One function a file of bench/stores/.
void add_bailey(std::vector<System>& systems);
void add_brokered(std::vector<System>& systems);
void add_windows(std::vector<System>& systems);
void add_probe(std::vector<System>& systems);
void add_locked(std::vector<System>& systems);
void add_map(std::vector<System>& systems);
void add_lmdb(std::vector<System>& systems);
void add_redis(std::vector<System>& systems);
void add_memcached(std::vector<System>& systems);

}  // namespace bailey::bench
