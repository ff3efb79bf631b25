/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
 *
 * The control page: one file of the broker, which alone writes it; sessions map it read-only.
 * It holds no names and no secrets: whoever has a session may read all of it. docs/formats.md has it byte by
 * byte. All integers are little-endian. C11, shared with the kernel module.
 */
#ifndef BAILEY_ABI_CONTROL_H
#define BAILEY_ABI_CONTROL_H

#include "bailey/abi/segment.h"

#define BAILEY_CONTROL_MAGIC 0x314c544359454c42ull /* "BLEYCTL1" */
#define BAILEY_CONTROL_VERSION 1u
#define BAILEY_GRANT_WORDS 8192u
#define BAILEY_REGIONS_MAX 512u

struct bailey_control_header {
  uint64_t magic;
  uint32_t version;
  uint32_t layout;
  uint8_t pool[16];      /* id of the pool, drawn when it was formatted */
  uint64_t broker_epoch; /* grows by one whenever a broker starts on the pool */
  uint8_t reserved[4056];
};
BAILEY_STATIC_ASSERT(sizeof(struct bailey_control_header) == 4096, "control header is one small page");

/* One a region, by its number. */
struct bailey_control_region {
  uint64_t membership; /* grows whenever a writer comes, goes or dies, or a segment freezes or is retired */
  uint64_t reserved[7];
};
BAILEY_STATIC_ASSERT(sizeof(struct bailey_control_region) == 64, "a region's row is one cache line");

/* A grant word, one an open region of a session: changes with every event that its holder must hear of
 * (revocation, expiry, a new index, a retired segment). A holder compares it with the value that it was told.
 * One cache line each, so that a bump disturbs one session only. */
struct bailey_grant_word {
  uint64_t value;
  uint64_t reserved[7];
};
BAILEY_STATIC_ASSERT(sizeof(struct bailey_grant_word) == 64, "a grant word is one cache line");

struct bailey_control {
  struct bailey_control_header header;
  struct bailey_control_region regions[BAILEY_REGIONS_MAX];
  struct bailey_grant_word grants[BAILEY_GRANT_WORDS];
};
BAILEY_STATIC_ASSERT(sizeof(struct bailey_control) ==
                         4096 + 64 * BAILEY_REGIONS_MAX + 64 * BAILEY_GRANT_WORDS,
                     "control has no padding");

/* What both sides of a socket and all mappers of a file must have been built with: a number that changes with
 * any layout in this folder. */
#define BAILEY_LAYOUT 1u

#endif /* BAILEY_ABI_CONTROL_H */
