// The C face: arguments checked, C++ called, failures kept for bailey_error().
#include <new>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "bailey/abi/control.h"
#include "bailey/capability/token.h"
#include "bailey/protocol/messages.h"
#include "bailey/session/bailey.h"
#include "bailey/session/session.h"

struct bailey_session {
  bailey::session::Session session;
};
struct bailey_table {
  bailey::table::Table table;
  std::vector<bailey::table::Item> items = {};  // of the last scan
  std::vector<bailey_item> faces = {};          // the same for C
  std::vector<bailey::table::Get> gets = {};
  std::vector<bailey::table::Write> writes = {};
};
struct bailey_raw {
  bailey::session::Raw raw;
};
struct bailey_window {
  bailey::session::Window window;
};

namespace {

using bailey::By;
using bailey::Code;
using bailey::Error;

static_assert(BAILEY_BUSY == static_cast<int>(Code::busy) &&
              BAILEY_FORKED == static_cast<int>(Code::forked) &&
              BAILEY_INVALID_ARGUMENT == static_cast<int>(Code::invalid_argument) &&
              BAILEY_DENIED == static_cast<int>(Code::denied) &&
              BAILEY_BY_PEER == static_cast<int>(By::peer));
static_assert(BAILEY_OP_ERASE == static_cast<int>(bailey::table::Op::erase));

struct LastError {
  Error error;
  bool any = false;
  std::string text;
  bailey_error_info info{};
};
thread_local LastError last;

int keep(Error&& error) {
  int code = static_cast<int>(error.code);
  last.error = std::move(error);
  last.any = true;
  return code;
}
int invalid(const char* message) { return keep({Code::invalid_argument, By::library, 0, message, {}}); }

// Runs `call`, which returns a code. What C++ throws becomes a code as well.
template <class Call>
int guarded(Call&& call) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return keep({Code::no_space, By::library, 0, {}, {}});
  } catch (...) {
    return keep({Code::io, By::library, 0, {}, {}});
  }
}

bailey::Access access_of(int access) {
  return access == BAILEY_WRITE ? bailey::Access::read_write : bailey::Access::read_only;
}
bool missing(const void* bytes, std::size_t size) { return bytes == nullptr && size > 0; }
std::string_view text(const void* bytes, std::size_t size) { return {static_cast<const char*>(bytes), size}; }

// Opens a region by `open(session, region, access, token)`, for a grant where `token` is null.
template <class Face, class Open>
int open_region(bailey_session* session, const char* region, int access, const char* token, Face** to,
                Open&& open) {
  if (session == nullptr || region == nullptr || to == nullptr)
    return invalid("a session, a region and a place for what is opened are needed");
  if (access != BAILEY_READ && access != BAILEY_WRITE)
    return invalid("access is BAILEY_READ or BAILEY_WRITE");
  return guarded([&] {
    std::optional<bailey::capability::Token> by;
    if (token != nullptr) {
      auto read = bailey::capability::Token::from_text(token);
      if (!read) return keep(std::move(read).error());
      by = std::move(*read);
    }
    auto opened = open(session->session, region, access_of(access), by ? &*by : nullptr);
    if (!opened) return keep(std::move(opened).error());
    *to = new Face{std::move(*opened)};
    return 0;
  });
}
constexpr auto as_table = [](auto& session, const char* region, bailey::Access access, auto* token) {
  return session.open_table(region, access, token);
};
constexpr auto as_raw = [](auto& session, const char* region, bailey::Access access, auto* token) {
  return session.open_raw(region, access, token);
};

// A write of one record by `call(table, key, value)`.
template <class Call>
int write(bailey_table* table, const void* key, std::size_t key_bytes, const void* value,
          std::size_t value_bytes, std::uint64_t* version, Call&& call) {
  if (table == nullptr || missing(key, key_bytes) || missing(value, value_bytes))
    return invalid("a table, a key and a value are needed");
  return guarded([&] {
    auto written = call(table->table, text(key, key_bytes), text(value, value_bytes));
    if (!written) return keep(std::move(written).error());
    if (version != nullptr) *version = *written;
    return 0;
  });
}

}  // namespace

const bailey_error_info* bailey_error(void) {
  int failed = guarded([] {
    last.text = last.any ? last.error.to_string() : std::string("no error");
    if (last.any && last.error.message.empty()) last.error.message = bailey::name(last.error.code);
    return 0;
  });
  last.info.code = last.any ? static_cast<int>(last.error.code) : 0;
  last.info.by = last.any ? static_cast<int>(last.error.by) : 0;
  last.info.os = last.any ? last.error.os : 0;
  last.info.message = failed == 0 ? last.error.message.c_str() : "out of memory";
  last.info.remedy = last.error.remedy.c_str();
  last.info.text = failed == 0 ? last.text.c_str() : "out of memory";
  return &last.info;
}

const char* bailey_code_name(int code) {
  if (code == 0) return "ok";
  if (code < 0 || code > 255) return "unknown error";
  return bailey::name(static_cast<Code>(code)).data();
}

