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

#ifdef __SSE2__
#include <emmintrin.h>
#endif

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

// In assembler: g++ takes a function that does nothing but __builtin_prefetch for one without effect, and
// drops its calls; and it turns a prefetch to write into one to read where it compiles for every x86-64. A
// processor that lacks prefetchw takes it for a nop.
inline void prefetch(const void* at) {
#ifdef __x86_64__
  asm volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(at)));
#else
  __builtin_prefetch(at, 0, 3);
#endif
}
inline void prefetch_to_write(const void* at) {
#ifdef __x86_64__
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(at)));
#else
  __builtin_prefetch(at, 1, 3);
#endif
}

constexpr std::size_t padded(std::size_t bytes) { return (bytes + 7) & ~std::size_t{7}; }

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define BAILEY_COPIES_ARE_WATCHED 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || !defined(__x86_64__)
#define BAILEY_COPIES_ARE_WATCHED 1
#endif

// Many bytes, by the C library's copy for this processor. To the language a racing copy by anything but
// atomics is undefined, while the processor just gives old and new bytes, which is all that validation needs;
// so the compiler is told nothing of what is copied. Sanitizers see words instead.
#ifndef BAILEY_COPIES_ARE_WATCHED
inline void copy_bytes(void* to, const void* from, std::size_t bytes) {
  asm volatile("" : "+r"(to), "+r"(from) : : "memory");
  std::memcpy(to, from, bytes);
  asm volatile("" : : : "memory");
}
#endif

// Which of the eight words of a line have `high` as their highest 16 bits: bit i for word i. Without a
// branch, so that a processor goes on past it to the next lookup. Each word is looked at once, in no order: a
// hint, whoever uses a word loads it again.
[[gnu::always_inline]] inline unsigned words_with_high_16(const Word* line, std::uint16_t high) {
#ifndef BAILEY_COPIES_ARE_WATCHED
  // Loaded in assembler for the same reason as in copy_bytes; each aligned word of 8 bytes is loaded whole.
  auto pair = [line](int at) {
    __m128i two;
    asm volatile("movdqu %1, %0" : "=x"(two) : "m"(*reinterpret_cast<const __m128i*>(line + at)));
    return _mm_castsi128_ps(_mm_srli_epi64(two, 48));
  };
  const __m128i wanted = _mm_set1_epi32(high);
  const __m128i low_four = _mm_castps_si128(_mm_shuffle_ps(pair(0), pair(2), 0x88));
  const __m128i high_four = _mm_castps_si128(_mm_shuffle_ps(pair(4), pair(6), 0x88));
  const __m128i same = _mm_packs_epi32(_mm_cmpeq_epi32(low_four, wanted), _mm_cmpeq_epi32(high_four, wanted));
  return static_cast<unsigned>(_mm_movemask_epi8(_mm_packs_epi16(same, _mm_setzero_si128())));
#else
  unsigned same = 0;
  for (unsigned i = 0; i < 8; ++i) same |= static_cast<unsigned>(load_relaxed(line + i) >> 48 == high) << i;
  return same;
#endif
}

// Copies `bytes` bytes out of words of the pool; `from` is aligned to 8 and readable to padded(bytes).
inline void copy_out(void* to, const std::byte* from, std::size_t bytes) {
#ifndef BAILEY_COPIES_ARE_WATCHED
  copy_bytes(to, from, bytes);
#else
  auto* out = static_cast<std::byte*>(to);
  for (; bytes >= 8; bytes -= 8, from += 8, out += 8) {
    Word word = load_relaxed(reinterpret_cast<const Word*>(from));
    std::memcpy(out, &word, 8);
  }
  if (bytes != 0) {
    Word word = load_relaxed(reinterpret_cast<const Word*>(from));
    std::memcpy(out, &word, bytes);
  }
#endif
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
[[gnu::always_inline]] inline void copy_in(std::byte* to, const void* from, std::size_t bytes) {
  const auto* in = static_cast<const std::byte*>(from);
  const std::size_t all = bytes;
#ifndef BAILEY_COPIES_ARE_WATCHED
  if (bytes >= 64) {
    const std::size_t words = bytes & ~std::size_t{7};
    copy_bytes(to, in, words);
    to += words;
    in += words;
    bytes -= words;
  }
#endif
  for (; bytes >= 8; bytes -= 8, in += 8, to += 8) {
    Word word;
    std::memcpy(&word, in, 8);
    store_relaxed(reinterpret_cast<Word*>(to), word);
  }
  if (bytes != 0) store_relaxed(reinterpret_cast<Word*>(to), tail_word(from, all, bytes));
}

// Bytes at any place and of any number, where nothing but these bytes may be touched and nothing is
// validated: a copy that races with another gives old and new bytes.
inline void copy_out_bytes(void* to, const std::byte* from, std::size_t bytes) {
#ifndef BAILEY_COPIES_ARE_WATCHED
  copy_bytes(to, from, bytes);
#else
  auto* out = static_cast<std::byte*>(to);
  for (std::size_t i = 0; i < bytes; ++i) __atomic_load(from + i, out + i, __ATOMIC_RELAXED);
#endif
}
inline void copy_in_bytes(std::byte* to, const void* from, std::size_t bytes) {
#ifndef BAILEY_COPIES_ARE_WATCHED
  copy_bytes(to, from, bytes);
#else
  const auto* in = static_cast<const std::byte*>(from);
  for (std::size_t i = 0; i < bytes; ++i) {
    std::byte byte = in[i];
    __atomic_store(to + i, &byte, __ATOMIC_RELAXED);
  }
#endif
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
