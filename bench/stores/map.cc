// std::unordered_map under a std::mutex: what one process does where nothing is shared. Clients are threads.
#include <cstring>
#include <mutex>
#include <string>
#include <unordered_map>

#include "bench/store.h"

namespace bailey::bench {
namespace {

struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};

struct Shared {
  std::mutex lock;
  std::unordered_map<std::string, std::string, TextHash, std::equal_to<>> map;
};

class MapClient : public Client {
 public:
  explicit MapClient(Shared& shared) : shared_(shared) {}

  std::ptrdiff_t get(std::string_view key, MutableBytes out) override {
    const std::lock_guard guard(shared_.lock);
    return get_locked(key, out);
  }
  bool get_many(std::span<Lookup> lookups) override {
    const std::lock_guard guard(shared_.lock);
    for (Lookup& lookup : lookups) {
      const std::ptrdiff_t bytes = get_locked(lookup.key, lookup.out);
      lookup.ok = bytes >= 0;
      if (lookup.ok) lookup.found.bytes = static_cast<std::size_t>(bytes);
    }
    return true;
  }
  bool put(std::string_view key, std::string_view value) override {
    const std::lock_guard guard(shared_.lock);
    return put_locked(key, value);
  }
  bool insert(std::string_view key, std::string_view value) override {
    const std::lock_guard guard(shared_.lock);
    return shared_.map.try_emplace(std::string(key), value).second;
  }
  bool update(std::string_view key, std::string_view value) override {
    const std::lock_guard guard(shared_.lock);
    const auto found = shared_.map.find(key);
    if (found == shared_.map.end()) return false;
    found->second.assign(value);
    return true;
  }
  bool erase(std::string_view key) override {
    const std::lock_guard guard(shared_.lock);
    const auto found = shared_.map.find(key);
    if (found == shared_.map.end()) return false;
    shared_.map.erase(found);
    return true;
  }
  bool put_many(std::span<Write> writes) override {
    const std::lock_guard guard(shared_.lock);
    for (Write& write : writes) write.ok = put_locked(write.key, write.value);
    return true;
  }

 private:
  std::ptrdiff_t get_locked(std::string_view key, MutableBytes out) {
    const auto found = shared_.map.find(key);
    if (found == shared_.map.end() || found->second.size() > out.size()) return -1;
    std::memcpy(out.data(), found->second.data(), found->second.size());
    return static_cast<std::ptrdiff_t>(found->second.size());
  }
  bool put_locked(std::string_view key, std::string_view value) {
    const auto found = shared_.map.find(key);
    if (found != shared_.map.end()) {
      found->second.assign(value);
    } else {
      shared_.map.emplace(key, value);
    }
    return true;
  }
  Shared& shared_;
};

class MapStore : public Store {
 public:
  explicit MapStore(std::uint64_t records) { shared_.map.reserve(records); }
  Result<std::unique_ptr<Client>> client(bool) override { return std::make_unique<MapClient>(shared_); }
  bool across_processes() const override { return false; }

 private:
  Shared shared_;
};

}  // namespace

void add_map(std::vector<System>& systems) {
  systems.push_back({"unordered_map",
                     "std::unordered_map under a std::mutex, in one process",
                     "unordered_map",
                     {Operation::get, Operation::multi_get, Operation::insert, Operation::update,
                      Operation::set, Operation::multi_set},
                     1,
                     [](const StoreOptions& options) -> Result<std::unique_ptr<Store>> {
                       return std::make_unique<MapStore>(options.records);
                     }});
}

}  // namespace bailey::bench
