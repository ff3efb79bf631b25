// Plain bytes of a raw region behind a broker, a place for each value: through a window, and the same without
// one. Where each value lies stands in the memory of this process, the same for both.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <vector>

#include "bailey/medium/access.h"
#include "bench/stores/own_broker.h"

namespace bailey::bench {
namespace {

struct Hash {
  using is_transparent = void;
  std::size_t operator()(std::string_view key) const { return std::hash<std::string_view>()(key); }
};
struct Place {
  std::uint32_t number;
  std::uint32_t bytes;
};

// Processes that are forked later have what was there by then, for reading.
struct Places {
  std::unordered_map<std::string, Place, Hash, std::equal_to<>> taken;
  std::vector<std::uint32_t> free;
};

class Windowed {
 public:
  explicit Windowed(Window window) : window_(std::move(window)) {}
  bool read(std::uint64_t offset, MutableBytes out) { return window_.read(offset, out).has_value(); }
  bool write(std::uint64_t offset, Bytes in) { return window_.write(offset, in).has_value(); }

 private:
  Window window_;
};

class Bare {
 public:
  explicit Bare(session::Region region) : region_(std::move(region)), bytes_(region_.view->index()) {}
  bool read(std::uint64_t offset, MutableBytes out) {
    medium::copy_out_bytes(out.data(), bytes_ + offset, out.size());
    return true;
  }
  bool write(std::uint64_t offset, Bytes in) {
    medium::copy_in_bytes(bytes_ + offset, in.data(), in.size());
    return true;
  }

 private:
  session::Region region_;
  std::byte* bytes_;
};

template <class Way>
class PlaceClient final : public Client {
 public:
  PlaceClient(Way way, Places& places, std::uint64_t place_bytes)
      : way_(std::move(way)), places_(places), place_bytes_(place_bytes) {}

  std::ptrdiff_t get(std::string_view key, MutableBytes out) override {
    const auto found = places_.taken.find(key);
    if (found == places_.taken.end()) return none("");
    const Place place = found->second;
    if (place.bytes > out.size() || !way_.read(place.number * place_bytes_, out.first(place.bytes)))
      return none("a read failed");
    return place.bytes;
  }
  bool get_many(std::span<Lookup> lookups) override {
    for (Lookup& lookup : lookups) {
      const std::ptrdiff_t bytes = get(lookup.key, lookup.out);
      lookup.ok = bytes >= 0;
      if (lookup.ok) lookup.found.bytes = static_cast<std::size_t>(bytes);
    }
    return true;
  }
  bool put(std::string_view key, std::string_view value) override {
    return places_.taken.contains(key) ? update(key, value) : insert(key, value);
  }
  bool insert(std::string_view key, std::string_view value) override {
    if (places_.taken.contains(key)) return failed("");
    if (places_.free.empty() || value.size() > place_bytes_) return failed("there is no place for it");
    const std::uint32_t number = places_.free.back();
    if (!way_.write(number * place_bytes_, as_bytes(value))) return failed("a write failed");
    places_.free.pop_back();
    places_.taken.emplace(key, Place{number, static_cast<std::uint32_t>(value.size())});
    return true;
  }
  bool update(std::string_view key, std::string_view value) override {
    const auto found = places_.taken.find(key);
    if (found == places_.taken.end()) return failed("");
    if (value.size() > place_bytes_ || !way_.write(found->second.number * place_bytes_, as_bytes(value)))
      return failed("a write failed");
    found->second.bytes = static_cast<std::uint32_t>(value.size());
    return true;
  }
  bool erase(std::string_view key) override {
    const auto found = places_.taken.find(key);
    if (found == places_.taken.end()) return failed("");
    places_.free.push_back(found->second.number);
    places_.taken.erase(found);
    return true;
  }
  bool put_many(std::span<Write> writes) override {
    for (Write& write : writes)
      if (write.ok = put(write.key, write.value); !write.ok) return false;
    return true;
  }

 private:
  std::ptrdiff_t none(std::string why) {
    failed(std::move(why));
    return -1;
  }
  Way way_;
  Places& places_;
  std::uint64_t place_bytes_;
};

// What both systems have in common: where the bytes lie by chance weighs more than a window does.
struct Shelf {
  std::unique_ptr<OwnBroker> broker;
  std::uint64_t place_bytes = 0;
  Places places;

  static Result<std::shared_ptr<Shelf>> make(const StoreOptions& options) {
    auto shelf = std::make_shared<Shelf>();
    shelf->place_bytes = round_up(std::max<std::uint64_t>(options.value_bytes, 1), 64);
    // Mode shared, so that both may write it.
    shelf->broker =
        BAILEY_TRY(OwnBroker::start("raw", table::Mode::shared, options.records * shelf->place_bytes));
    shelf->places.taken.reserve(options.records);
    for (auto number = static_cast<std::uint32_t>(options.records); number-- > 0;)
      shelf->places.free.push_back(number);
    return shelf;
  }
};

class PlaceStore final : public Store {
 public:
  PlaceStore(std::shared_ptr<Shelf> shelf, bool windows) : shelf_(std::move(shelf)), windows_(windows) {}

  Result<std::unique_ptr<Client>> client(bool writes) override {
    Session session = BAILEY_TRY(shelf_->broker->session());
    const Access access = writes ? Access::read_write : Access::read_only;
    if (!windows_)
      return std::make_unique<PlaceClient<Bare>>(
          Bare(BAILEY_TRY(session.open_region(OwnBroker::region, access))), shelf_->places,
          shelf_->place_bytes);
    const Raw raw = BAILEY_TRY(session.open_raw(OwnBroker::region, access));
    return std::make_unique<PlaceClient<Windowed>>(Windowed(BAILEY_TRY(raw.acquire(0, raw.bytes(), access))),
                                                   shelf_->places, shelf_->place_bytes);
  }
  bool single_writer() const override { return true; }

 private:
  std::shared_ptr<Shelf> shelf_;
  bool windows_;
};

}  // namespace

void add_windows(std::vector<System>& systems) {
  const std::vector<Operation> operations = {Operation::get, Operation::update};
  const auto by = [shared = std::make_shared<std::weak_ptr<Shelf>>()](bool windows) {
    return [shared, windows](const StoreOptions& options) -> Result<std::unique_ptr<Store>> {
      std::shared_ptr<Shelf> shelf = shared->lock();
      if (!shelf) *shared = shelf = BAILEY_TRY(Shelf::make(options));
      return std::make_unique<PlaceStore>(std::move(shelf), windows);
    };
  };
  systems.push_back({"raw-copy", "plain bytes of a broker's raw region, copied; places in the process",
                     "raw-copy", operations, 1, by(false)});
  systems.push_back(
      {"raw-window", "the same bytes, through a window", "raw-window", operations, 1, by(true)});
}

}  // namespace bailey::bench
