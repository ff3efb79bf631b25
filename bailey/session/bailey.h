/* SPDX-License-Identifier: Apache-2.0
 *
 * Bailey for C: sessions and tables. C11; every call is the plain form of one of session.h and table.h.
 *
 *   bailey_session *session;
 *   bailey_table *orders;
 *   if (bailey_connect(NULL, &session) != 0 || bailey_open_table(session, "orders", BAILEY_WRITE, &orders) !=
 * 0) fprintf(stderr, "%s\n", bailey_error()->text);
 *
 * Results. Every call returns 0, or one of the BAILEY_... codes below; out parameters are set only with 0,
 * unless said otherwise. bailey_error() tells the rest of the last failure of the calling thread.
 *
 * Thread safety. A session and its tables are for one thread at a time. bailey_error() is the calling
 * thread's own.
 *
 * Fork. In a forked child every call on a parent's session or table returns BAILEY_FORKED. Close them there
 * or not; closing touches nothing of the parent's.
 *
 * Bytes. Keys (0..4096 bytes) and values (0..16 MiB) are any bytes. A pointer may be NULL where its length is
 * 0. No C++ exception leaves these functions.
 */
#ifndef BAILEY_SESSION_BAILEY_H
#define BAILEY_SESSION_BAILEY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BAILEY_API __attribute__((visibility("default")))

typedef struct bailey_session bailey_session;
typedef struct bailey_table bailey_table;
typedef struct bailey_raw bailey_raw;
typedef struct bailey_window bailey_window;

/* ---- results
 * ---------------------------------------------------------------------------------------------------- */

/* Stable: the numbers never change, new ones come at the end. */
enum {
  BAILEY_OK = 0,
  BAILEY_INVALID_ARGUMENT = 1, /* the caller's argument is wrong; nothing was tried */
  BAILEY_NOT_FOUND = 2,        /* no such key, region, principal */
  BAILEY_EXISTS = 3,           /* insert of a key that is there */
  BAILEY_VERSION_MISMATCH = 4, /* the record has another version now */
  BAILEY_CONTENDED = 5,        /* gave up after a stated number of steps against others; try again */
  BAILEY_CORRUPT = 6,          /* bytes in shared memory or in a message contradict themselves */
  BAILEY_INDEX_FULL = 7,       /* the table's index has no slot left for this key */
  BAILEY_NO_SPACE = 8,         /* machine, cgroup, file system or this process has too little left */
  BAILEY_QUOTA = 9,            /* the grant's or the region's quota is used up */
  BAILEY_DENIED = 10,          /* policy gives this principal no such right */
  BAILEY_UNAVAILABLE = 11,     /* the broker is away */
  BAILEY_REVOKED = 12,         /* the grant ended while it was held */
  BAILEY_UNSUPPORTED = 13,     /* this machine, medium or mode can't do it */
  BAILEY_INCOMPATIBLE = 14,    /* another version or build */
  BAILEY_TIMED_OUT = 15,
  BAILEY_IO = 16,              /* a system call failed; bailey_error()->os has errno */
  BAILEY_CLOSED = 17,          /* the session has ended */
  BAILEY_FORKED = 18,          /* the handle belongs to the parent process */
  BAILEY_TOO_LARGE = 19,       /* key, value or buffer beyond its limit */
  BAILEY_UNAUTHENTICATED = 20, /* identity could not be shown */
  BAILEY_BUSY = 21             /* somebody else holds what only one may hold */
};

/* Who refused. */
enum { BAILEY_BY_LIBRARY = 1, BAILEY_BY_BROKER = 2, BAILEY_BY_KERNEL = 3, BAILEY_BY_PEER = 4 };

