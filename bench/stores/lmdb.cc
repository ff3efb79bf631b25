// LMDB on tmpfs, with WRITEMAP and NOSYNC: one committed transaction an operation, a batch is one
// transaction, and a reader is renewed each get.
#include <fmt/format.h>
#include <lmdb.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "bench/store.h"

namespace bailey::bench {
namespace {

std::unexpected<Error> refused(int code, std::string_view what) {
  return fail(Code::io, By::library, fmt::format("LMDB could not {}: {}", what, mdb_strerror(code)));
}

// An environment belongs to one process: each opens its own on the same folder.
struct Environment {
  MDB_env* env = nullptr;
  MDB_dbi dbi = 0;
  pid_t pid = 0;
  ~Environment() {
    // A child that inherited it must not touch it.
    if (env != nullptr && pid == ::getpid()) mdb_env_close(env);
  }

  static Result<std::unique_ptr<Environment>> open(const std::string& folder, std::uint64_t bytes) {
    auto opened = std::make_unique<Environment>();
    if (int code = mdb_env_create(&opened->env); code != 0) return refused(code, "make an environment");
    opened->pid = ::getpid();
    mdb_env_set_mapsize(opened->env, bytes);
    // Readers' slots follow the transaction and not the thread: one thread may have a reader and a writer.
    if (int code = mdb_env_open(opened->env, folder.c_str(), MDB_WRITEMAP | MDB_NOSYNC | MDB_NOTLS, 0600);
        code != 0)
      return refused(code, "open " + folder);
    MDB_txn* txn = nullptr;
    int code = mdb_txn_begin(opened->env, nullptr, 0, &txn);
    if (code == 0) code = mdb_dbi_open(txn, nullptr, 0, &opened->dbi);
    if (code == 0) {
      code = mdb_txn_commit(txn);
    } else if (txn != nullptr) {
      mdb_txn_abort(txn);
    }
    if (code != 0) return refused(code, "open its database");
    return opened;
  }
};

class LmdbClient : public Client {
 public:
  explicit LmdbClient(Environment& environment) : environment_(environment) {}
  ~LmdbClient() override {
    if (reader_ != nullptr) mdb_txn_abort(reader_);
  }

  std::ptrdiff_t get(std::string_view key, MutableBytes out) override {
    if (!renew()) return -1;
    const std::ptrdiff_t bytes = get_in(reader_, key, out);
    mdb_txn_reset(reader_);
    return bytes;
  }
  bool get_many(std::span<Lookup> lookups) override {
    if (!renew()) return false;
    for (Lookup& lookup : lookups) {
      const std::ptrdiff_t bytes = get_in(reader_, lookup.key, lookup.out);
      lookup.ok = bytes >= 0;
      if (lookup.ok) lookup.found.bytes = static_cast<std::size_t>(bytes);
    }
    mdb_txn_reset(reader_);
    return true;
  }
  bool put(std::string_view key, std::string_view value) override { return put_one(key, value, 0); }
  bool insert(std::string_view key, std::string_view value) override {
    return put_one(key, value, MDB_NOOVERWRITE);
  }
  bool update(std::string_view key, std::string_view value) override {
    return in_transaction([&](MDB_txn* txn) {
      MDB_val k = of(key), old;
      const int code = mdb_get(txn, environment_.dbi, &k, &old);
      return code != 0 ? code : put_in(txn, key, value, 0);
    });
  }
  bool erase(std::string_view key) override {
    return in_transaction([&](MDB_txn* txn) {
      MDB_val k = of(key);
      return mdb_del(txn, environment_.dbi, &k, nullptr);
    });
  }
  bool put_many(std::span<Write> writes) override {
    const bool all = in_transaction([&](MDB_txn* txn) {
      int code = 0;
      for (std::size_t i = 0; i < writes.size() && code == 0; ++i)
        code = put_in(txn, writes[i].key, writes[i].value, 0);
      return code;
    });
    for (Write& write : writes) write.ok = all;
    return all;
  }

 private:
  static MDB_val of(std::string_view text) { return {text.size(), const_cast<char*>(text.data())}; }

  bool renew() {
    const int code = reader_ == nullptr ? mdb_txn_begin(environment_.env, nullptr, MDB_RDONLY, &reader_)
                                        : mdb_txn_renew(reader_);
    return code == 0 || failed(mdb_strerror(code));
  }
  std::ptrdiff_t get_in(MDB_txn* txn, std::string_view key, MutableBytes out) {
    MDB_val k = of(key), value;
    if (mdb_get(txn, environment_.dbi, &k, &value) != 0 || value.mv_size > out.size()) return -1;
    std::memcpy(out.data(), value.mv_data, value.mv_size);
    return static_cast<std::ptrdiff_t>(value.mv_size);
  }
  int put_in(MDB_txn* txn, std::string_view key, std::string_view value, unsigned flags) {
    MDB_val k = of(key), v = of(value);
    return mdb_put(txn, environment_.dbi, &k, &v, flags);
  }
  bool put_one(std::string_view key, std::string_view value, unsigned flags) {
    return in_transaction([&](MDB_txn* txn) { return put_in(txn, key, value, flags); });
  }
  template <class Work>
  bool in_transaction(Work&& work) {
    MDB_txn* txn = nullptr;
    int code = mdb_txn_begin(environment_.env, nullptr, 0, &txn);
    if (code != 0) return failed(mdb_strerror(code));
    code = work(txn);
    if (code != 0) {
      mdb_txn_abort(txn);
      return failed(mdb_strerror(code));
    }
    code = mdb_txn_commit(txn);
    return code == 0 || failed(mdb_strerror(code));
  }

  Environment& environment_;
  MDB_txn* reader_ = nullptr;
};

class LmdbStore : public Store {
 public:
  LmdbStore(std::string folder, std::uint64_t bytes) : folder_(std::move(folder)), bytes_(bytes) {}
  Result<std::unique_ptr<Client>> client(bool) override {
    if (!environment_ || environment_->pid != ::getpid()) {
      // Of the parent's, if any, nothing may be called in a child: it is forgotten, not closed.
      environment_.reset();
      environment_ = BAILEY_TRY(Environment::open(folder_, bytes_));
    }
    return std::make_unique<LmdbClient>(*environment_);
  }

 private:
  std::string folder_;
  std::uint64_t bytes_;
  std::unique_ptr<Environment> environment_;
};

Result<std::unique_ptr<Store>> make(const StoreOptions& options) {
  static std::atomic<unsigned> made = 0;
  const std::string folder = fmt::format("{}/lmdb{}", options.scratch, made++);
  if (::mkdir(folder.c_str(), 0700) != 0) return fail_os(errno, "could not make " + folder);
  const std::uint64_t bytes =
      4 * options.records * (options.key_bytes + options.value_bytes + 64) + (64u << 20);
  return std::make_unique<LmdbStore>(folder, round_up(bytes, 1u << 20));
}

}  // namespace

void add_lmdb(std::vector<System>& systems) {
  systems.push_back({"lmdb",
                     "LMDB on tmpfs, WRITEMAP and NOSYNC, a committed transaction an operation",
                     "lmdb",
                     {Operation::get, Operation::multi_get, Operation::insert, Operation::update,
                      Operation::set, Operation::multi_set},
                     1,
                     make});
}

}  // namespace bailey::bench
