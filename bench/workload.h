// YCSB's core workloads: the property file, and the requests that it describes.
//
// A record is one value of fieldcount x fieldlength bytes; an update writes the whole of it. A table has no
// order, so a scan is the next so many items of the client's cursor, wherever the key of YCSB's scan would
// be.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bailey/base/error.h"
#include "bench/generator.h"
#include "bench/random.h"
#include "bench/request.h"

namespace bailey::bench {

enum class Distribution : std::uint8_t { uniform, zipfian, latest };
std::string_view name(Distribution distribution);

// Defaults are YCSB's own, but for recordcount and operationcount, which it wants given.
struct Workload {
  std::uint64_t records = 1000;
  std::uint64_t operations = 1000;
  double read = 0.95;
  double update = 0.05;
  double insert = 0;
  double scan = 0;
  double read_modify_write = 0;
  Distribution distribution = Distribution::uniform;
  unsigned scan_items_max = 1000;
  unsigned fields = 10;
  unsigned field_bytes = 100;
  bool keys_hashed = true;
  std::vector<std::string> warnings;  // "FILE:LINE: ..." a property that means nothing here

  std::uint64_t value_bytes() const { return std::uint64_t{fields} * field_bytes; }
};

// Parses properties, `key=value` lines; `file` is for messages. An unknown key is a warning, since YCSB's
// files carry keys for its own databases. Errors: invalid_argument, with file and line.
Result<Workload> parse_workload(std::string_view text, std::string_view file);
Result<Workload> read_workload(const std::string& path);

// Which records were inserted while a run goes on; in memory that all clients share.
//
// Numbers are given out in order, but inserts end in any order: acknowledged() counts the records before the
// first gap, so that nobody asks for one that is not there. A client that dies with a number leaves the gap
// for good; later ones then are just not asked for.
//
// Thread and process safety: all calls, concurrently.
class InsertCounter {
 public:
  explicit InsertCounter(std::uint64_t records) : next_(records), acknowledged_(records) {}
  std::uint64_t take() { return next_.fetch_add(1, std::memory_order_relaxed); }
  void acknowledge(std::uint64_t number);
  std::uint64_t acknowledged() const { return acknowledged_.load(std::memory_order_acquire); }

 private:
  static constexpr std::uint64_t window = 1 << 20;
  std::atomic<std::uint64_t> next_;
  std::atomic<std::uint64_t> acknowledged_;
  std::atomic<std::uint64_t> done_[window] = {};  // number + 1 of the insert that ended last in this place
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "lives in memory that processes share");

// The requests of one client.
struct ClientShare {
  unsigned number = 0;   // of this client
  unsigned clients = 1;  // in all
  bool writes = true;    // else every request is a read
  std::uint64_t operations = 0;
};

class WorkloadSource : public RequestSource {
 public:
  // `counter` is shared by all clients and outlives this; values are cut from `values`, at least value_bytes
  // long, which outlives the blocks too.
  WorkloadSource(const Workload& workload, const ClientShare& share, std::uint64_t value_bytes,
                 std::string_view values, InsertCounter& counter, std::uint64_t seed);
  Status next(Block& block, std::size_t requests_max) override;

 private:
  Kind draw_kind();
  std::uint64_t draw_record();
  std::string_view draw_value();

  Workload workload_;
  ClientShare share_;
  std::uint64_t value_bytes_;
  std::string_view values_;
  InsertCounter& counter_;
  Random random_;
  std::optional<ScrambledZipfian> zipfian_;
  std::optional<Latest> latest_;
};

}  // namespace bailey::bench
