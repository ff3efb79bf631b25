// Keys: which pages are closed to code outside of gates (protection keys of the processor, PKU).
//
// A processor has 16 hardware keys, and regions may be more. A Key is a key of ours: its pages carry a
// hardware key while it has one, and a key moves to another's hardware key only when no gate of that other is
// open. Pages of a key that has none carry the parked hardware key, which no gate ever opens. So a page is at
// all times either closed to every thread, or open to those that stand in a gate of its own key.
//
// The bound: gates of as many different keys can be open at once as there are hardware keys to be had, which
// is 14 (16, without the one that all other memory has and the parked one) less those that the program itself
// or guarded secrets took. Whoever wants to open one more waits `gate_wait_ms`, and is refused with `busy`.
//
// Hardware keys are never given back to the kernel (pkey_free), since the kernel would give them out again
// while a page may carry them or a thread may have them open.
//
// Fork: a forked child has none of the pages. What it did not inherit is no error to release.
//
// Thread-safe, but a Pin, which is for one thread at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bailey/base/error.h"
#include "bailey/base/fd.h"

namespace bailey::guard {

inline constexpr unsigned gate_wait_ms = 1000;

// Whether this process can guard memory. Error unsupported, by whom and why: the processor has no protection
// keys, the kernel does not use them, the program has taken them all, the window can't be reserved.
Status available();

class Pin;

class Key {
 public:
  // The key of a name; all who ask for one name have one key, as long as somebody has it. Error: those of
  // available().
  static Result<std::shared_ptr<Key>> named(std::string_view name);
  ~Key();
  Key(const Key&) = delete;

  const std::string& name() const { return name_; }

 private:
  friend class Gate;
  friend class Keys;
  friend class Pin;
  explicit Key(std::string_view name) : name_(name) {}

  std::string name_;
  // The hardware key that the pages carry; -1: parked. Written under the lock of Keys.
  std::atomic<int> hardware_{-1};
  std::vector<Pin*> pins_;  // under that lock
};

// Maps a whole file into the window; its pages carry the key from the first moment on. Not inherited by a
// forked child. Left out of core files too, which the kernel writes without asking for keys. Error: io (see
// Mapping::of_file), no_space (the window is full).
Result<Mapping> map_guarded(const std::shared_ptr<Key>& key, int fd, std::size_t bytes, Access access);

// One user of a key, who opens gates by it: while one is open the key stays on its hardware key. A word of
// its own for each user, so that those of one key don't meet in a cache line.
class alignas(64) Pin {
 public:
  explicit Pin(std::shared_ptr<Key> key);
  ~Pin();
  Pin(const Pin&) = delete;
  const std::shared_ptr<Key>& key() const { return key_; }

 private:
  friend class Gate;
  friend class Keys;
  // How many gates are open by it. Set by its thread before it looks for the key's hardware key; a move takes
  // the hardware key away before it looks here: one of the two sees the other.
  std::atomic<std::uint32_t> open_{0};
  std::shared_ptr<Key> key_;
};

// The bits of PKRU that close all hardware keys that any Key ever had.
std::uint32_t closed_bits();

}  // namespace bailey::guard
