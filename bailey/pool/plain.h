// PlainPool: a region in one plain buffer that every party may write; no broker, no protection.
//
// For tests, for benchmarks of structures alone, and as the rung `none`, the baseline that protection is
// measured against. The buffer may be private memory (threads) or a shared mapping that forked processes
// inherit.
//
// Thread and process safety: views may be made and used concurrently by threads and by processes that share
// the buffer at the same or different addresses.
#pragma once

#include <cstdint>
#include <memory>

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"
#include "bailey/pool/view.h"

namespace bailey::pool {

struct PlainOptions {
  std::uint64_t index_bytes = 0;
  std::uint64_t segment_bytes = 1 << 20;  // a multiple of BAILEY_PAGE_BYTES
  bool shared_index = true;               // whether every writing view may write the index
};

class PlainPool {
 public:
  // Bytes of a buffer that has room for `segments` segments.
  static std::uint64_t bytes_for(const PlainOptions& options, unsigned segments);
  // Formats a zeroed buffer, which must outlive the pool and all views and be aligned to a page of 4 KiB.
  // Error: invalid_argument where nothing fits.
  static Result<PlainPool> format(MutableBytes buffer, const PlainOptions& options);

  // A pool that was formatted before. The buffer is trusted to be one: a plain pool protects nothing.
  static PlainPool attach(MutableBytes buffer) { return PlainPool(buffer.data()); }

  // A new view: reading, or with an own writer id and desk.
  Result<std::unique_ptr<View>> view(bool writable);

  // What the broker does when a process dies: its segments freeze and its desk no longer counts.
  void writer_died(std::uint32_t writer);
  // What the broker does when somebody loses the right to read: each writer freezes what it has when it
  // attends.
  void leave();
  // What the broker does when a grant ends: every view's current() turns false and attend() says revoked.
  void revoke();

  MutableBytes index() const;
  unsigned segments_in_use() const;
  unsigned segments_max() const;

 private:
  explicit PlainPool(std::byte* base) : base_(base) {}
  std::byte* base_;
};

}  // namespace bailey::pool
