// What people write without us: a chained hash table in one shared mapping, behind one robust mutex that all
// processes share. Every party may write everything, and who stops while it holds the lock stops all.
#define XXH_INLINE_ALL
#include <pthread.h>
#include <xxhash.h>

#include <cerrno>
#include <cstring>
#include <new>

#include "bailey/base/fd.h"
#include "bench/store.h"

namespace bailey::bench {
namespace {

struct Header {
  pthread_mutex_t lock;
  std::uint64_t chains;
  std::uint64_t chains_offset;
  std::uint64_t tail;
  std::uint64_t free_nodes;  // offset of the first, or 0
  std::uint64_t node_bytes;
};

struct Node {
  std::uint64_t next;  // offset, or 0
  std::uint64_t hash;
  std::uint32_t key_bytes;
  std::uint32_t value_bytes;
  std::byte* key() { return reinterpret_cast<std::byte*>(this + 1); }
  std::byte* value() { return key() + key_bytes; }
};

class LockedClient : public Client {
 public:
  explicit LockedClient(MutableBytes memory)
      : base_(memory.data()), header_(reinterpret_cast<Header*>(base_)), end_(memory.size()) {}

  std::ptrdiff_t get(std::string_view key, MutableBytes out) override {
    const std::uint64_t h = hash(key);
    const Guard guard(header_->lock);
    return get_locked(key, h, out);
  }
  bool get_many(std::span<Lookup> lookups) override {
    const Guard guard(header_->lock);
    for (Lookup& lookup : lookups) {
      const std::ptrdiff_t bytes = get_locked(lookup.key, hash(lookup.key), lookup.out);
      lookup.ok = bytes >= 0;
      if (lookup.ok) lookup.found.bytes = static_cast<std::size_t>(bytes);
    }
    return true;
  }
  bool put(std::string_view key, std::string_view value) override { return write(key, value, true, true); }
  bool insert(std::string_view key, std::string_view value) override {
    return write(key, value, true, false);
  }
  bool update(std::string_view key, std::string_view value) override {
    return write(key, value, false, true);
  }
  bool erase(std::string_view key) override {
    const std::uint64_t h = hash(key);
    const Guard guard(header_->lock);
    std::uint64_t* link = find(key, h);
    if (*link == 0) return false;
    Node* node = at(*link);
    const std::uint64_t offset = *link;
    *link = node->next;
    node->next = header_->free_nodes;
    header_->free_nodes = offset;
    return true;
  }
  bool put_many(std::span<Write> writes) override {
    const Guard guard(header_->lock);
    bool all = true;
    for (Write& one : writes) {
      one.ok = write_locked(one.key, hash(one.key), one.value, true, true);
      all = all && one.ok;
    }
    return all;
  }

 private:
  class Guard {
   public:
    explicit Guard(pthread_mutex_t& lock) : lock_(lock) {
      if (pthread_mutex_lock(&lock_) == EOWNERDEAD) pthread_mutex_consistent(&lock_);
    }
    ~Guard() { pthread_mutex_unlock(&lock_); }
    Guard(const Guard&) = delete;

   private:
    pthread_mutex_t& lock_;
  };

  static std::uint64_t hash(std::string_view key) { return XXH3_64bits_withSeed(key.data(), key.size(), 1); }
  Node* at(std::uint64_t offset) const { return reinterpret_cast<Node*>(base_ + offset); }

  // The link to the key's node; where there is none, the chain's last link, which is 0.
  std::uint64_t* find(std::string_view key, std::uint64_t h) const {
    auto* link = reinterpret_cast<std::uint64_t*>(base_ + header_->chains_offset) + h % header_->chains;
    while (*link != 0) {
      Node* node = at(*link);
      if (node->hash == h && node->key_bytes == key.size() &&
          std::memcmp(node->key(), key.data(), key.size()) == 0)
        return link;
      link = &node->next;
    }
    return link;
  }
  std::ptrdiff_t get_locked(std::string_view key, std::uint64_t h, MutableBytes out) {
    const std::uint64_t offset = *find(key, h);
    if (offset == 0) return -1;
    Node* node = at(offset);
    if (node->value_bytes > out.size()) return -1;
    std::memcpy(out.data(), node->value(), node->value_bytes);
    return static_cast<std::ptrdiff_t>(node->value_bytes);
  }
  bool write(std::string_view key, std::string_view value, bool may_insert, bool may_update) {
    const std::uint64_t h = hash(key);
    const Guard guard(header_->lock);
    return write_locked(key, h, value, may_insert, may_update);
  }
  bool write_locked(std::string_view key, std::uint64_t h, std::string_view value, bool may_insert,
                    bool may_update) {
    if (sizeof(Node) + key.size() + value.size() > header_->node_bytes)
      return failed("key and value are longer than the locked table's nodes");
    std::uint64_t* link = find(key, h);
    if (*link == 0) {
      if (!may_insert) return false;
      std::uint64_t offset = header_->free_nodes;
      if (offset != 0) {
        header_->free_nodes = at(offset)->next;
      } else {
        if (header_->node_bytes > end_ - header_->tail) return failed("the locked table's memory is full");
        offset = header_->tail;
        header_->tail += header_->node_bytes;
      }
      *at(offset) = {0, h, static_cast<std::uint32_t>(key.size()), 0};
      std::memcpy(at(offset)->key(), key.data(), key.size());
      *link = offset;
    } else if (!may_update) {
      return false;
    }
    Node* node = at(*link);
    node->value_bytes = static_cast<std::uint32_t>(value.size());
    std::memcpy(node->value(), value.data(), value.size());
    return true;
  }

  std::byte* base_;
  Header* header_;
  std::uint64_t end_;
};

class LockedStore : public Store {
 public:
  explicit LockedStore(Mapping memory) : memory_(std::move(memory)) {}
  Result<std::unique_ptr<Client>> client(bool) override {
    return std::make_unique<LockedClient>(memory_.span());
  }

 private:
  Mapping memory_;
};

Result<std::unique_ptr<Store>> make(const StoreOptions& options) {
  const std::uint64_t chains = options.records + 1;
  const std::uint64_t data = round_up(sizeof(Header) + chains * 8, cache_line_bytes);
  const std::uint64_t node = round_up(sizeof(Node) + options.key_bytes + options.value_bytes, 8);
  Mapping memory = BAILEY_TRY(Mapping::anonymous(data + node * options.records));
  auto* header = new (memory.data()) Header{};
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  const int os = pthread_mutex_init(&header->lock, &attributes);
  pthread_mutexattr_destroy(&attributes);
  if (os != 0) return fail_os(os, "could not make a mutex that processes share");
  header->chains = chains;
  header->chains_offset = round_up(sizeof(Header), 8);
  header->tail = data;
  header->node_bytes = node;
  return std::make_unique<LockedStore>(std::move(memory));
}

}  // namespace

void add_locked(std::vector<System>& systems) {
  systems.push_back({"locked",
                     "a hash table behind one robust process-shared mutex in one shared mapping",
                     "locked",
                     {Operation::get, Operation::multi_get, Operation::insert, Operation::update,
                      Operation::set, Operation::multi_set},
                     1,
                     make});
}

}  // namespace bailey::bench
