// BrokerBacking: what a view of an open region asks the broker for, over the session's connection.
//
// Owns every mapping of the region: the index, others' segments (read-only) and this view's own (read-write,
// not inherited by a forked child). In a forked child it unmaps nothing: what is there now at those addresses
// is the child's.
//
// Where the rung `pkey` is in force all these mappings carry the region's key, and a process that can't do
// that does not open the region.
//
// Thread safety: one thread at a time, that of the session.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "bailey/guard/keys.h"
#include "bailey/pool/view.h"
#include "bailey/session/core.h"
#include "bailey/session/session.h"

namespace bailey::session {

class BrokerBacking : public pool::Backing {
 public:
  // Opens a region and all that belongs to it. Where a step fails the broker is told that the region is
  // closed.
  static Result<Region> open(const std::shared_ptr<Core>& core, std::string_view name, Access access,
                             const capability::Token* token);

  BrokerBacking(const std::shared_ptr<Core>& core, std::uint32_t grant);
  ~BrokerBacking() override;

  Result<pool::Extent> map(pool::SegmentId id) override;
  void unmap(pool::SegmentId id, const pool::Extent& extent) override;
  Result<pool::OwnSegment> create(std::uint64_t record_bytes) override;
  Status retire(pool::SegmentId id) override;
  Result<std::vector<pool::Desk>> desks() override;
  Result<std::vector<pool::SegmentId>> frozen() override;
  std::uint64_t membership() const override;
  Result<Attention> attend() override;
  Result<std::uint32_t> fresh_writer_id() override;

 private:
  // A segment of this view's own that the broker has not confirmed to be sealed.
  struct Unconfirmed {
    protocol::SegmentRow row;
    Fd fd;
    Mapping mapping;
  };

  Status check(const protocol::Opened& opened, const table::Geometry& geometry, Access access) const;
  Status guard(const protocol::Opened& opened);
  Status map_index(const protocol::Opened& opened, const std::vector<Fd>& fds, std::uint64_t& grant_value);
  Result<std::uint64_t> take_index(const protocol::Attention& told, const Fd& file);
  Status fetch(std::vector<pool::SegmentId> segments);
  Result<pool::OwnSegment> confirm();
  void say_dropped();
  // Asks in the name of this grant, as long as it is this backing's.
  template <class Answer>
  Result<Answered<Answer>> ask(protocol::Body body);
  class WriterKeys;
  Result<const protocol::Members*> members();
  bool others_write_index() const { return mode_ == table::Mode::shared; }

  std::shared_ptr<Core> core_;
  std::uint32_t grant_;
  std::uint64_t ticket_;
  std::string region_;
  const std::uint64_t* membership_word_ = nullptr;
  table::Mode mode_ = table::Mode::exclusive;
  bool writable_ = false;
  std::shared_ptr<guard::Key> key_;  // null: the region's pages are not guarded
  std::unique_ptr<guard::Pin> pin_;  // of that key
  Mapping index_;
  std::uint64_t index_bytes_ = 0;
  std::uint64_t heard_ = 0;  // the grant value of the last answer that had one
  std::unordered_map<pool::SegmentId, Mapping>
      mapped_;  // others' segments, also those that no view asked for yet
  std::unordered_map<pool::SegmentId, Mapping> own_;  // created here and not given back
  std::optional<Unconfirmed> unconfirmed_;
  std::vector<pool::SegmentId> undropped_;  // unmapped, and the broker does not know
  std::optional<protocol::Members> members_;
  pool::Sealer* sealer_ = nullptr;         // the view's, of an encrypted region
  std::optional<crypto::SecretKey> pair_;  // made, and the broker has perhaps not heard of it
  bool fetched_all_ = false;
};

}  // namespace bailey::session
