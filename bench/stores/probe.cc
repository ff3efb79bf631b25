// The bare probe: hash, one index line, one record, one copy, and nothing else. The limit of what a table in
// shared memory could do: no concurrency, no validation, no versions, no boundaries, no reuse of memory.
//
// Same hash, same share of index slots in use, and the same kind of memory as Bailey's table.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <array>
#include <bit>
#include <cstring>

#include "bailey/base/fd.h"
#include "bench/store.h"

namespace bailey::bench {
namespace {

constexpr std::uint64_t seed = 0x6261696c6579;
constexpr unsigned slots = 7;
constexpr unsigned group = 16;

// A slot is tag (16 bits) | offset of the record / 16 (48 bits); 0 is empty. The line's last word is not
// used, so that a line has as many slots as a line of Bailey's index.
struct alignas(64) Line {
  std::uint64_t slot[slots];
  std::uint64_t unused;
};

struct RecordHead {
  std::uint32_t key_bytes;
  std::uint32_t value_bytes;
};

struct Header {
  std::uint64_t lines;  // any number: the hash is scaled to it
  std::uint64_t lines_offset;
  std::uint64_t tail;  // where the next record goes
};

constexpr std::uint64_t padded(std::uint64_t bytes) { return round_up(bytes, 8); }
constexpr std::uint64_t record_bytes(std::uint64_t key, std::uint64_t value) {
  return round_up(sizeof(RecordHead) + padded(key) + value, 16);
}

class ProbeClient : public Client {
 public:
  explicit ProbeClient(MutableBytes memory)
      : base_(memory.data()),
        header_(reinterpret_cast<Header*>(base_)),
        lines_(reinterpret_cast<Line*>(base_ + header_->lines_offset)),
        end_(memory.size()) {}

  std::ptrdiff_t get(std::string_view key, MutableBytes out) override {
    const Place place = find(key, hash(key));
    return place.record == nullptr ? -1 : copy(place.record, out);
  }

  bool get_many(std::span<Lookup> lookups) override {
    std::array<std::uint64_t, group> hashes;
    std::array<const std::byte*, group> records;
    for (std::size_t from = 0; from < lookups.size(); from += group) {
      const std::size_t count = std::min<std::size_t>(group, lookups.size() - from);
      const auto part = lookups.subspan(from, count);
      for (std::size_t i = 0; i < count; ++i) {
        hashes[i] = hash(part[i].key);
        __builtin_prefetch(line(hashes[i]));
      }
      for (std::size_t i = 0; i < count; ++i) {
        records[i] = candidate(hashes[i]);
        if (records[i] == nullptr) continue;
        const std::size_t bytes = sizeof(RecordHead) + padded(part[i].key.size()) + part[i].out.size();
        for (std::size_t at = 0; at < bytes; at += 64) __builtin_prefetch(records[i] + at);
      }
      for (std::size_t i = 0; i < count; ++i) {
        const std::byte* record = records[i];
        if (record == nullptr || !is(record, part[i].key)) record = find(part[i].key, hashes[i]).record;
        part[i].ok = record != nullptr;
        if (record != nullptr) part[i].found.bytes = static_cast<std::size_t>(copy(record, part[i].out));
      }
    }
    return true;
  }

  bool put(std::string_view key, std::string_view value) override {
    const std::uint64_t h = hash(key);
    const Place place = find(key, h);
    return place.record != nullptr ? overwrite(place, value) : append(place, key, h, value);
  }
  bool insert(std::string_view key, std::string_view value) override {
    const std::uint64_t h = hash(key);
    const Place place = find(key, h);
    return place.record == nullptr && append(place, key, h, value);
  }
  bool update(std::string_view key, std::string_view value) override {
    const Place place = find(key, hash(key));
    return place.record != nullptr && overwrite(place, value);
  }
  // Only right where the last record goes first, which is how the comparison erases: then its memory comes
  // back, and no hole is left in a line that a later record had passed because it was full.
  bool erase(std::string_view key) override {
    const Place place = find(key, hash(key));
    if (place.record == nullptr) return false;
    *place.slot = 0;
    const auto* head = reinterpret_cast<const RecordHead*>(place.record);
    const std::uint64_t bytes = record_bytes(head->key_bytes, head->value_bytes);
    const auto offset = static_cast<std::uint64_t>(place.record - base_);
    if (offset + bytes == header_->tail) header_->tail = offset;
    return true;
  }

  bool put_many(std::span<Write> writes) override {
    std::array<std::uint64_t, group> hashes;
    bool all = true;
    for (std::size_t from = 0; from < writes.size(); from += group) {
      const std::size_t count = std::min<std::size_t>(group, writes.size() - from);
      const auto part = writes.subspan(from, count);
      for (std::size_t i = 0; i < count; ++i) {
        hashes[i] = hash(part[i].key);
        __builtin_prefetch(line(hashes[i]), 1);
      }
      for (std::size_t i = 0; i < count; ++i) {
        const std::byte* record = candidate(hashes[i]);
        if (record == nullptr) continue;
        const std::size_t bytes = sizeof(RecordHead) + padded(part[i].key.size()) + part[i].value.size();
        for (std::size_t at = 0; at < bytes; at += 64) __builtin_prefetch(record + at, 1);
      }
      for (std::size_t i = 0; i < count; ++i) {
        const Place place = find(part[i].key, hashes[i]);
        part[i].ok = place.record != nullptr ? overwrite(place, part[i].value)
                                             : append(place, part[i].key, hashes[i], part[i].value);
        all = all && part[i].ok;
      }
    }
    return all;
  }