const char* bailey_version(void) { return bailey::session::version().data(); }
unsigned bailey_layout_version(void) { return BAILEY_LAYOUT; }
unsigned bailey_protocol_version(void) { return bailey::protocol::protocol_version; }

int bailey_connect(const bailey_options* options, bailey_session** session) {
  if (session == nullptr) return invalid("bailey_connect needs a place for the session");
  return guarded([&] {
    bailey::session::Options how;
    if (options != nullptr) {
      if (options->socket_path != nullptr) how.socket_path = options->socket_path;
      if (options->key_file != nullptr) how.key_file = options->key_file;
      if (options->broker_key != nullptr) how.broker_key = options->broker_key;
      if (options->timeout_ms != 0) how.timeout_ms = options->timeout_ms;
      how.allow_dump = options->allow_dump != 0;
    }
    auto connected = bailey::session::Session::connect(how);
    if (!connected) return keep(std::move(connected).error());
    *session = new bailey_session{std::move(*connected)};
    return 0;
  });
}

void bailey_close(bailey_session* session) {
  guarded([&] {
    delete session;
    return 0;
  });
}

int bailey_open_table(bailey_session* session, const char* region, int access, bailey_table** table) {
  return open_region(session, region, access, nullptr, table, as_table);
}
int bailey_open_table_by(bailey_session* session, const char* region, int access, const char* token,
                         bailey_table** table) {
  if (token == nullptr) return invalid("bailey_open_table_by needs a token");
  return open_region(session, region, access, token, table, as_table);
}

void bailey_table_close(bailey_table* table) {
  guarded([&] {
    delete table;
    return 0;
  });
}

int bailey_get(bailey_table* table, const void* key, size_t key_bytes, void* out, size_t out_bytes,
               size_t* value_bytes, uint64_t* version) {
  if (table == nullptr || missing(key, key_bytes) || missing(out, out_bytes))
    return invalid("a table, a key and a buffer are needed");
  return guarded([&] {
    std::size_t needed = 0;
    auto found = table->table.get(text(key, key_bytes), {static_cast<std::byte*>(out), out_bytes}, &needed);
    if (!found) {
      if (found.error().code == Code::too_large && value_bytes != nullptr) *value_bytes = needed;
      return keep(std::move(found).error());
    }
    if (value_bytes != nullptr) *value_bytes = found->bytes;
    if (version != nullptr) *version = found->version;
    return 0;
  });
}

int bailey_get_many(bailey_table* table, bailey_get_item* items, size_t count) {
  if (table == nullptr || missing(items, count)) return invalid("a table and items are needed");
  for (const bailey_get_item& item : std::span(items, count))
    if (missing(item.key, item.key_bytes) || missing(item.out, item.out_bytes))
      return invalid("each item needs a key and a buffer");
  return guarded([&] {
    table->gets.clear();
    for (const bailey_get_item& item : std::span(items, count))
      table->gets.push_back({text(item.key, item.key_bytes),
                             {static_cast<std::byte*>(item.out), item.out_bytes},
                             {},
                             false,
                             {}});
    auto done = table->table.get_many(table->gets);
    if (!done) return keep(std::move(done).error());
    for (std::size_t i = 0; i < count; ++i) {
      const bailey::table::Get& get = table->gets[i];
      items[i].code = get.ok ? 0 : static_cast<int>(get.code);
      items[i].value_bytes = get.found.bytes;
      items[i].version = get.found.version;
    }
    return 0;
  });
}

int bailey_put(bailey_table* table, const void* key, size_t key_bytes, const void* value, size_t value_bytes,
               uint64_t* version) {
  return write(table, key, key_bytes, value, value_bytes, version,
               [](bailey::table::Table& to, auto k, auto v) { return to.put(k, v); });
}
int bailey_insert(bailey_table* table, const void* key, size_t key_bytes, const void* value,
                  size_t value_bytes, uint64_t* version) {
  return write(table, key, key_bytes, value, value_bytes, version,
               [](bailey::table::Table& to, auto k, auto v) { return to.insert(k, v); });
}
int bailey_update(bailey_table* table, const void* key, size_t key_bytes, const void* value,
                  size_t value_bytes, uint64_t* version) {
  return write(table, key, key_bytes, value, value_bytes, version,
               [](bailey::table::Table& to, auto k, auto v) { return to.update(k, v); });
}
int bailey_put_if_version(bailey_table* table, const void* key, size_t key_bytes, const void* value,
                          size_t value_bytes, uint64_t expected, uint64_t* version) {
  return write(
      table, key, key_bytes, value, value_bytes, version,
      [expected](bailey::table::Table& to, auto k, auto v) { return to.put_if_version(k, v, expected); });
}

int bailey_erase(bailey_table* table, const void* key, size_t key_bytes) {
  if (table == nullptr || missing(key, key_bytes)) return invalid("a table and a key are needed");
  return guarded([&] {
    auto erased = table->table.erase(text(key, key_bytes));
    return erased ? 0 : keep(std::move(erased).error());
  });
}

