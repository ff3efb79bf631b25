/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
 *
 * The layout of a capability token: a grant that can be carried, and narrowed by whoever carries it.
 * docs/formats.md has it byte by byte with a worked example; change both together and raise
 * BAILEY_TOKEN_VERSION. All integers are little-endian. C11, shared with the kernel module.
 *
 *   header | caveat ... | tag
 *
 * The tag is HMAC-SHA-256, whole: of the header under the key of the audience, then of each caveat under the
 * tag that was there before it. So whoever has a token can add a caveat and nobody can take one away. No
 * field tells how many caveats there are, since it would change with each: they fill what is between header
 * and tag.
 */
#ifndef BAILEY_ABI_TOKEN_H
#define BAILEY_ABI_TOKEN_H

#include "bailey/abi/segment.h"

#define BAILEY_TOKEN_MAGIC 0x314b4f5459454c42ull /* "BLEYTOK1" */
#define BAILEY_TOKEN_VERSION 1u
#define BAILEY_TOKEN_BYTES_MAX 512u
#define BAILEY_TOKEN_CAVEATS_MAX 8u
#define BAILEY_TOKEN_TAG_BYTES 32u

/* Who verifies it, and with which key. One for the broker is carried from principal to principal; its number
 * and generation are 0. One for a session is of one open region of it. */
#define BAILEY_TOKEN_AUDIENCE_BROKER 1u
#define BAILEY_TOKEN_AUDIENCE_SESSION 2u

#define BAILEY_TOKEN_RIGHTS_READ 1u
#define BAILEY_TOKEN_RIGHTS_WRITE 2u /* reading included */

#define BAILEY_TOKEN_FLAG_BEARER 1u /* whoever has it may use it; else a caveat names who */

struct bailey_token_header {
  uint64_t magic;
  uint8_t version;
  uint8_t audience;
  uint8_t rights;
  uint8_t flags;
  uint32_t grant;      /* of a session: which grant word; of the broker: 0 */
  uint64_t number;     /* of a session: its number */
  uint64_t generation; /* of a session: value of the grant word when the region was opened */
  uint8_t pool[16];
  uint8_t region[16];
  uint8_t id[16]; /* random; what is revoked, and what logs may name */
};
BAILEY_STATIC_ASSERT(sizeof(struct bailey_token_header) == 80, "token header has no padding");

/* A caveat: kind, number of bytes, the bytes. All caveats of a token must hold. */
struct bailey_token_caveat {
  uint8_t kind;
  uint8_t bytes;
};
BAILEY_STATIC_ASSERT(sizeof(struct bailey_token_caveat) == 2, "the head of a caveat has no padding");

/* Range: offset, length, 8 bytes each; the length is not 0, the sum within 64 bits. Prefix: 1..255 bytes that
 * keys begin with. Rights: 1 byte. Expiry: 8 bytes, seconds since 1970 when it holds no more, not 0. Holder:
 * 1..63 bytes of a-z 0-9 -, a principal of the policy. */
#define BAILEY_TOKEN_CAVEAT_RANGE 1u
#define BAILEY_TOKEN_CAVEAT_PREFIX 2u
#define BAILEY_TOKEN_CAVEAT_RIGHTS 3u
#define BAILEY_TOKEN_CAVEAT_EXPIRY 4u
#define BAILEY_TOKEN_CAVEAT_HOLDER 5u

#endif /* BAILEY_ABI_TOKEN_H */
