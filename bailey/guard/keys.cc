#include "bailey/guard/keys.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <mutex>

#include "bailey/base/clock.h"
#include "bailey/guard/gate.h"
#include "bailey/guard/processor.h"
#include "bailey/guard/window.h"

namespace bailey::guard {
namespace {

constexpr unsigned hardware_keys_max = 16;
constexpr timespec pause_for_a_key{0, 100'000};

std::atomic<std::uint32_t> closed{0};

int protection_of(Access access) { return access == Access::read_write ? PROT_READ | PROT_WRITE : PROT_READ; }

}  // namespace

// All keys of this process, and who lies where.
class Keys {
 public:
  static Keys& instance() {
    // Never destroyed: a thread may still work while others end the process.
    static Keys* const keys = new Keys;
    return *keys;
  }

  Status available() {
    std::lock_guard hold(lock_);
    return available_locked();
  }

  Result<std::shared_ptr<Key>> named(std::string_view name) {
    std::lock_guard hold(lock_);
    BAILEY_TRY(available_locked());
    std::weak_ptr<Key>& known = keys_[std::string(name)];
    std::shared_ptr<Key> key = known.lock();
    if (key == nullptr) known = key = std::shared_ptr<Key>(new Key(name));
    return key;
  }

  void forget(Key* key) {
    std::lock_guard hold(lock_);
    for (Hardware& one : hardware_)
      if (one.holder == key) one.holder = nullptr;
    // Unless the name has a new key by now.
    if (auto known = keys_.find(key->name_); known != keys_.end() && known->second.expired())
      keys_.erase(known);
  }

  void add(Pin* pin) {
    std::lock_guard hold(lock_);
    pin->key_->pins_.push_back(pin);
  }
  void remove(Pin* pin) {
    std::lock_guard hold(lock_);
    std::erase(pin->key_->pins_, pin);
  }

  Result<std::byte*> map(const std::shared_ptr<Key>& key, int fd, std::size_t bytes, int protection) {
    if (bytes == 0) return fail(Code::invalid_argument, By::library, "a mapping of 0 bytes");
    std::lock_guard hold(lock_);
    std::byte* at = BAILEY_TRY(places_.take(bytes));
    // Closed until it carries the key.
    int os = 0;
    int carries = key->hardware_.load(std::memory_order_relaxed);
    if (::mmap(at, bytes, PROT_NONE, MAP_SHARED | flag_of_a_place(), fd, 0) == MAP_FAILED ||
        ::madvise(at, bytes, MADV_DONTFORK) != 0 || ::madvise(at, bytes, MADV_DONTDUMP) != 0 ||
        ::pkey_mprotect(at, bytes, protection, carries >= 0 ? carries : parked_) != 0)
      os = errno;
    if (os != 0) {
      places_.give_back(at, bytes);
      return fail_os(os, fmt::format("could not map {} bytes with a protection key", bytes));
    }
    ranges_.emplace(at, Range{bytes, protection, key});
    return at;
  }

  void release(std::byte* at) {
    // The last who has a key takes the lock to make it go: after this one is released.
    std::shared_ptr<Key> key;
    std::lock_guard hold(lock_);
    auto range = ranges_.find(at);
    if (range == ranges_.end()) return;
    key = std::move(range->second.key);
    std::size_t bytes = range->second.bytes;
    ranges_.erase(range);
    places_.give_back(at, bytes);
  }

  // Gives the key a hardware key and counts a gate of the pin, so that it stays.
  Status open(Pin& pin) {
    for (const std::uint64_t until = monotonic_ns() + std::uint64_t{gate_wait_ms} * 1'000'000;;) {
      {
        std::lock_guard hold(lock_);
        bool bound = BAILEY_TRY(bind(*pin.key_));
        if (bound) {
          pin.open_.fetch_add(1, std::memory_order_seq_cst);
          return {};
        }
      }
      if (monotonic_ns() > until)
        return fail(Code::busy, By::library,
                    fmt::format("no gate of {}: gates of {} other regions are open in this process, and the "
                                "processor has no more protection keys",
                                pin.key_->name_, hardware_.size()),
                    "use fewer regions at the same moment, in fewer threads");
      ::nanosleep(&pause_for_a_key, nullptr);
    }
  }

 private:
  struct Range {
    std::size_t bytes;
    int protection;
    std::shared_ptr<Key> key;
  };
  struct Hardware {
    int number;
    Key* holder;
  };

  Keys() {
    ::pthread_atfork([] { instance().lock_.lock(); }, [] { instance().lock_.unlock(); },
                     [] {
                       instance().forked();
                       instance().lock_.unlock();
                     });
  }

  Status available_locked() {
    if (parked_ >= 0) return {};
    BAILEY_TRY(processor_has_keys());
    BAILEY_TRY(reserve_window());
    int got = allocate();
    if (got < 0)
      return std::unexpected(Error{Code::unsupported, By::kernel, -got,
                                   "this process gets no protection key (pkey_alloc)",
                                   "the program itself may have taken them all"});
    parked_ = got;
    return {};
  }