int bailey_apply(bailey_table* table, bailey_write_item* items, size_t count) {
  if (table == nullptr || missing(items, count)) return invalid("a table and items are needed");
  for (const bailey_write_item& item : std::span(items, count))
    if (item.op < BAILEY_OP_PUT || item.op > BAILEY_OP_ERASE || missing(item.key, item.key_bytes) ||
        missing(item.value, item.value_bytes))
      return invalid("each item needs an op that exists, a key and a value");
  return guarded([&] {
    table->writes.clear();
    for (const bailey_write_item& item : std::span(items, count)) {
      bailey::table::Write write;
      write.op = static_cast<bailey::table::Op>(item.op);
      write.key = text(item.key, item.key_bytes);
      write.value = text(item.value, item.value_bytes);
      write.expected_version = item.expected;
      table->writes.push_back(write);
    }
    auto done = table->table.apply(table->writes);
    for (std::size_t i = 0; i < count; ++i) {
      const bailey::table::Write& write = table->writes[i];
      // What was not reached has neither outcome.
      Code code = write.code == Code{} && !done ? done.error().code : write.code;
      items[i].code = write.ok ? 0 : static_cast<int>(code);
      items[i].version = write.version;
    }
    return done ? 0 : keep(std::move(done).error());
  });
}

int bailey_scan(bailey_table* table, bailey_cursor* cursor, size_t items_max, const bailey_item** items,
                size_t* count) {
  if (table == nullptr || cursor == nullptr || items == nullptr || count == nullptr || items_max == 0)
    return invalid("a table, a cursor, room for the answer and at least one item are needed");
  return guarded([&] {
    table->items.clear();
    table->faces.clear();
    bailey::table::Cursor at{cursor->position, cursor->done != 0};
    auto scanned = table->table.scan(at, items_max, table->items);
    if (!scanned) return keep(std::move(scanned).error());
    for (const bailey::table::Item& item : table->items)
      table->faces.push_back(
          {item.key.data(), item.key.size(), item.value.data(), item.value.size(), item.version});
    cursor->position = at.bucket;
    cursor->done = at.done ? 1 : 0;
    *items = table->faces.data();
    *count = table->faces.size();
    return 0;
  });
}

int bailey_open_raw(bailey_session* session, const char* region, int access, bailey_raw** raw) {
  return open_region(session, region, access, nullptr, raw, as_raw);
}
int bailey_open_raw_by(bailey_session* session, const char* region, int access, const char* token,
                       bailey_raw** raw) {
  if (token == nullptr) return invalid("bailey_open_raw_by needs a token");
  return open_region(session, region, access, token, raw, as_raw);
}

void bailey_raw_close(bailey_raw* raw) {
  guarded([&] {
    delete raw;
    return 0;
  });
}

uint64_t bailey_raw_bytes(const bailey_raw* raw) { return raw != nullptr ? raw->raw.bytes() : 0; }

int bailey_acquire(bailey_raw* raw, uint64_t offset, uint64_t bytes, int access, bailey_window** window) {
  if (raw == nullptr || window == nullptr)
    return invalid("bailey_acquire needs a region and a place for the window");
  if (access != BAILEY_READ && access != BAILEY_WRITE)
    return invalid("access is BAILEY_READ or BAILEY_WRITE");
  return guarded([&] {
    auto acquired = raw->raw.acquire(offset, bytes, access_of(access));
    if (!acquired) return keep(std::move(acquired).error());
    *window = new bailey_window{std::move(*acquired)};
    return 0;
  });
}

void bailey_window_close(bailey_window* window) {
  guarded([&] {
    delete window;
    return 0;
  });
}

int bailey_window_read(bailey_window* window, uint64_t offset, void* out, size_t bytes) {
  if (window == nullptr || missing(out, bytes)) return invalid("a window and a buffer are needed");
  return guarded([&] {
    auto read = window->window.read(offset, {static_cast<std::byte*>(out), bytes});
    return read ? 0 : keep(std::move(read).error());
  });
}

int bailey_window_write(bailey_window* window, uint64_t offset, const void* in, size_t bytes) {
  if (window == nullptr || missing(in, bytes)) return invalid("a window and bytes are needed");
  return guarded([&] {
    auto written = window->window.write(offset, {static_cast<const std::byte*>(in), bytes});
    return written ? 0 : keep(std::move(written).error());
  });
}

int bailey_window_compare(bailey_window* window, uint64_t offset, const void* with, size_t bytes, int* same) {
  if (window == nullptr || same == nullptr || missing(with, bytes))
    return invalid("a window, bytes and a place for the answer are needed");
  return guarded([&] {
    auto compared = window->window.compare(offset, {static_cast<const std::byte*>(with), bytes});
    if (!compared) return keep(std::move(compared).error());
    *same = *compared ? 1 : 0;
    return 0;
  });
}

void bailey_window_revoke(bailey_window* window) {
  if (window != nullptr) window->window.revoke();
}
