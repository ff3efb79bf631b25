// memcached, by libmemcached, over a Unix socket and over TCP on the loopback address; one request at a time,
// and gets of many keys by 16 and by 32. The server is started for the benchmark and stopped with the store.
#include <fmt/format.h>
#include <libmemcached/memcached.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>

#include "bench/server.h"
#include "bench/store.h"

namespace bailey::bench {
namespace {

constexpr std::size_t keys_max = 64;  // of one multi-get
constexpr std::uint64_t patience_ms = 5000;

struct Address {
  std::string socket;
  std::uint16_t port = 0;  // 0: the socket
};

struct FreeHandle {
  void operator()(memcached_st* handle) const { memcached_free(handle); }
};
using Handle = std::unique_ptr<memcached_st, FreeHandle>;

Handle connect(const Address& address) {
  Handle handle(memcached_create(nullptr));
  if (handle == nullptr) return handle;
  memcached_behavior_set(handle.get(), MEMCACHED_BEHAVIOR_TCP_NODELAY, 1);
  memcached_behavior_set(handle.get(), MEMCACHED_BEHAVIOR_POLL_TIMEOUT, patience_ms);
  const memcached_return_t code =
      address.port != 0 ? memcached_server_add(handle.get(), "127.0.0.1", address.port)
                        : memcached_server_add_unix_socket(handle.get(), address.socket.c_str());
  if (code != MEMCACHED_SUCCESS) handle.reset();
  return handle;
}

class MemcachedClient : public Client {
 public:
  explicit MemcachedClient(Handle handle) : handle_(std::move(handle)) {
    memcached_result_create(handle_.get(), &result_);
  }
  ~MemcachedClient() override { memcached_result_free(&result_); }

  std::ptrdiff_t get(std::string_view key, MutableBytes out) override {
    Lookup lookup;
    lookup.key = key;
    lookup.out = out;
    if (!get_many({&lookup, 1}) || !lookup.ok) return -1;
    return static_cast<std::ptrdiff_t>(lookup.found.bytes);
  }
  bool get_many(std::span<Lookup> lookups) override {
    if (lookups.size() > keys_max) return failed("too many keys in one get");
    std::array<const char*, keys_max> keys;
    std::array<std::size_t, keys_max> bytes;
    for (std::size_t i = 0; i < lookups.size(); ++i) {
      keys[i] = lookups[i].key.data();
      bytes[i] = lookups[i].key.size();
      lookups[i].ok = false;
    }
    memcached_return_t code = memcached_mget(handle_.get(), keys.data(), bytes.data(), lookups.size());
    if (code != MEMCACHED_SUCCESS) return told(code);
    // Answers come in the order of the questions, without those that are not there.
    std::size_t next = 0;
    while (memcached_fetch_result(handle_.get(), &result_, &code) != nullptr) {
      const std::string_view key(memcached_result_key_value(&result_), memcached_result_key_length(&result_));
      // The same key may be asked twice in one call, and is answered as often.
      while (next < lookups.size() && lookups[next].key != key) ++next;
      if (next == lookups.size()) return failed("memcached answered what was not asked");
      Lookup& lookup = lookups[next++];
      const std::size_t length = memcached_result_length(&result_);
      if (length > lookup.out.size()) continue;
      std::memcpy(lookup.out.data(), memcached_result_value(&result_), length);
      lookup.found.bytes = length;
      lookup.ok = true;
    }
    return code == MEMCACHED_SUCCESS || code == MEMCACHED_END || code == MEMCACHED_NOTFOUND || told(code);
  }
  bool put(std::string_view key, std::string_view value) override {
    return told(memcached_set(handle_.get(), key.data(), key.size(), value.data(), value.size(), 0, 0));
  }
  bool insert(std::string_view key, std::string_view value) override {
    return told(memcached_add(handle_.get(), key.data(), key.size(), value.data(), value.size(), 0, 0));
  }
  bool update(std::string_view key, std::string_view value) override {
    return told(memcached_replace(handle_.get(), key.data(), key.size(), value.data(), value.size(), 0, 0));
  }
  bool erase(std::string_view key) override {
    return told(memcached_delete(handle_.get(), key.data(), key.size(), 0));
  }
  // For loading alone: without an answer each, which the protocol allows. A failure shows as a missing key.
  bool put_many(std::span<Write> writes) override {
    memcached_behavior_set(handle_.get(), MEMCACHED_BEHAVIOR_NOREPLY, 1);
    bool all = true;
    for (Write& write : writes) {
      write.ok = put(write.key, write.value);
      all = all && write.ok;
    }
    memcached_behavior_set(handle_.get(), MEMCACHED_BEHAVIOR_NOREPLY, 0);
    return all;
  }

 private:
  bool told(memcached_return_t code) {
    return code == MEMCACHED_SUCCESS || code == MEMCACHED_BUFFERED ||
           failed(fmt::format("memcached: {}", memcached_strerror(handle_.get(), code)));
  }
  Handle handle_;
  memcached_result_st result_;
};

class MemcachedStore : public Store {
 public:
  MemcachedStore(Address address, Server server) : address_(std::move(address)), server_(std::move(server)) {}
  Result<std::unique_ptr<Client>> client(bool) override {
    Handle handle = connect(address_);
    if (handle == nullptr) return fail(Code::io, By::library, "no connection to memcached");
    return std::make_unique<MemcachedClient>(std::move(handle));
  }

 private:
  Address address_;
  Server server_;
};

Result<std::unique_ptr<Store>> make(const StoreOptions& options, bool tcp) {
  static std::atomic<unsigned> made = 0;
  Address address;
  const std::uint64_t megabytes =
      2 * options.records * (options.key_bytes + options.value_bytes + 64) / (1 << 20) + 64;
  std::vector<std::string> command = {"memcached", "-m", fmt::format("{}", megabytes), "-U", "0"};
  if (tcp) {
    address.port = BAILEY_TRY(free_port());
    command.insert(command.end(), {"-l", "127.0.0.1", "-p", fmt::format("{}", address.port)});
  } else {
    address.socket = fmt::format("{}/memcached{}", options.scratch, made++);
    command.insert(command.end(), {"-s", address.socket, "-a", "0600"});
  }
  if (::geteuid() == 0) command.insert(command.end(), {"-u", "root"});
  Server server = BAILEY_TRY(Server::start(command, [&] {
    const Handle handle = connect(address);
    return handle != nullptr && memcached_set(handle.get(), "ready", 5, "", 0, 0, 0) == MEMCACHED_SUCCESS;
  }));
  return std::make_unique<MemcachedStore>(std::move(address), std::move(server));
}

}  // namespace

void add_memcached(std::vector<System>& systems) {
  for (const bool tcp : {false, true}) {
    const std::string_view how = tcp ? "tcp" : "unix";
    const auto maker = [tcp](const StoreOptions& options) { return make(options, tcp); };
    systems.push_back(
        {fmt::format("memcached-{}", how),
         fmt::format("memcached over {}, one at a time; multi-get of 16", tcp ? "TCP" : "a Unix socket"),
         fmt::format("memcached-{}", how),
         {Operation::get, Operation::multi_get, Operation::set},
         1,
         maker});
    systems.push_back({fmt::format("memcached-{}-32", how),
                       fmt::format("memcached over {}, multi-get of 32", tcp ? "TCP" : "a Unix socket"),
                       fmt::format("memcached-{}", how),
                       {Operation::multi_get},
                       32,
                       maker});
  }
}

}  // namespace bailey::bench
