#include "bailey/table/table.h"

#include <fmt/format.h>

#include <algorithm>

#include "bailey/table/index.h"
#include "bailey/table/record.h"
#include "bailey/table/state.h"

namespace bailey::table {

using medium::load_acquire;

namespace {

// Keys that are looked up together by get_many and apply: enough misses in flight to hide each other.
constexpr std::size_t group = 16;
// Lines of a record that are fetched ahead.
constexpr std::uint64_t prefetch_bytes_max = 384;

std::unexpected<Error> contended(std::string_view what) {
  return fail(Code::contended, By::peer,
              fmt::format("{} gave up after {} attempts against writers", what, attempts_max), "try again");
}

Status check_key(std::string_view key) {
  if (key.size() <= key_bytes_max) return {};
  return fail(Code::too_large, By::library,
              fmt::format("a key of {} bytes; keys have at most {}", key.size(), key_bytes_max));
}
Status check_value(std::string_view value) {
  if (value.size() <= value_bytes_max) return {};
  return fail(Code::too_large, By::library,
              fmt::format("a value of {} bytes; values have at most {}", value.size(), value_bytes_max));
}

// What the code alone does not say, added where an operation fails: not on hot paths.
Error explained(Error error, std::string_view what) {
  if (!error.message.empty() || error.code == Code::not_found || error.code == Code::exists ||
      error.code == Code::version_mismatch)
    return error;
  error.message = fmt::format("{} failed: {}", what, name(error.code));
  return error;
}

}  // namespace

Table::Table(std::unique_ptr<State> state) : state_(std::move(state)) {}
Table::Table(Table&&) noexcept = default;
Table& Table::operator=(Table&&) noexcept = default;
Table::~Table() = default;

Result<Table> Table::open(std::unique_ptr<pool::View> view, const Geometry& geometry) {
  if (!geometry.fits(view->index_bytes()))
    return fail(Code::invalid_argument, By::library,
                fmt::format("an index of {} bytes can't have {} buckets and {} overflow buckets",
                            view->index_bytes(), geometry.buckets, geometry.overflow_buckets));
  if (geometry.mode == Mode::shared && !view->coherent())
    return fail(
        Code::unsupported, By::library,
        "a shared table on a medium that is not coherent: its writers could not see each other's stores",
        "use mode = \"exclusive\"");
  auto state = std::make_unique<State>(std::move(view), geometry);
  if (state->view->writable()) state->writer.emplace(*state->view, state->geometry, state->counters);
  return Table(std::move(state));
}

pool::View& Table::view() { return *state_->view; }
const Counters& Table::counters() const { return state_->counters; }
const Geometry& Table::geometry() const { return state_->geometry; }

// ---- reading

// One lookup. `sink(bytes)` says where the value goes, null where it does not fit: then `found.bytes` has its
// size.
template <class Sink>
Result<Found> Table::State::find(const Home& home, std::string_view key, Sink&& sink) {
  if (!view->current()) BAILEY_TRY(view->attend());
  for (unsigned attempt = 0; attempt < attempts_max;) {
    Index index(view->index(), geometry);
    Walk walk(index, home.bucket);
    Code outcome = Code::not_found;
    Found found;
    bool ok = false;
    while (Word* slot = walk.slot()) {
      Word seen = load_acquire(slot);
      if (seen >> BAILEY_SLOT_TAG_SHIFT != home.tag) {
        walk.next();
        continue;
      }
      view->step(pool::Step::slot_loaded);
      const pool::Extent* extent = &view->extent(segment_of(seen));
      if (extent->base == nullptr) [[unlikely]] {
        auto mapped = view->find(segment_of(seen));
        if (!mapped && mapped.error().code != Code::not_found)
          return std::unexpected(std::move(mapped).error());
        if (!mapped) {
          if (load_acquire(slot) == seen) {
            ++counters.forged_entries;
            walk.next();
          } else if (++attempt >= attempts_max) {
            return contended("get");
          }
          continue;
        }
        extent = *mapped;
      }
      Block block;
      Place place = locate(*extent, seen, block);
      bool fits = true;
      ReadRecord read;
      Seen what = Seen::changed;
      if (place == Place::ok) [[likely]] {
        what = read_record(*view, slot, seen, block, key, read, [&](std::size_t bytes) {
          void* to = sink(bytes);
          fits = to != nullptr || bytes == 0;
          return to;
        });
      } else if (place == Place::forged && load_acquire(slot) == seen) {
        what = Seen::forged;
      }
      if (what == Seen::match) [[likely]] {
        found = {read.value_bytes, version_of(read.word)};
        ok = fits;
        if (!fits) outcome = Code::too_large;
        break;
      }
      if (what == Seen::changed) {
        ++counters.retries;
        if (++attempt >= attempts_max) return contended("get");
        continue;
      }
      if (what == Seen::forged) ++counters.forged_entries;
      walk.next();
    }
    if (walk.corrupt()) [[unlikely]] {
      if (view->current())
        return fail(Code::corrupt, By::peer, "corrupt index: a chain is a circle or leads out of the index",
                    "bailey region check tells what is readable");
    } else if (view->current()) [[likely]] {
      if (ok) return found;
      if (outcome == Code::too_large) needed = found.bytes;
      return fail(outcome);
    }
    BAILEY_TRY(view->attend());
    ++attempt;
  }
  return contended("get");
}

Result<Found> Table::get(std::string_view key, MutableBytes out, std::size_t* bytes_needed) {
  if (key.size() > key_bytes_max) [[unlikely]]
    return std::unexpected(check_key(key).error());
  auto found = state_->find(home_of(key, state_->geometry), key,
                            [&](std::size_t bytes) { return bytes <= out.size() ? out.data() : nullptr; });
  if (!found && found.error().code == Code::too_large && bytes_needed != nullptr)
    *bytes_needed = state_->needed;
  return found;
}

Result<Found> Table::get(std::string_view key, std::string& out) {
  BAILEY_TRY(check_key(key));
  auto found = state_->find(home_of(key, state_->geometry), key, [&](std::size_t bytes) {
    out.resize(bytes);
    return out.data();
  });
  if (!found) out.clear();
  return found;
}

Status Table::get_many(std::span<Get> gets) {
  State& state = *state_;
  if (!state.view->current()) BAILEY_TRY(state.view->attend());
  Home homes[group];
  for (std::size_t first = 0; first < gets.size(); first += group) {
    std::size_t count = std::min(group, gets.size() - first);
    Index index(state.view->index(), state.geometry);
    for (std::size_t i = 0; i < count; ++i) {
      homes[i] = home_of(gets[first + i].key, state.geometry);
      medium::prefetch(index.primary(homes[i].bucket));
    }
    for (std::size_t i = 0; i < count; ++i)
      state.prefetch_record(index, homes[i], gets[first + i].out.size());
    for (std::size_t i = 0; i < count; ++i) {
      Get& get = gets[first + i];
      if (get.key.size() > key_bytes_max) {
        get.ok = false;
        get.code = Code::too_large;
        get.found = {};
        continue;
      }
      auto found = state.find(homes[i], get.key, [&](std::size_t bytes) {
        return bytes <= get.out.size() ? get.out.data() : nullptr;
      });
      get.ok = found.has_value();
      if (found) {
        get.found = *found;
        continue;
      }
      get.code = found.error().code;
      get.found = {};
      if (get.code == Code::too_large) get.found.bytes = state.needed;
    }
  }
  return {};
}

void Table::State::prefetch_record(const Index& index, const Home& home, std::uint64_t value_bytes) {
  const bailey_bucket* bucket = index.primary(home.bucket);
  for (const Word& slot : bucket->slots) {
    Word seen = medium::load_relaxed(&slot);
    if (seen >> BAILEY_SLOT_TAG_SHIFT != home.tag) continue;
    const pool::Extent& extent = view->extent(segment_of(seen));
    std::uint64_t offset = offset_of(seen);
    if (extent.base == nullptr || offset >= extent.bytes()) return;
    std::uint64_t bytes =
        std::min({value_bytes + cache_line_bytes, prefetch_bytes_max, extent.bytes() - offset});
    for (std::uint64_t at = 0; at < bytes; at += cache_line_bytes)
      medium::prefetch(extent.base + offset + at);
    return;
  }
}

// ---- writing

Result<std::uint64_t> Table::State::write(Op op, std::string_view what, std::string_view key,
                                          std::string_view value, std::uint64_t expected) {
  if (key.size() > key_bytes_max || value.size() > value_bytes_max) [[unlikely]] {
    BAILEY_TRY(check_key(key));
    BAILEY_TRY(check_value(value));
  }
  if (!writer) [[unlikely]]
    return fail(Code::denied, By::library,
                fmt::format("{} refused: this table was opened for reading only", what),
                "open it for writing; that needs the right rw");
  auto version = writer->write(op, key, value, expected);
  if (!version) [[unlikely]]
    return std::unexpected(explained(std::move(version).error(), what));
  return version;
}

Result<std::uint64_t> Table::put(std::string_view key, std::string_view value) {
  return state_->write(Op::put, "put", key, value, 0);
}
Result<std::uint64_t> Table::insert(std::string_view key, std::string_view value) {
  return state_->write(Op::insert, "insert", key, value, 0);
}
Result<std::uint64_t> Table::update(std::string_view key, std::string_view value) {
  return state_->write(Op::update, "update", key, value, 0);
}
Result<std::uint64_t> Table::put_if_version(std::string_view key, std::string_view value,
                                            std::uint64_t expected) {
  return state_->write(Op::put_if_version, "put_if_version", key, value, expected);
}
Status Table::erase(std::string_view key) {
  auto version = state_->write(Op::erase, "erase", key, {}, 0);
  if (!version) return std::unexpected(std::move(version).error());
  return {};
}

Status Table::apply(std::span<Write> writes) {
  State& state = *state_;
  if (!state.view->current()) BAILEY_TRY(state.view->attend());
  Home homes[group];
  for (std::size_t first = 0; first < writes.size(); first += group) {
    std::size_t count = std::min(group, writes.size() - first);
    if (state.writer) {
      for (std::size_t i = 0; i < count; ++i) {
        homes[i] = home_of(writes[first + i].key, state.geometry);
        state.writer->prefetch_bucket(homes[i]);
      }
      for (std::size_t i = 0; i < count; ++i) state.writer->prefetch_record(homes[i]);
    }
    for (std::size_t i = 0; i < count; ++i) {
      Write& write = writes[first + i];
      auto version =
          state.write(write.op, "write of a batch", write.key, write.value, write.expected_version);
      write.ok = version.has_value();
      write.version = version.value_or(0);
      if (version) continue;
      write.code = version.error().code;
      // What ends the session's right or reach ends the batch; all else is this write's own.
      if (write.code == Code::revoked || write.code == Code::unavailable || write.code == Code::forked ||
          write.code == Code::denied)
        return std::unexpected(std::move(version).error());
    }
  }
  return {};
}

Result<std::size_t> Table::maintain() {
  if (!state_->writer)
    return fail(Code::denied, By::library, "maintain refused: this table was opened for reading only");
  return state_->writer->maintain();
}

}  // namespace bailey::table
