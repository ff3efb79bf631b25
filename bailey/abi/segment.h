/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
 *
 * The layout of a segment: one file of a region, written by one process for its whole life.
 * docs/formats.md has it byte by byte with a worked example; change both together and raise
 * BAILEY_SEGMENT_VERSION. All integers are little-endian. C11, shared with the kernel module.
 */
#ifndef BAILEY_ABI_SEGMENT_H
#define BAILEY_ABI_SEGMENT_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stddef.h>
#include <stdint.h>
#endif

#ifdef __cplusplus
#define BAILEY_STATIC_ASSERT(condition, text) static_assert(condition, text)
#else
#define BAILEY_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif

#define BAILEY_SEGMENT_MAGIC 0x3147455359454c42ull /* "BLEYSEG1" */
#define BAILEY_SEGMENT_VERSION 1u

/* A page is the unit that is given to one size class. */
#define BAILEY_PAGE_BYTES 65536u
#define BAILEY_PAGE_SHIFT 16

/* What a writer tells the others, at fixed places of its segment (its "desk"). */
#define BAILEY_ANNOUNCEMENTS 8u /* slot values that it is about to replace */
#define BAILEY_HINTS 2048u      /* ring of slot values that it replaced and that others own */

#define BAILEY_SEGMENT_HEADER_OFFSET 0u
#define BAILEY_SEGMENT_DESK_OFFSET 4096u
#define BAILEY_SEGMENT_PAGE_WORDS_OFFSET 28672u

/* Bytes 0..4095. Written by the broker before the writer gets the file, never after. Readers take sizes from
 * the broker, not from here: the writer can change it. It is for inspection and for persistent media. */
struct bailey_segment_header {
  uint64_t magic;
  uint32_t version;
  uint32_t layout; /* BAILEY_LAYOUT of the build that wrote it */
  uint64_t bytes;  /* of the whole file */
  uint32_t pages;
  uint32_t data_offset; /* of page 0; a multiple of BAILEY_PAGE_BYTES */
  uint8_t region[16];   /* id of the region */
  uint32_t segment;     /* its number in the pool, 1..65535 */
  uint32_t writer;      /* writer id */
  uint8_t reserved[4040];
};
BAILEY_STATIC_ASSERT(sizeof(struct bailey_segment_header) == 4096, "segment header is one small page");

/* Bytes 4096..28671: the desk. Only the desk of a writer's first segment is used. */
struct bailey_desk {
  uint64_t announced[BAILEY_ANNOUNCEMENTS]; /* one cache line */
  uint64_t hints_head;                      /* how many hints were ever written */
  uint64_t reserved[7];
  uint64_t hints[BAILEY_HINTS]; /* hint n is at n % BAILEY_HINTS */
};
BAILEY_STATIC_ASSERT(sizeof(struct bailey_desk) == 128 + 8 * BAILEY_HINTS, "desk has no padding");
BAILEY_STATIC_ASSERT(BAILEY_SEGMENT_DESK_OFFSET + 128 + 8 * BAILEY_HINTS <= BAILEY_SEGMENT_PAGE_WORDS_OFFSET,
                     "desk ends before the page words");

/* A page word: counter (40 bits) | class (8 bits) | run (16 bits).
 * The counter grows whenever the page's class changes. Class 0: the page holds no records. Class
 * BAILEY_CLASS_RUN: a single record that fills `run` pages from here on. Other classes: blocks of
 * bailey_class_bytes[class] from the page's first byte on. */
#define BAILEY_CLASS_FREE 0u
#define BAILEY_CLASS_RUN 255u
#define BAILEY_PAGE_WORD_CLASS_SHIFT 16
#define BAILEY_PAGE_WORD_COUNTER_SHIFT 24

/* A record is at the start of a block:
 *   word     version << 1 | busy. Busy while it is written and when it is free; 0 was never written.
 *   lengths  value bytes (32 bits) << 32 | key bytes (16 bits) << 16 | generation (16 bits, 0: not sealed)
 *   key, padded with zeros to 8 bytes; value, padded likewise.
 * Of an encrypted region, sealed under the region's key of that generation, in place of the last line:
 *   SipHash-2-4-128 of the key under the region's hash key (16 bytes);
 *   tag of the value (16 bytes); tag of the key (16 bytes);
 *   the value, encrypted, padded with zeros to 8 bytes; the key, likewise.
 * Of a signed region, behind that:
 *   proof    place in the batch (8 bits) << 8 | hashes of the path (8 bits); other bits are 0
 *   the signature of the batch's root (64 bytes); the path, 32 bytes a hash.
 * A version is writer id (31 bits) << 32 | counter (32 bits), and never repeats in a pool. */
#define BAILEY_RECORD_HEADER_BYTES 16u
#define BAILEY_SEALED_HEADER_BYTES 48u /* hash and tags of a sealed record */
#define BAILEY_PROOF_BYTES 72u         /* the proof's word and signature */
#define BAILEY_PROOF_HASH_BYTES 32u    /* each hash of its path */
#define BAILEY_PROOF_HASHES_MAX 4u
#define BAILEY_BLOCK_UNIT 16u /* blocks start at multiples of this */

/* A slot of a table's index: tentative (1 bit) | tag (15) | segment (16) | offset / 16 (32). 0 is empty. */
#define BAILEY_SLOT_TENTATIVE (1ull << 63)
#define BAILEY_SLOT_TAG_SHIFT 48
#define BAILEY_SLOT_TAG_MASK 0x7fffull
#define BAILEY_SLOT_SEGMENT_SHIFT 32

/* Index of a table: header (4096 bytes), buckets, overflow buckets, claims (uint32_t an overflow bucket:
 * 0 free, else 1 + number of the primary bucket whose chain it is in). A bucket is one cache line. */
#define BAILEY_INDEX_MAGIC 0x3158444959454c42ull /* "BLEYIDX1" */
#define BAILEY_INDEX_VERSION 1u
#define BAILEY_BUCKET_SLOTS 7u
#define BAILEY_INDEX_BUCKETS_OFFSET 4096u

struct bailey_bucket {
  uint64_t slots[BAILEY_BUCKET_SLOTS];
  uint64_t link; /* 0, or 1 + number of the overflow bucket that goes on */
};
BAILEY_STATIC_ASSERT(sizeof(struct bailey_bucket) == 64, "a bucket is one cache line");

struct bailey_index_header {
  uint64_t magic;
  uint32_t version;
  uint32_t layout;
  uint64_t hash_seed;
  uint64_t buckets;
  uint64_t overflow_buckets;
  uint8_t mode; /* 1 exclusive, 2 shared */
  uint8_t reserved[4055];
};
BAILEY_STATIC_ASSERT(sizeof(struct bailey_index_header) == 4096, "index header is one small page");

#endif /* BAILEY_ABI_SEGMENT_H */