  // A hardware key that this thread, like all others, has closed; or the negative errno. Never 0, which all
  // other memory has: a filter of system calls that says so is not believed.
  static int allocate() {
    int got = ::pkey_alloc(0, PKEY_DISABLE_ACCESS);
    if (got <= 0) return got < 0 ? -errno : -EINVAL;
    closed.fetch_or(1u << (2 * got), std::memory_order_relaxed);
    return got;
  }

  // Whether the key has a hardware key now. Error io: the kernel refused to change pages.
  Result<bool> bind(Key& key) {
    if (key.hardware_.load(std::memory_order_relaxed) >= 0) return true;
    Hardware* free = nullptr;
    for (Hardware& one : hardware_)
      if (one.holder == &key || (one.holder == nullptr && free == nullptr)) free = &one;
    if (free == nullptr && hardware_.size() < hardware_keys_max)
      if (int got = allocate(); got >= 0) free = &hardware_.emplace_back(got, nullptr);
    for (std::size_t i = 0; free == nullptr && i < hardware_.size(); ++i) {
      // In turns, so that it is not always the same one that has to move.
      Hardware& next = hardware_[++turn_ % hardware_.size()];
      if (BAILEY_TRY(park(next))) free = &next;
    }
    if (free == nullptr) return false;
    // Whatever fails now, pages may carry it from here on.
    free->holder = &key;
    BAILEY_TRY(carry(key, free->number));
    key.hardware_.store(free->number, std::memory_order_seq_cst);
    return true;
  }

  // Takes the hardware key from a key of which no gate is open. Where the kernel refuses to park all pages it
  // stays the holder's, who has no gate open, so that none of its pages is open to anybody.
  Result<bool> park(Hardware& one) {
    Key& key = *one.holder;
    const int had = key.hardware_.exchange(-1, std::memory_order_seq_cst);
    if (std::any_of(key.pins_.begin(), key.pins_.end(),
                    [](const Pin* pin) { return pin->open_.load(std::memory_order_seq_cst) != 0; })) {
      key.hardware_.store(had, std::memory_order_seq_cst);
      return false;
    }
    BAILEY_TRY(carry(key, parked_));
    one.holder = nullptr;
    return true;
  }

  // Makes all pages of a key carry a hardware key.
  Status carry(const Key& key, int number) {
    for (auto& [at, range] : ranges_)
      if (range.key.get() == &key && ::pkey_mprotect(at, range.bytes, range.protection, number) != 0)
        return fail_os(errno, fmt::format("could not move the protection key of {}", key.name_),
                       "raise vm.max_map_count, or use fewer regions at once");
    return {};
  }

  // In the child of a fork, which has none of the pages: their addresses are reserved again, and the hardware
  // keys are free. What the other threads of the parent had open is open nowhere.
  void forked() {
    for (auto& [at, range] : ranges_) {
      places_.give_back(at, range.bytes);
      without_pages_.push_back(std::move(range.key));
    }
    ranges_.clear();
    for (Hardware& one : hardware_) one.holder = nullptr;
    for (auto& [name, known] : keys_)
      if (std::shared_ptr<Key> key = known.lock()) {
        key->hardware_.store(-1, std::memory_order_relaxed);
        for (Pin* pin : key->pins_) pin->open_.store(0, std::memory_order_relaxed);
        without_pages_.push_back(std::move(key));
      }
  }

  std::mutex lock_;
  int parked_ = -1;
  std::vector<Hardware> hardware_;
  std::size_t turn_ = 0;
  std::map<std::string, std::weak_ptr<Key>> keys_;
  std::map<std::byte*, Range> ranges_;
  Places places_;
  // Kept in a forked child, where to let them go would take the lock that is held.
  std::vector<std::shared_ptr<Key>> without_pages_;
};

Status available() { return Keys::instance().available(); }
std::uint32_t closed_bits() { return closed.load(std::memory_order_relaxed); }

Result<std::shared_ptr<Key>> Key::named(std::string_view name) { return Keys::instance().named(name); }
Key::~Key() { Keys::instance().forget(this); }

Pin::Pin(std::shared_ptr<Key> key) : key_(std::move(key)) { Keys::instance().add(this); }
Pin::~Pin() { Keys::instance().remove(this); }

Status Gate::bind(Pin& pin) { return Keys::instance().open(pin); }

Result<Mapping> map_guarded(const std::shared_ptr<Key>& key, int fd, std::size_t bytes, Access access) {
  std::byte* at = BAILEY_TRY(Keys::instance().map(key, fd, bytes, protection_of(access)));
  return Mapping::of_memory(at, bytes, [](std::byte* base, std::size_t) { Keys::instance().release(base); });
}

}  // namespace bailey::guard
