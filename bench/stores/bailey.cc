// Bailey's table over a plain pool and without a broker: the rung `none`, and `encrypted` on top of it.
#include <fmt/format.h>

#include <algorithm>

#include "bailey/base/fd.h"
#include "bailey/base/identity.h"
#include "bailey/pool/plain.h"
#include "bailey/pool/sealer.h"
#include "bailey/pool/test_sealer.h"
#include "bailey/table/signed.h"
#include "bailey/table/table.h"
#include "bench/store.h"
#include "bench/stores/table_driver.h"

namespace bailey::bench {
namespace {

constexpr std::uint64_t hash_seed = 0x6261696c6579;

class PlainStore : public Store {
 public:
  // `key`: of an encrypted table; else empty.
  PlainStore(Mapping memory, pool::PlainPool pool, const table::Geometry& geometry, crypto::Secret key,
             bool is_signed)
      : memory_(std::move(memory)),
        pool_(pool),
        geometry_(geometry),
        key_(std::move(key)),
        is_signed_(is_signed) {}

  Result<std::unique_ptr<Client>> client(bool writes) override {
    std::unique_ptr<pool::View> view = BAILEY_TRY(pool_.view(writes));
    if (!key_.span().empty()) {
      auto sealer =
          BAILEY_TRY(pool::Sealer::create({crypto::Cipher::aes_256_gcm, {}, "bench", 1, key_.span()}));
      if (is_signed_)
        BAILEY_TRY(sealer->set_signed(std::make_unique<pool::TestKeys::Pairs>(view->writer(), ~0u)));
      view->set_sealer(std::move(sealer));
    }
    table::Table opened = BAILEY_TRY(table::Table::open(std::move(view), geometry_));
    return std::make_unique<TableDriver>(std::move(opened));
  }
  bool single_writer() const override { return geometry_.mode == table::Mode::exclusive; }

 private:
  Mapping memory_;
  pool::PlainPool pool_;
  table::Geometry geometry_;
  crypto::Secret key_;
  bool is_signed_;
};

}  // namespace

// Room for every record twice: records of one class are packed by pages, and what an update replaced is only
// swept when there is enough of it. Untouched memory costs nothing.
std::uint64_t pool_bytes(const StoreOptions& options, std::uint64_t more_a_record) {
  const std::uint64_t record =
      BAILEY_RECORD_HEADER_BYTES + round_up(options.key_bytes, 8) + options.value_bytes + more_a_record;
  return 2 * options.records * (record + record / 4 + 16) + (64u << 20);
}

Result<std::unique_ptr<Store>> make_plain_table(const StoreOptions& options, table::Mode mode,
                                                std::uint64_t bytes_max, bool encrypted, bool is_signed) {
  const table::Geometry geometry = table::Geometry::plan(mode, options.records, hash_seed);
  pool::PlainOptions plain;
  plain.index_bytes = geometry.index_bytes();
  plain.shared_index = mode == table::Mode::shared;
  const std::uint64_t wanted =
      pool_bytes(options, (encrypted ? BAILEY_SEALED_HEADER_BYTES : 0) +
                              (is_signed ? table::proof_bytes(crypto::path_max) : 0));
  plain.segment_bytes = round_up(std::max<std::uint64_t>(wanted / 128, 2u << 20), BAILEY_PAGE_BYTES);
  const auto segments = static_cast<unsigned>(wanted / plain.segment_bytes + 8);
  const std::uint64_t bytes = pool::PlainPool::bytes_for(plain, segments);
  if (bytes_max != 0 && bytes > bytes_max)
    return fail(
        Code::no_space, By::library,
        fmt::format("a table for {} records of {} bytes asks for a pool of {} bytes, and only {} are allowed",
                    options.records, options.value_bytes, bytes, bytes_max),
        "give more, or fewer records");
  Mapping memory = BAILEY_TRY(Mapping::anonymous(bytes));
  pool::PlainPool pool = BAILEY_TRY(pool::PlainPool::format(memory.span(), plain));
  table::Table::format(pool.index(), geometry);
  crypto::Secret key;
  if (encrypted) {
    BAILEY_TRY(crypto::check_cipher(crypto::Cipher::aes_256_gcm));
    key = BAILEY_TRY(crypto::Secret::of_bytes(crypto::cipher_key_bytes));
    random_bytes(key.span().data(), key.span().size());
  }
  return std::make_unique<PlainStore>(std::move(memory), pool, geometry, std::move(key), is_signed);
}

void add_bailey(std::vector<System>& systems) {
  const std::vector<Operation> operations = {Operation::get,    Operation::multi_get, Operation::insert,
                                             Operation::update, Operation::set,       Operation::multi_set};
  systems.push_back(
      {"bailey", "Bailey's table, mode exclusive, unprotected (plain pool)", "bailey", operations, 1,
       [](const StoreOptions& options) { return make_plain_table(options, table::Mode::exclusive); }});
  systems.push_back(
      {"bailey-shared", "Bailey's table, mode shared, unprotected (plain pool)", "bailey-shared", operations,
       1, [](const StoreOptions& options) { return make_plain_table(options, table::Mode::shared); }});
  systems.push_back({"bailey-encrypted",
                     "Bailey's table, mode exclusive, encrypted (AES-256-GCM, plain pool)",
                     "bailey-encrypted", operations, 1, [](const StoreOptions& options) {
                       return make_plain_table(options, table::Mode::exclusive, 0, true);
                     }});
}

}  // namespace bailey::bench