struct bailey_error_info {
  int code;            /* of the calling thread's last call that failed; 0 where none did */
  int by;              /* BAILEY_BY_... */
  int os;              /* errno, or 0 */
  const char* message; /* what was refused and why; never NULL */
  const char* remedy;  /* what to do, or "" */
  const char* text;    /* all of it as one paragraph */
};
/* The strings are valid until the thread's next call of bailey_error(). */
BAILEY_API const struct bailey_error_info* bailey_error(void);
/* "not found" for BAILEY_NOT_FOUND, and so on; static. */
BAILEY_API const char* bailey_code_name(int code);

/* ---- versions
 * --------------------------------------------------------------------------------------------------- */

BAILEY_API const char* bailey_version(void); /* "0.1.0" */
BAILEY_API unsigned bailey_layout_version(
    void); /* of what lies in shared memory: both sides must have the same */
BAILEY_API unsigned bailey_protocol_version(void); /* of the messages to the broker */

/* ---- sessions
 * --------------------------------------------------------------------------------------------------- */

/* Zeros (or a NULL pointer) are the defaults. */
struct bailey_options {
  const char* socket_path; /* NULL: $BAILEY_SOCKET, or the usual place (see session.h) */
  const char* key_file;    /* secret key of a `key:` principal; NULL: the session is who the kernel says */
  const char* broker_key;  /* base64 of the broker's public key, to accept no other; NULL */
  unsigned timeout_ms;     /* how long a call may wait for the broker; 0: 2000 */
  int allow_dump;          /* not 0: leave the process dumpable (ptrace, core files) */
};

BAILEY_API int bailey_connect(const struct bailey_options* options, bailey_session** session);
/* Tables that are still open go on; the connection ends with the last of them. NULL is allowed. */
BAILEY_API void bailey_close(bailey_session* session);

/* ---- tables
 * ----------------------------------------------------------------------------------------------------- */

enum { BAILEY_READ = 0, BAILEY_WRITE = 1 };

BAILEY_API int bailey_open_table(bailey_session* session, const char* region, int access,
                                 bailey_table** table);
/* The same by a token, as text (what `bailey token mint` prints), and not by a grant of the session's own.
 * BAILEY_INVALID_ARGUMENT where the text is none, BAILEY_DENIED where it does not give the right,
 * BAILEY_REVOKED where it is over, BAILEY_UNSUPPORTED where it is for a part that nothing here enforces. */
BAILEY_API int bailey_open_table_by(bailey_session* session, const char* region, int access,
                                    const char* token, bailey_table** table);
BAILEY_API void bailey_table_close(bailey_table* table); /* NULL is allowed */

/* Copies the value into `out`, which has `out_bytes`. `value_bytes` and `version` may be NULL. With
 * BAILEY_TOO_LARGE nothing is copied and `value_bytes` is what `out` must have. */
BAILEY_API int bailey_get(bailey_table* table, const void* key, size_t key_bytes, void* out, size_t out_bytes,
                          size_t* value_bytes, uint64_t* version);

struct bailey_get_item {
  const void* key;
  size_t key_bytes;
  void* out;
  size_t out_bytes;
  size_t value_bytes; /* filled in; with BAILEY_TOO_LARGE what `out` must have */
  uint64_t version;   /* filled in */
  int code;           /* filled in: this key's outcome */
};
/* Many at once, several times quicker than one by one. Returns 0 where each item has its own outcome. */
BAILEY_API int bailey_get_many(bailey_table* table, struct bailey_get_item* items, size_t count);

/* Writes. `version` (of the new record) may be NULL. */
BAILEY_API int bailey_put(bailey_table* table, const void* key, size_t key_bytes, const void* value,
                          size_t value_bytes, uint64_t* version);
BAILEY_API int bailey_insert(bailey_table* table, const void* key, size_t key_bytes, const void* value,
                             size_t value_bytes,
                             uint64_t* version); /* BAILEY_EXISTS where the key is there */
BAILEY_API int bailey_update(bailey_table* table, const void* key, size_t key_bytes, const void* value,
                             size_t value_bytes, uint64_t* version); /* BAILEY_NOT_FOUND where it is not */
