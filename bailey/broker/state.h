// The broker's memory across its own death: SQLite, written before anything that was decided takes effect.
//
// Not thread-safe, and not for a forked child of the opener.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bailey/base/error.h"
#include "bailey/broker/model.h"

struct sqlite3;
struct sqlite3_stmt;

namespace bailey::broker {

inline constexpr int state_version = 3;

class State {
 public:
  // Opens or makes it. `durable`: commits survive a loss of power, not only the death of the process. Errors:
  // incompatible (another version or layout made it; both are named), corrupt, io.
  static Result<State> open(const std::string& path, bool durable);
  State(State&& other) noexcept;
  State& operator=(State&&) = delete;
  ~State();

  // All writes of `work` or none. Nothing of memory may be changed before it returned success.
  template <class Work>
  Status commit(Work&& work) {
    BAILEY_TRY(run("BEGIN IMMEDIATE"));
    Status done = work();
    if (done) done = run("COMMIT");
    if (!done) static_cast<void>(run("ROLLBACK"));
    return done;
  }

  // Empty where it is not there.
  Result<std::string> meta(std::string_view name);
  Status set_meta(std::string_view name, std::string_view value);

  Status save(const Region& region);
  Status save(const Segment& segment);
  Status save(const Session& session);
  Status save(const Open& open);
  Status save(const Minted& token);
  // Keys of a region's writers; the first one that is stored stays.
  Status save_writer_key(std::uint32_t region, std::uint32_t writer, const protocol::PublicKey& key);
  // That of `writer` is that of `heir` too, if there is one.
  Status inherit_writer_key(std::uint32_t region, std::uint32_t writer, std::uint32_t heir);
  // From `writer` on, `most` of them.
  Result<std::vector<protocol::WriterKey>> writer_keys(std::uint32_t region, std::uint32_t writer,
                                                       std::size_t most);
  // With the keys of its writers.
  Status erase_region(std::uint32_t number);
  Status erase_segment(SegmentId id);
  Status erase_session(std::uint64_t number);
  Status erase_open(std::uint32_t grant);
  Status erase_token(const Id& id);

  Result<std::vector<Region>> regions();
  Result<std::vector<Segment>> segments();
  Result<std::vector<Session>> sessions();
  Result<std::vector<Open>> opens();
  Result<std::vector<Minted>> tokens();

 private:
  explicit State(sqlite3* db) : db_(db) {}
  class Row;
  class Statement;
  Status run(const char* sql);
  Result<sqlite3_stmt*> prepare(const char* sql);
  std::unexpected<Error> failed(std::string_view what) const;

  sqlite3* db_;
  std::vector<std::pair<const char*, sqlite3_stmt*>> prepared_;
};

}  // namespace bailey::broker
