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

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define BAILEY_COPIES_ARE_WATCHED 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || !defined(__x86_64__)
#define BAILEY_COPIES_ARE_WATCHED 1
#endif

// 64 bytes at once. In assembler, because to the language a racing copy by vectors is undefined, while the
// processor just gives old and new bytes, which is all that validation needs. Sanitizers see words instead.
#ifndef BAILEY_COPIES_ARE_WATCHED
inline void copy_64(void* to, const void* from) {
  asm volatile(
      "movdqu (%[from]), %%xmm0\n\t"
      "movdqu 16(%[from]), %%xmm1\n\t"
      "movdqu 32(%[from]), %%xmm2\n\t"
      "movdqu 48(%[from]), %%xmm3\n\t"
      "movdqu %%xmm0, (%[to])\n\t"
      "movdqu %%xmm1, 16(%[to])\n\t"
      "movdqu %%xmm2, 32(%[to])\n\t"
      "movdqu %%xmm3, 48(%[to])"
      :
      : [from] "r"(from), [to] "r"(to)
      : "xmm0", "xmm1", "xmm2", "xmm3", "memory");
}
#endif

// Copies `bytes` bytes out of words of the pool; `from` is aligned to 8 and readable to padded(bytes).
inline void copy_out(void* to, const std::byte* from, std::size_t bytes) {
  auto* out = static_cast<std::byte*>(to);
#ifndef BAILEY_COPIES_ARE_WATCHED
  for (; bytes >= 64; bytes -= 64, from += 64, out += 64) copy_64(out, from);
#endif
  for (; bytes >= 8; bytes -= 8, from += 8, out += 8) {
    Word word = load_relaxed(reinterpret_cast<const Word*>(from));
    std::memcpy(out, &word, 8);
  }
  if (bytes != 0) {
    Word word = load_relaxed(reinterpret_cast<const Word*>(from));
    std::memcpy(out, &word, bytes);
  }
}

// The last `count` (1..7) of the `bytes` bytes at `from` as a word filled with zeros. Loads that overlap what
// came before are much quicker than copying few bytes one by one.
inline Word tail_word(const void* from, std::size_t bytes, std::size_t count) {
  const auto* end = static_cast<const std::byte*>(from) + bytes;
  Word word = 0;
  if (bytes >= 8) [[likely]] {
    std::memcpy(&word, end - 8, 8);
    return word >> (8 * (8 - count));
  }
  for (std::size_t i = 1; i <= count; ++i) word = word << 8 | static_cast<Word>(*(end - i));
  return word;
}

// Copies `bytes` bytes into words of the pool, the last one filled with zeros; `to` is aligned to 8.
inline void copy_in(std::byte* to, const void* from, std::size_t bytes) {
  const auto* in = static_cast<const std::byte*>(from);
  const std::size_t all = bytes;
#ifndef BAILEY_COPIES_ARE_WATCHED
  for (; bytes >= 64; bytes -= 64, in += 64, to += 64) copy_64(to, in);
#endif
  for (; bytes >= 8; bytes -= 8, in += 8, to += 8) {
    Word word;
    std::memcpy(&word, in, 8);
    store_relaxed(reinterpret_cast<Word*>(to), word);
  }
  if (bytes != 0) store_relaxed(reinterpret_cast<Word*>(to), tail_word(from, all, bytes));
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
  return load_relaxed(words + whole) == tail_word(text.data(), text.size(), text.size() % 8);
}

}  // namespace bailey::medium
