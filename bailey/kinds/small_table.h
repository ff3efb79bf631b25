// A small table in a plain buffer, whose bytes tests change at will.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>

#include "bailey/base/fd.h"
#include "bailey/kinds/kinds.h"
#include "bailey/pool/plain.h"
#include "bailey/pool/test_sealer.h"
#include "bailey/table/sealed.h"

namespace bailey::kinds {

struct SmallTable {
  explicit SmallTable(table::Mode mode = table::Mode::exclusive, bool encrypted = false,
                      bool is_signed = false)
      : kind(*find("table")) {
    geometry = {mode, 42, 4, 4};
    pool::PlainOptions options{geometry.index_bytes(), 4 * BAILEY_PAGE_BYTES, mode == table::Mode::shared};
    memory = Mapping::anonymous(pool::PlainPool::bytes_for(options, 2)).value();
    plain = pool::PlainPool::format(memory.span(), options).value();
    kind.format(plain->index(), geometry);
    auto writing = plain->view(true).value();
    reader = plain->view(false).value();
    if (encrypted) {
      // The same on every machine.
      const pool::TestKeys keys{.cipher = crypto::Cipher::xchacha20_poly1305, .signs = is_signed};
      writing->set_sealer(keys.sealer(writing->writer()));
      reader->set_sealer(keys.sealer());
    }
    writer = table::Table::open(std::move(writing), geometry).value();
  }

  bailey_bucket* bucket(std::uint64_t number) {
    return reinterpret_cast<bailey_bucket*>(plain->index().data() + BAILEY_INDEX_BUCKETS_OFFSET) + number;
  }
  std::uint32_t* claim(std::uint64_t number) {
    return reinterpret_cast<std::uint32_t*>(bucket(geometry.buckets + geometry.overflow_buckets)) + number;
  }
  // The slot of a key that was put.
  std::uint64_t* slot_of(std::string_view key) {
    table::Home home = table::home_in(*reader, key, geometry);
    for (std::uint64_t& slot : bucket(home.bucket)->slots)
      if (table::tag_of(slot) == home.tag) return &slot;
    return nullptr;
  }
  // An empty slot of the same bucket.
  std::uint64_t* empty_slot_beside(std::string_view key) {
    for (std::uint64_t& slot : bucket(table::home_in(*reader, key, geometry).bucket)->slots)
      if (slot == 0) return &slot;
    return nullptr;
  }
  std::byte* record_of(std::string_view key) {
    std::uint64_t slot = *slot_of(key);
    return reader->find(table::segment_of(slot)).value()->base + table::offset_of(slot);
  }

  Report check() { return kind.check(*reader, geometry).value(); }

  const Kind& kind;
  table::Geometry geometry;
  Mapping memory;
  std::optional<pool::PlainPool> plain;
  std::optional<table::Table> writer;
  std::unique_ptr<pool::View> reader;
};

}  // namespace bailey::kinds
