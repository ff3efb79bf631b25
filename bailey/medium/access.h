// The choke point for memory that other parties map: every word that a structure loads from the pool, stores
// or copies goes through these functions.
//
// All are relaxed or ordered atomic accesses of 8-byte words, so that a copy that races with a writer has a
// defined outcome (torn, and then refused by validation) and the thread sanitizer can watch the protocol. On
// x86-64 they are plain moves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace bailey::medium {

using Word = std::uint64_t;

inline Word load_acquire(const Word* at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
inline Word load_relaxed(const Word* at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }
inline void store_release(Word* at, Word value) { __atomic_store_n(at, value, __ATOMIC_RELEASE); }
inline void store_relaxed(Word* at, Word value) { __atomic_store_n(at, value, __ATOMIC_RELAXED); }
// Whether `at` held `expected` and now holds `desired`. Sequentially consistent.
inline bool cas(Word* at, Word expected, Word desired) {
  return __atomic_compare_exchange_n(at, &expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE);
}
// A store that every later load of this thread comes after, in the order that all threads agree on.
inline void store_then_fence(Word* at, Word value) { __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST); }

inline void prefetch(const void* at) { __builtin_prefetch(at, 0, 3); }
inline void prefetch_to_write(const void* at) { __builtin_prefetch(at, 1, 3); }

constexpr std::size_t padded(std::size_t bytes) { return (bytes + 7) & ~std::size_t{7}; }

// Copies `bytes` bytes out of words of the pool; `from` is aligned to 8 and readable to padded(bytes).
inline void copy_out(void* to, const std::byte* from, std::size_t bytes) {
  const auto* words = reinterpret_cast<const Word*>(from);
  auto* out = static_cast<std::byte*>(to);
  std::size_t whole = bytes / 8;
#pragma GCC unroll 8
  for (std::size_t i = 0; i < whole; ++i) {
    Word word = load_relaxed(words + i);
    std::memcpy(out + i * 8, &word, 8);
  }
  if (bytes % 8 != 0) {
    Word word = load_relaxed(words + whole);
    std::memcpy(out + whole * 8, &word, bytes % 8);
  }
}

// Copies `bytes` bytes into words of the pool, the last one filled with zeros; `to` is aligned to 8.
inline void copy_in(std::byte* to, const void* from, std::size_t bytes) {
  auto* words = reinterpret_cast<Word*>(to);
  const auto* in = static_cast<const std::byte*>(from);
  std::size_t whole = bytes / 8;
#pragma GCC unroll 8
  for (std::size_t i = 0; i < whole; ++i) {
    Word word;
    std::memcpy(&word, in + i * 8, 8);
    store_relaxed(words + i, word);
  }
  if (bytes % 8 != 0) {
    Word word = 0;
    std::memcpy(&word, in + whole * 8, bytes % 8);
    store_relaxed(words + whole, word);
  }
}

// Whether the words at `from` spell `text` and zeros to the next multiple of 8.
inline bool equal(const std::byte* from, std::string_view text) {
  const auto* words = reinterpret_cast<const Word*>(from);
  std::size_t whole = text.size() / 8;
  for (std::size_t i = 0; i < whole; ++i) {
    Word word;
    std::memcpy(&word, text.data() + i * 8, 8);
    if (load_relaxed(words + i) != word) return false;
  }
  if (text.size() % 8 == 0) return true;
  Word word = 0;
  std::memcpy(&word, text.data() + whole * 8, text.size() % 8);
  return load_relaxed(words + whole) == word;
}

}  // namespace bailey::medium
