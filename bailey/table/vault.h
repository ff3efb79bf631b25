// For tests: an encrypted table in a plain buffer whose bytes an attacker changes at will.
#pragma once

#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "bailey/base/fd.h"
#include "bailey/pool/plain.h"
#include "bailey/pool/test_sealer.h"
#include "bailey/table/sealed.h"
#include "bailey/table/table.h"

namespace bailey::table {

struct Vault {
  explicit Vault(pool::TestKeys with = {}, Mode mode = Mode::shared)
      : keys(with), geometry(Geometry::plan(mode, 100, 42)) {
    pool::PlainOptions options;
    options.index_bytes = geometry.index_bytes();
    options.segment_bytes = 4 * BAILEY_PAGE_BYTES;
    memory = Mapping::anonymous(pool::PlainPool::bytes_for(options, 24)).value();
    pool.emplace(pool::PlainPool::format(memory.span(), options).value());
    Table::format(pool->index(), geometry);
    finder = pool->view(false).value();
  }
  Table open(bool writable, std::optional<pool::TestKeys> with = {}) {
    auto view = pool->view(writable).value();
    last_writer = view->writer();
    view->set_sealer(with.value_or(keys).sealer(last_writer));
    return Table::open(std::move(view), geometry).value();
  }
  Word* slot(std::string_view key) {
    const Home home = home_of(keys.sealer()->hash(key), geometry);
    Index index(pool->index().data(), geometry);
    return Candidates(index, home).slot();
  }
  std::byte* record(std::string_view key) {
    const Word at = *slot(key);
    return finder->find(segment_of(at)).value()->base + offset_of(at);
  }
  static std::size_t sealed_bytes(const std::byte* record) {
    const Word lengths = reinterpret_cast<const Word*>(record)[1];
    return sealed_record_bytes(key_length(lengths), value_length(lengths));
  }
  // Of a record that was put by itself.
  std::size_t bytes(const std::byte* record) const {
    return sealed_bytes(record) + (keys.signs ? proof_bytes(0) : 0);
  }
  // Where its proof is, in a signed region.
  std::byte* proof(std::string_view key) {
    std::byte* at = record(key);
    return at + sealed_bytes(at);
  }
  std::string stolen(std::string_view key) {
    return {reinterpret_cast<const char*>(record(key)), bytes(record(key))};
  }

  pool::TestKeys keys;
  Geometry geometry;
  Mapping memory;
  std::optional<pool::PlainPool> pool;
  std::unique_ptr<pool::View> finder;
  std::uint32_t last_writer = 0;
};

// A reader that has not read anything before.
inline Code code_of_get(Vault& vault, std::string_view key, std::string& value) {
  Table reader = vault.open(false);
  auto found = reader.get(key, value);
  return found ? Code{} : found.error().code;
}

}  // namespace bailey::table
