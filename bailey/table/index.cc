#include "bailey/table/index.h"

#include <algorithm>
#include <cstring>

#include "bailey/abi/control.h"

namespace bailey::table {

Geometry Geometry::plan(Mode mode, std::uint64_t records, std::uint64_t hash_seed) {
  Geometry geometry;
  geometry.mode = mode;
  geometry.hash_seed = hash_seed;
  // At 3.5 records a bucket 2.7 % of the buckets overflow; an overflow area of an eighth leaves room for
  // twice the expected records before the index is full.
  geometry.buckets = std::max<std::uint64_t>(records * 2 / 7, 64);
  geometry.overflow_buckets = std::clamp<std::uint64_t>(geometry.buckets / 8, 64, 0xffff'fff0);
  return geometry;
}

std::uint64_t Geometry::index_bytes() const {
  return round_up(BAILEY_INDEX_BUCKETS_OFFSET + (buckets + overflow_buckets) * sizeof(bailey_bucket) +
                      overflow_buckets * sizeof(std::uint32_t),
                  4096);
}

bool Geometry::fits(std::uint64_t bytes) const {
  constexpr std::uint64_t most = std::uint64_t{1} << 31;
  return buckets > 0 && buckets < most && overflow_buckets < most && index_bytes() <= bytes;
}

void Table::format(MutableBytes index, const Geometry& geometry) {
  BAILEY_ASSERT(geometry.fits(index.size()));
  bailey_index_header header{};
  header.magic = BAILEY_INDEX_MAGIC;
  header.version = BAILEY_INDEX_VERSION;
  header.layout = BAILEY_LAYOUT;
  header.hash_seed = geometry.hash_seed;
  header.buckets = geometry.buckets;
  header.overflow_buckets = geometry.overflow_buckets;
  header.mode = static_cast<std::uint8_t>(geometry.mode);
  std::memcpy(index.data(), &header, sizeof header);
}

// Claims are made in a fixed probe order from the chain's home and never given back, so a bucket that was
// claimed for this chain and not linked (its claimer died) comes before every free one and is linked first.
// It can't be linked twice: the walk to the end of the chain did not meet it, links are set once, and only at
// the end.
Result<bailey_bucket*> Index::extend(std::uint64_t primary_number, pool::View& view) const {
  std::uint64_t overflow = geometry_->overflow_buckets;
  std::uint64_t home = primary_number * 0x9e37'79b9'7f4a'7c15u % std::max<std::uint64_t>(overflow, 1);
  Word chain[chain_buckets_max];
  unsigned length = 0;
  bailey_bucket* last = primary(primary_number);
  auto walk_to_end = [&] {
    while (Word link = medium::load_acquire(&last->link)) {
      bailey_bucket* next = follow(link);
      if (next == nullptr || length == chain_buckets_max - 1) return false;
      chain[length++] = link - 1;
      last = next;
    }
    return true;
  };
  if (!walk_to_end())
    return fail(Code::corrupt, By::peer, "corrupt index: a chain is a circle or leads out of the index");
  auto mine = static_cast<std::uint32_t>(primary_number + 1);
  for (std::uint64_t probe = 0; probe < overflow && length < chain_buckets_max - 1; ++probe) {
    std::uint64_t number = (home + probe) % overflow;
    std::uint32_t* claim = claims() + number;
    std::uint32_t holder = __atomic_load_n(claim, __ATOMIC_ACQUIRE);
    if (holder == 0 &&
        __atomic_compare_exchange_n(claim, &holder, mine, false, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE))
      holder = mine;
    if (holder != mine || std::find(chain, chain + length, number) != chain + length) continue;
    view.step(pool::Step::bucket_claimed);
    if (medium::cas(&last->link, 0, number + 1)) return follow(number + 1);
    // Somebody linked a bucket first: that one will do.
    bailey_bucket* next = follow(medium::load_acquire(&last->link));
    if (next == nullptr) return fail(Code::corrupt, By::peer, "corrupt index: a link leads out of the index");
    return next;
  }
  return fail(Code::index_full, By::library,
              "the table's index has no slot left for this key; it was fixed at creation",
              "create the region with a larger `records`");
}

}  // namespace bailey::table