 private:
  struct Place {
    std::byte* record;    // or null
    std::uint64_t* slot;  // of the record, or a free one for it
  };

  static std::uint64_t hash(std::string_view key) {
    return XXH3_64bits_withSeed(key.data(), key.size(), seed);
  }
  // The hash's low bits; the high ones choose the line. Never 0, so that no slot in use looks empty.
  static std::uint64_t tag(std::uint64_t h) { return (h << 48) | (std::uint64_t{1} << 48); }
  Line* line(std::uint64_t h) const {
    return lines_ + static_cast<std::uint64_t>((static_cast<unsigned __int128>(h) * header_->lines) >> 64);
  }
  std::byte* record_of(std::uint64_t slot) const { return base_ + (slot & 0xffff'ffff'ffff) * 16; }
  static bool is(const std::byte* record, std::string_view key) {
    return reinterpret_cast<const RecordHead*>(record)->key_bytes == key.size() &&
           std::memcmp(record + sizeof(RecordHead), key.data(), key.size()) == 0;
  }
  static std::ptrdiff_t copy(const std::byte* record, MutableBytes out) {
    const auto* head = reinterpret_cast<const RecordHead*>(record);
    if (head->value_bytes > out.size()) return -1;
    std::memcpy(out.data(), record + sizeof(RecordHead) + padded(head->key_bytes), head->value_bytes);
    return static_cast<std::ptrdiff_t>(head->value_bytes);
  }

  // The first record of the line with this tag: for prefetching.
  const std::byte* candidate(std::uint64_t h) const {
    for (std::uint64_t slot : line(h)->slot)
      if ((slot ^ tag(h)) >> 48 == 0) return record_of(slot);
    return nullptr;
  }

  Place find(std::string_view key, std::uint64_t h) const {
    std::uint64_t* free_slot = nullptr;
    Line* const end = lines_ + header_->lines;
    for (Line* at = line(h);; at = at + 1 == end ? lines_ : at + 1) {
      bool full = true;
      for (std::uint64_t& slot : at->slot) {
        if (slot == 0) {
          if (free_slot == nullptr) free_slot = &slot;
          full = false;
          continue;
        }
        if ((slot ^ tag(h)) >> 48 != 0) continue;
        std::byte* record = record_of(slot);
        if (is(record, key)) return {record, &slot};
      }
      if (!full) return {nullptr, free_slot};
    }
  }

  bool overwrite(const Place& place, std::string_view value) {
    auto* head = reinterpret_cast<RecordHead*>(place.record);
    if (value.size() > head->value_bytes) return failed("the probe can't make a record longer");
    head->value_bytes = static_cast<std::uint32_t>(value.size());
    std::memcpy(place.record + sizeof(RecordHead) + padded(head->key_bytes), value.data(), value.size());
    return true;
  }
  bool append(const Place& place, std::string_view key, std::uint64_t h, std::string_view value) {
    const std::uint64_t bytes = record_bytes(key.size(), value.size());
    if (bytes > end_ - header_->tail) return failed("the probe's memory is full");
    std::byte* record = base_ + header_->tail;
    header_->tail += bytes;
    *reinterpret_cast<RecordHead*>(record) = {static_cast<std::uint32_t>(key.size()),
                                              static_cast<std::uint32_t>(value.size())};
    std::memcpy(record + sizeof(RecordHead), key.data(), key.size());
    std::memcpy(record + sizeof(RecordHead) + padded(key.size()), value.data(), value.size());
    const auto offset = static_cast<std::uint64_t>(record - base_);
    *place.slot = tag(h) | offset / 16;
    return true;
  }

  std::byte* base_;
  Header* header_;
  Line* lines_;
  std::uint64_t end_;
};

class ProbeStore : public Store {
 public:
  explicit ProbeStore(Mapping memory) : memory_(std::move(memory)) {}
  Result<std::unique_ptr<Client>> client(bool) override {
    return std::make_unique<ProbeClient>(memory_.span());
  }
  bool single_writer() const override { return true; }

 private:
  Mapping memory_;
};

}  // namespace

void add_probe(std::vector<System>& systems) {
  systems.push_back({"probe",
                     "bare probe in shared memory: hash, one index line, one record, one copy",
                     "probe",
                     {Operation::get, Operation::multi_get, Operation::insert, Operation::update,
                      Operation::set, Operation::multi_set},
                     1,
                     [](const StoreOptions& options) -> Result<std::unique_ptr<Store>> {
                       const std::uint64_t lines = options.records * 2 / slots + 1;  // 3.5 of 7 slots in use
                       const std::uint64_t data = 4096 + lines * sizeof(Line);
                       Mapping memory = BAILEY_TRY(Mapping::anonymous(
                           data + options.records * record_bytes(options.key_bytes, options.value_bytes)));
                       *reinterpret_cast<Header*>(memory.data()) = {lines, 4096, data};
                       return std::make_unique<ProbeStore>(std::move(memory));
                     }});
}

}  // namespace bailey::bench
