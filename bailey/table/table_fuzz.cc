// A hostile region: the input says which bytes of a well-formed region change, and then all of the reading
// side runs over it. Nothing may crash, hang or read outside the region; the region ends where the mapping
// ends.
//
// With BAILEY_FUZZ_SEALED the table is encrypted: what is read must then be what was written. With
// BAILEY_FUZZ_SIGNED it is signed, too, and edits of a third kind change the proofs behind its records.
//
// With BAILEY_FUZZ_CANARY a bounds check of a copy of the reader is left out, and the fuzzer must find that.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "bailey/pool/plain.h"
#include "bailey/pool/test_sealer.h"
#include "bailey/table/record.h"
#include "bailey/table/sealed.h"
#include "bailey/table/table.h"

namespace {

using namespace bailey;

#ifdef BAILEY_FUZZ_SIGNED
constexpr int keys = 8;  // to verify one takes a while
#else
constexpr int keys = 24;
#endif
// Three size classes and a run of pages.
constexpr std::size_t sizes[] = {10, 300, 2000, 40'000};

std::unique_ptr<pool::View> view_of(pool::PlainPool& plain, bool writable) {
  auto view = std::move(*plain.view(writable));
#ifdef BAILEY_FUZZ_SEALED
#ifdef BAILEY_FUZZ_SIGNED
  view->set_sealer(pool::TestKeys{.signs = true}.sealer(view->writer()));
#else
  view->set_sealer(pool::TestKeys().sealer());
#endif
#endif
  return view;
}

// Of what was read of key `i` before anybody put another.
void check([[maybe_unused]] int i, [[maybe_unused]] std::string_view value) {
#ifdef BAILEY_FUZZ_SEALED
  if (value.size() != sizes[i % 4] || value.find_first_not_of('v') != std::string_view::npos) std::abort();
#endif
}

struct World {
  table::Geometry geometry = table::Geometry::plan(table::Mode::shared, 100, 5);
  pool::PlainOptions options;
  std::unique_ptr<std::byte[]> fresh, memory;  // heap blocks: the address sanitizer knows where they end
  std::size_t bytes = 0;
  std::size_t index_offset = 0, segment_offset = 0;
  std::size_t proofs[keys] = {};  // where the proofs of a signed table are

  World() {
    options.index_bytes = geometry.index_bytes();
    options.segment_bytes = 6 * BAILEY_PAGE_BYTES;
    bytes = pool::PlainPool::bytes_for(options, 2);
    fresh.reset(new (std::align_val_t{4096}) std::byte[bytes]());
    memory.reset(new (std::align_val_t{4096}) std::byte[bytes]());
    auto plain = pool::PlainPool::format({fresh.get(), bytes}, options);
    table::Table::format(plain->index(), geometry);
    auto writer = table::Table::open(view_of(*plain, true), geometry);
    for (int i = 0; i < keys; ++i)
      if (!writer->put("key" + std::to_string(i), std::string(sizes[i % 4], 'v'))) std::abort();
    index_offset = static_cast<std::size_t>(plain->index().data() - fresh.get());
    segment_offset = bytes - 2 * options.segment_bytes;
#ifdef BAILEY_FUZZ_SIGNED
    const auto sealer = pool::TestKeys().sealer();
    for (int i = 0; i < keys; ++i) {
      const auto hash = sealer->hash("key" + std::to_string(i));
      const std::size_t sealed = table::sealed_record_bytes(3 + std::to_string(i).size(), sizes[i % 4]);
      for (std::size_t at = segment_offset; at + sealed + table::proof_bytes(0) < bytes; at += 16)
        if (table::has_hash(fresh.get() + at, hash)) proofs[i] = at + sealed;
      if (proofs[i] == 0) std::abort();
    }
#endif
  }
};

#ifdef BAILEY_FUZZ_CANARY
// What a reader would do that believes the lengths it finds.
void careless(World& world) {
#ifdef BAILEY_FUZZ_SIGNED
  for (const std::size_t proof : world.proofs)
    if (*reinterpret_cast<std::uint64_t*>(world.memory.get() + proof) % 256 > crypto::path_max) std::abort();
#else
  for (std::size_t at = 0; at < BAILEY_PAGE_BYTES; at += 16) {
    auto* words =
        reinterpret_cast<std::uint64_t*>(world.memory.get() + world.segment_offset + BAILEY_PAGE_BYTES + at);
    std::uint64_t length = words[1] >> 32;
    if (length > 0x8000'0000) std::abort();
  }
#endif
}
#endif

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static World& world = *new World;  // never freed: aligned new wants an aligned delete
  std::memcpy(world.memory.get(), world.fresh.get(), world.bytes);
  // Edits of 12 bytes: where (in the index, or in the first segment: header, desk, page words, records), and
  // what.
  for (; size >= 12; data += 12, size -= 12) {
    std::uint32_t where;
    std::uint64_t what;
    std::memcpy(&where, data, 4);
    std::memcpy(&what, data + 4, 8);
    std::size_t base = where >> 31 != 0 ? world.segment_offset : world.index_offset;
    std::size_t span = where >> 31 != 0 ? world.options.segment_bytes : world.options.index_bytes;
    std::size_t at = base + (where & 0x7fff'ffff) % (span / 8) * 8;
#ifdef BAILEY_FUZZ_SIGNED
    if ((where >> 30 & 1) != 0) at = world.proofs[where % keys] + (where >> 8) % 25 * 8;
    if (at + 8 > world.bytes) continue;
#endif
    std::memcpy(world.memory.get() + at, &what, 8);
  }
#ifdef BAILEY_FUZZ_CANARY
  careless(world);
#endif
  auto plain = pool::PlainPool::attach({world.memory.get(), world.bytes});
  auto reader = table::Table::open(view_of(plain, false), world.geometry);
  std::string value;
  for (int i = 0; i < keys; ++i)
    if (reader->get("key" + std::to_string(i), value)) check(i, value);
  std::byte out[512];
  table::Get gets[keys];
  std::string names[keys];
  for (int i = 0; i < keys; ++i) {
    names[i] = "key" + std::to_string(i);
    gets[i].key = names[i];
    gets[i].out = out;
  }
  (void)reader->get_many(gets);
  table::Cursor cursor;
  while (!cursor.done) {
    std::vector<table::Item> items;
    const bool scanned = reader->scan(cursor, 16, items).has_value();
    for (const table::Item& item : items)
      if (item.key.starts_with("key")) check(std::atoi(item.key.c_str() + 3), item.value);
    if (!scanned) break;
  }
  // The writing side reads, too: another writer's records, desk and hints.
  auto writer = table::Table::open(view_of(plain, true), world.geometry);
  for (int i = 0; i < keys; i += 3) (void)writer->put(names[i], "new");
  (void)writer->erase(names[1]);
  (void)writer->maintain();
  return 0;
}