/* BAILEY_VERSION_MISMATCH where the record has another version than `expected`; 0 expects that there is none.
 */
BAILEY_API int bailey_put_if_version(bailey_table* table, const void* key, size_t key_bytes,
                                     const void* value, size_t value_bytes, uint64_t expected,
                                     uint64_t* version);
BAILEY_API int bailey_erase(bailey_table* table, const void* key, size_t key_bytes);

enum {
  BAILEY_OP_PUT = 0,
  BAILEY_OP_INSERT = 1,
  BAILEY_OP_UPDATE = 2,
  BAILEY_OP_PUT_IF_VERSION = 3,
  BAILEY_OP_ERASE = 4
};
struct bailey_write_item {
  int op;
  const void* key;
  size_t key_bytes;
  const void* value;
  size_t value_bytes;
  uint64_t expected; /* for BAILEY_OP_PUT_IF_VERSION */
  uint64_t version;  /* filled in */
  int code;          /* filled in: this write's outcome */
};
/* Many at once. Not atomic: each write has its own outcome. Where the call itself fails (the grant was
 * revoked, the broker is away) the items from the one that met it on have that code, and the last of them
 * were not tried. */
BAILEY_API int bailey_apply(bailey_table* table, struct bailey_write_item* items, size_t count);

/* Where a scan stands: {0, 0} is the beginning. */
struct bailey_cursor {
  uint64_t position;
  int done; /* not 0: all was seen */
};
struct bailey_item {
  const void* key;
  size_t key_bytes;
  const void* value;
  size_t value_bytes;
  uint64_t version;
};
/* The next items, about `items_max` of them, valid until the table's next scan or its end; moves the cursor.
 * A key that is there during the whole scan comes at least once. */
BAILEY_API int bailey_scan(bailey_table* table, struct bailey_cursor* cursor, size_t items_max,
                           const struct bailey_item** items, size_t* count);

/* ---- raw regions
 * ------------------------------------------------------------------------------------------------ */

/* A region of plain bytes, and windows onto parts of it: session/window.h says what they check. Bytes that
 * another writes meanwhile may be read mixed, old and new. Close windows and regions in any order. */
BAILEY_API int bailey_open_raw(bailey_session* session, const char* region, int access, bailey_raw** raw);
/* By a token, like bailey_open_table_by. */
BAILEY_API int bailey_open_raw_by(bailey_session* session, const char* region, int access, const char* token,
                                  bailey_raw** raw);
BAILEY_API void bailey_raw_close(bailey_raw* raw); /* NULL is allowed */
BAILEY_API uint64_t bailey_raw_bytes(const bailey_raw* raw);

/* A window onto `bytes` bytes from `offset` on: the token that the session holds for the region, narrowed to
 * these and verified. BAILEY_INVALID_ARGUMENT beyond the region, BAILEY_DENIED beyond the token. */
BAILEY_API int bailey_acquire(bailey_raw* raw, uint64_t offset, uint64_t bytes, int access,
                              bailey_window** window);
BAILEY_API void bailey_window_close(bailey_window* window); /* NULL is allowed */

/* `offset` counts from the window's beginning. BAILEY_INVALID_ARGUMENT out of its bounds, BAILEY_DENIED where
 * it is for reading, BAILEY_REVOKED once the window, the grant or the token was taken back. */
BAILEY_API int bailey_window_read(bailey_window* window, uint64_t offset, void* out, size_t bytes);
BAILEY_API int bailey_window_write(bailey_window* window, uint64_t offset, const void* in, size_t bytes);
/* `same`: 1 where these bytes are there, else 0. */
BAILEY_API int bailey_window_compare(bailey_window* window, uint64_t offset, const void* with, size_t bytes,
                                     int* same);
/* Ends it for good. */
BAILEY_API void bailey_window_revoke(bailey_window* window);

#ifdef __cplusplus
}
#endif

#endif /* BAILEY_SESSION_BAILEY_H */
