#include "bailey/pool/view.h"

#include <time.h>

#include "bailey/guard/gate.h"
#include "bailey/pool/sealer.h"

namespace bailey::pool {
namespace {
constexpr std::uint64_t always_alive = 1;
}

Extent Extent::shape(std::uint64_t bytes) {
  Extent extent;
  std::uint64_t pages = bytes / BAILEY_PAGE_BYTES;
  // Page words take room from pages; few rounds settle it, since 8192 words fit into one page.
  for (int round = 0; round < 4; ++round) {
    std::uint64_t data_offset =
        round_up(BAILEY_SEGMENT_PAGE_WORDS_OFFSET + pages * sizeof(std::uint64_t), BAILEY_PAGE_BYTES);
    if (data_offset >= bytes) return extent;
    pages = (bytes - data_offset) / BAILEY_PAGE_BYTES;
    extent.data_offset = static_cast<std::uint32_t>(data_offset);
  }
  if (pages > 0xffff'ffffu / (BAILEY_PAGE_BYTES / BAILEY_BLOCK_UNIT))
    return Extent{};  // beyond a slot's offset
  extent.pages = static_cast<std::uint32_t>(pages);
  return extent;
}

View::View(ViewParts parts, std::unique_ptr<Backing> backing)
    : parts_(parts),
      closed_(parts.pin != nullptr),
      backing_(std::move(backing)),
      extents_(static_cast<Extent*>(std::calloc(65536, sizeof(Extent)))),
      absent_(static_cast<std::uint64_t*>(std::calloc(65536, sizeof(std::uint64_t)))) {
  BAILEY_ASSERT(extents_ != nullptr && absent_ != nullptr);
  if (parts_.alive_word == nullptr) parts_.alive_word = &always_alive;
}

View::~View() {
  while (!mapped_.empty()) forget(mapped_.back());
}

void View::set_sealer(std::unique_ptr<Sealer> sealer) { sealer_ = std::move(sealer); }

// A call that may wait, or leads out of this library's care for gates.
template <class Call>
auto View::outside(Call&& call) {
  if (parts_.pin == nullptr) return call();
  guard::Closed closed;
  return call();
}

void View::remember(SegmentId id, const Extent& extent) {
  if (extents_[id].base == nullptr) mapped_.push_back(id);
  extents_[id] = extent;
}

void View::forget(SegmentId id) {
  if (extents_[id].base == nullptr) return;
  outside([&] { backing_->unmap(id, extents_[id]); });
  extents_[id] = Extent{};
  std::erase(mapped_, id);
}

Result<const Extent*> View::find(SegmentId id) {
  if (extents_[id].base != nullptr) return &extents_[id];
  std::uint64_t membership = backing_->membership() + 1;
  if (absent_[id] == membership) return fail(Code::not_found);
  auto extent = outside([&] { return backing_->map(id); });
  if (!extent) {
    if (extent.error().code == Code::not_found) absent_[id] = membership;
    return std::unexpected(std::move(extent).error());
  }
  remember(id, *extent);
  return &extents_[id];
}

Result<OwnSegment> View::create(std::uint64_t record_bytes) {
  if (!parts_.writable) return fail(Code::denied);
  OwnSegment own = BAILEY_TRY(outside([&] { return backing_->create(record_bytes); }));
  remember(own.id, own.extent);
  return own;
}

Status View::retire(SegmentId id) {
  BAILEY_TRY(outside([&] { return backing_->retire(id); }));
  forget(id);
  return {};
}

Status View::attend() {
  auto attention = BAILEY_TRY(outside([&] { return backing_->attend(); }));
  parts_.expected_grant = attention.expected_grant;
  if (attention.index != nullptr) {
    parts_.index = attention.index;
    if (sealer_) sealer_->forget_versions();
  }
  for (SegmentId id : attention.gone) forget(id);
  if (owner_ != nullptr) owner_->attended(attention.left, attention.late);
  return {};
}

Status View::renew_writer_id() {
  parts_.writer = BAILEY_TRY(outside([&] { return backing_->fresh_writer_id(); }));
  return {};
}

Result<std::vector<Desk>> View::desks() {
  return outside([&] { return backing_->desks(); });
}
Result<std::vector<SegmentId>> View::frozen() {
  return outside([&] { return backing_->frozen(); });
}
Result<bool> View::learn_writer(std::uint32_t writer) {
  const std::uint64_t membership = backing_->membership();
  return outside([&] { return sealer_->signatures()->learn(writer, membership); });
}
Status View::prepare_to_sign() {
  return outside([&] { return sealer_->signatures()->prepare(); });
}
void View::rest(const timespec& time) {
  outside([&] { ::nanosleep(&time, nullptr); });
}

}  // namespace bailey::pool
