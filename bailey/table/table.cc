#include "bailey/table/table.h"

#include <fmt/format.h>

#include <algorithm>

#include "bailey/pool/passage.h"
#include "bailey/table/examine.h"
#include "bailey/table/state.h"
#include "bailey/table/write_at_once.h"

namespace bailey::table {

using medium::load_acquire;

namespace {

// Keys that are looked up together by get_many and apply: enough misses in flight to hide each other.
constexpr std::size_t group = 16;
static_assert(group <= crypto::batch_max);
constexpr std::string_view write_of_batch = "write of a batch";
// What ends the session's right or reach ends a batch; all else is one write's own.
constexpr bool ends_batch(Code code) {
  return code == Code::revoked || code == Code::unavailable || code == Code::forked || code == Code::denied;
}
// Lines of a record that are fetched ahead.
constexpr std::uint64_t prefetch_bytes_max = 384;

Error contended(std::string_view what) {
  return fail(Code::contended, By::peer,
              fmt::format("{} gave up after {} attempts against writers", what, attempts_max), "try again")
      .error();
}
Error corrupt_index() {
  return fail(Code::corrupt, By::peer, "corrupt index: a chain is a circle or leads out of the index",
              "bailey region check tells what is readable")
      .error();
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

// Of what a caller gave, or nothing.
template <class Object>
Bytes object_bytes(const Object* object) {
  return std::as_bytes(std::span(object, object == nullptr ? 0 : 1));
}
bool meets_window(const Get& get) {
  return pool::meets_window(as_bytes(get.key)) || pool::meets_window(get.out);
}
bool meets_window(const Write& write) {
  return pool::meets_window(as_bytes(write.key)) || pool::meets_window(as_bytes(write.value));
}

// A batch is looked at as a whole: one member in guarded pages, and nothing of it happens.
template <class Member, class Operation>
[[gnu::noinline]] Status gate_of_batch(pool::View& view, std::span<Member> batch, Operation&& operation) {
  const Bytes members = std::as_bytes(batch);
  if (pool::meets_window(members) ||
      std::ranges::any_of(batch, [](const Member& member) { return meets_window(member); }))
    return pool::argument_in_window();
  return pool::in_gate(view, {members}, operation);
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

// The usual case: the first candidate (or null) is the key's record, and all stays as it is. False: look().
template <class Sink>
[[gnu::always_inline]] inline bool Table::State::look_at_once(const Word* slot, const Home& home,
                                                              std::string_view key, Found& found,
                                                              Sink&& sink) {
  if (slot == nullptr) [[unlikely]]
    return false;
  Word seen = load_acquire(slot);
  view->step(pool::Step::slot_loaded);
  Sighted record;
  if (seen >> BAILEY_SLOT_TAG_SHIFT != home.tag) [[unlikely]]
    return false;
  if (view->sealer() != nullptr) [[unlikely]]
    return look_at_sealed_once(slot, seen, home, key, found, sink);
  if (!sight(*view, seen, key, record)) [[unlikely]]
    return false;
  void* to = sink(record.value_bytes);
  if (to == nullptr) [[unlikely]]
    return false;
  medium::copy_out(to, record.value(key.size()), record.value_bytes);
  view->step(pool::Step::record_copied);
  if (!record.still(slot, seen) || !view->current()) [[unlikely]]
    return false;
  found = {record.value_bytes, version_of(record.word)};
  return true;
}

template <class Sink>
[[gnu::noinline]] bool Table::State::look_at_sealed_once(const Word* slot, Word seen, const Home& home,
                                                         std::string_view key, Found& found, Sink& sink) {
  if (view->sealer()->signatures() != nullptr) [[unlikely]]
    return false;
  // All of its lines at once: opening takes so long that no other operation's misses are under way meanwhile.
  prefetch_record(*view, seen, prefetch_bytes_max);
  Sighted record;
  if (!sight_sealed(*view, seen, key.size(), home.hash, record)) [[unlikely]]
    return false;
  const auto* at = reinterpret_cast<const std::byte*>(record.words);
  const SealedHead head(at, record.word, record.lengths);
  std::byte* copy = view->sealer()->room(record.value_bytes);
  medium::copy_out(copy, sealed_value(at), record.value_bytes);
  view->step(pool::Step::record_copied);
  if (!record.still(slot, seen) || head.bound.hash != home.hash) [[unlikely]]
    return false;
  void* to = sink(record.value_bytes);
  if (to == nullptr || open_value(*view, head, copy, static_cast<std::byte*>(to), failure) != Seen::match)
      [[unlikely]]
    return false;
  found = {record.value_bytes, version_of(record.word)};
  return view->current();
}

inline const Word* Table::State::first_candidate(const Home& home) const {
  return Candidates(Index(view->index(), geometry), home).first();
}

template <class Sink>
Table::State::Look Table::State::look(const Home& home, std::string_view key, Found& found, Sink&& sink) {
  const Wanted wanted{key, home};
  Candidates walk(Index(view->index(), geometry), home);
  for (unsigned attempt = 0;;) {
    Look outcome = Look::absent;
    while (Word* slot = walk.slot()) {
      Word seen = load_acquire(slot);
      if (seen >> BAILEY_SLOT_TAG_SHIFT != home.tag) [[unlikely]] {
        walk.next();
        continue;
      }
      view->step(pool::Step::slot_loaded);
      bool fits = true;
      ReadRecord read;
      Seen what = examine(
          *view, slot, seen, wanted, read,
          [&](std::size_t bytes) {
            void* to = sink(bytes);
            fits = to != nullptr || bytes == 0;
            return to;
          },
          failure);
      if (what == Seen::match) [[likely]] {
        found = {read.value_bytes, version_of(read.word)};
        outcome = fits ? Look::found : Look::too_small;
        break;
      }
      if (what == Seen::changed) {
        ++counters.retries;
        if (++attempt >= attempts_max) return gave_up();
        continue;
      }
      if (what == Seen::failed) return Look::failed;
      if (what == Seen::unheard) break;
      if (what == Seen::forged) ++counters.forged_entries;
      walk.next();
    }
    if (view->current()) [[likely]] {
      if (walk.corrupt()) [[unlikely]] {
        failure = corrupt_index();
        return Look::failed;
      }
      return outcome;
    }
    if (auto attended = view->attend(); !attended) {
      failure = std::move(attended).error();
      return Look::failed;
    }
    if (++attempt >= attempts_max) return gave_up();
    walk = Candidates(Index(view->index(), geometry), home);
  }
}

Table::State::Look Table::State::gave_up() {
  failure = contended("get");
  return Look::failed;
}

Error Table::State::error_of(Look outcome) {
  if (outcome == Look::failed) return std::exchange(failure, Error{});
  return Error{outcome == Look::absent ? Code::not_found : Code::too_large, By::library, 0, {}, {}};
}

// All that is not the usual case, from the start.
Result<Found> Table::State::get(std::string_view key, MutableBytes out, std::size_t* bytes_needed) {
  BAILEY_TRY(check_key(key));
  if (!view->current()) BAILEY_TRY(view->attend());
  Found found;
  auto outcome = look(home_in(*view, key, geometry), key, found,
                      [&](std::size_t bytes) { return bytes <= out.size() ? out.data() : nullptr; });
  if (outcome == Look::found) return found;
  if (outcome == Look::too_small && bytes_needed != nullptr) *bytes_needed = found.bytes;
  return std::unexpected(error_of(outcome));
}

Result<Found> Table::get(std::string_view key, MutableBytes out, std::size_t* bytes_needed) {
  State& state = *state_;
  if (state.view->closed()) [[unlikely]]
    return pool::in_gate(*state.view, {as_bytes(key), out, object_bytes(bytes_needed)},
                         [this, key, out, bytes_needed] { return get(key, out, bytes_needed); });
  if (key.size() <= key_bytes_max && state.view->alive()) [[likely]] {
    const Home home = home_in(*state.view, key, state.geometry);
    const auto sink = [&](std::size_t bytes) { return bytes <= out.size() ? out.data() : nullptr; };
    Found found;
    if (state.look_at_once(state.first_candidate(home), home, key, found, sink)) [[likely]]
      return found;
  }
  return state.get(key, out, bytes_needed);
}

Result<Found> Table::get(std::string_view key, std::string& out) {
  State& state = *state_;
  if (state.view->closed()) [[unlikely]] {
    if (pool::meets_window(object_bytes(&out))) return pool::argument_in_window();
    return pool::in_gate(*state.view, {as_bytes(key), as_bytes({out.data(), out.capacity()})},
                         [this, key, &out] { return get(key, out); });
  }
  BAILEY_TRY(check_key(key));
  if (!state.view->current()) BAILEY_TRY(state.view->attend());
  const Home home = home_in(*state.view, key, state.geometry);
  const auto sink = [&](std::size_t bytes) {
    out.resize(bytes);
    return out.data();
  };
  Found found;
  if (state.look_at_once(state.first_candidate(home), home, key, found, sink)) return found;
  auto outcome = state.look(home, key, found, sink);
  if (outcome == State::Look::found) return found;
  out.clear();
  return std::unexpected(state.error_of(outcome));
}

// In groups, in three passes: first the buckets of all are fetched, then the records that they lead to, then
// each is read, of which by then all is on its way.
Status Table::get_many(std::span<Get> gets) {
  State& state = *state_;
  if (state.view->closed()) [[unlikely]]
    return gate_of_batch(*state.view, gets, [this, gets] { return get_many(gets); });
  if (!state.view->current()) BAILEY_TRY(state.view->attend());
  for (std::size_t first = 0; first < gets.size(); first += group) {
    std::size_t count = std::min(group, gets.size() - first);
    Get* const part = &gets[first];
    Home homes[group];
    const Word* candidates[group];
    const std::byte* const base = state.view->index();
    const Index index(state.view->index(), state.geometry);
    for (std::size_t i = 0; i < count; ++i) {
      homes[i] = home_in(*state.view, part[i].key, state.geometry);
      medium::prefetch(index.primary(homes[i].bucket));
    }
    for (std::size_t i = 0; i < count; ++i) {
      candidates[i] = Candidates(index, homes[i]).first();
      if (const Word* slot = candidates[i])
        prefetch_record(*state.view, medium::load_relaxed(slot),
                        std::min(record_bytes_in(*state.view, part[i].key.size(), part[i].out.size()),
                                 prefetch_bytes_max));
    }
    for (std::size_t i = 0; i < count; ++i) {
      Get& get = part[i];
      get.found = {};
      get.ok = false;
      if (get.key.size() > key_bytes_max) [[unlikely]] {
        get.code = Code::too_large;
        continue;
      }
      const auto sink = [&](std::size_t bytes) { return bytes <= get.out.size() ? get.out.data() : nullptr; };
      // A look that met a new index leaves the candidates in the old one.
      const Word* candidate = state.view->index() == base ? candidates[i] : nullptr;
      get.ok = state.look_at_once(candidate, homes[i], get.key, get.found, sink);
      if (get.ok) [[likely]]
        continue;
      auto outcome = state.look(homes[i], get.key, get.found, sink);
      get.ok = outcome == State::Look::found;
      if (!get.ok) get.code = state.error_of(outcome).code;
    }
  }
  return {};
}

// ---- writing

bool Table::State::write_closely(Write& write, std::string_view what, const Presigned* presigned) {
  write.version = 0;
  Status fine = check_key(write.key);
  if (fine) fine = check_value(write.value);
  if (fine && !writer)
    fine = fail(Code::denied, By::library,
                fmt::format("{} refused: this table was opened for reading only", what),
                "open it for writing; that needs the right rw");
  if (fine && writer->write(write, presigned)) return true;
  failure = fine ? explained(writer->take_failure(), what) : std::move(fine).error();
  return false;
}

[[gnu::noinline]] Writer::Outcome Table::State::write_sealed_at_once(Op op, std::string_view key,
                                                                     std::string_view value,
                                                                     std::uint64_t expected_version,
                                                                     std::uint64_t& version) {
  return writer->write_at_once<true>(op, key, value, expected_version, home_in(*view, key, geometry),
                                     version);
}

[[gnu::always_inline]] inline Result<std::uint64_t> Table::State::write(Op op, std::string_view key,
                                                                        std::string_view value,
                                                                        std::uint64_t expected_version,
                                                                        std::string_view what) {
  if (key.size() <= key_bytes_max && value.size() <= value_bytes_max && writer) [[likely]] {
    std::uint64_t version;
    const auto outcome =
        view->sealer() == nullptr
            ? writer->write_at_once<false>(op, key, value, expected_version, home_of(key, geometry), version)
            : write_sealed_at_once(op, key, value, expected_version, version);
    if (outcome == Writer::Outcome::done) [[likely]]
      return version;
    if (outcome == Writer::Outcome::failed) return std::unexpected(explained(writer->take_failure(), what));
  }
  Write write{.op = op, .key = key, .value = value, .expected_version = expected_version};
  if (write_closely(write, what)) return write.version;
  return std::unexpected(std::exchange(failure, Error{}));
}

Result<std::uint64_t> Table::put(std::string_view key, std::string_view value) {
  if (state_->view->closed()) [[unlikely]]
    return pool::in_gate(*state_->view, {as_bytes(key), as_bytes(value)},
                         [this, key, value] { return put(key, value); });
  return state_->write(Op::put, key, value, 0, "put");
}
Result<std::uint64_t> Table::insert(std::string_view key, std::string_view value) {
  if (state_->view->closed()) [[unlikely]]
    return pool::in_gate(*state_->view, {as_bytes(key), as_bytes(value)},
                         [this, key, value] { return insert(key, value); });
  return state_->write(Op::insert, key, value, 0, "insert");
}
Result<std::uint64_t> Table::update(std::string_view key, std::string_view value) {
  if (state_->view->closed()) [[unlikely]]
    return pool::in_gate(*state_->view, {as_bytes(key), as_bytes(value)},
                         [this, key, value] { return update(key, value); });
  return state_->write(Op::update, key, value, 0, "update");
}
Result<std::uint64_t> Table::put_if_version(std::string_view key, std::string_view value,
                                            std::uint64_t expected) {
  if (state_->view->closed()) [[unlikely]]
    return pool::in_gate(*state_->view, {as_bytes(key), as_bytes(value)},
                         [this, key, value, expected] { return put_if_version(key, value, expected); });
  return state_->write(Op::put_if_version, key, value, expected, "put_if_version");
}
Status Table::erase(std::string_view key) {
  if (state_->view->closed()) [[unlikely]]
    return pool::in_gate(*state_->view, {as_bytes(key)}, [this, key] { return erase(key); });
  Write write{.op = Op::erase, .key = key, .value = {}};
  if (state_->write_closely(write, "erase")) return {};
  return std::unexpected(std::exchange(state_->failure, Error{}));
}

Status Table::apply(std::span<Write> writes) {
  State& state = *state_;
  if (state.view->closed()) [[unlikely]]
    return gate_of_batch(*state.view, writes, [this, writes] { return apply(writes); });
  if (!state.view->current()) BAILEY_TRY(state.view->attend());
  if (proof_bytes_least(state.view->sealer()) != 0) [[unlikely]]
    return state.apply_signed(writes);
  for (std::size_t first = 0; first < writes.size(); first += group) {
    std::size_t count = std::min(group, writes.size() - first);
    Write* const part = &writes[first];
    if (state.writer) {
      Home homes[group];
      for (std::size_t i = 0; i < count; ++i) {
        homes[i] = home_in(*state.view, part[i].key, state.geometry);
        state.writer->prefetch_bucket(homes[i]);
      }
      for (std::size_t i = 0; i < count; ++i) state.writer->prefetch_record(homes[i]);
    }
    for (std::size_t i = 0; i < count; ++i) {
      Write& write = part[i];
      auto version = state.write(write.op, write.key, write.value, write.expected_version, write_of_batch);
      write.ok = version.has_value();
      write.version = version.value_or(0);
      if (write.ok) [[likely]]
        continue;
      write.code = version.error().code;
      if (ends_batch(write.code)) return std::unexpected(std::move(version).error());
    }
  }
  return {};
}

// One signature a group.
[[gnu::noinline]] Status Table::State::apply_signed(std::span<Write> writes) {
  std::vector<Presigned> presigned(group);
  for (std::size_t first = 0; first < writes.size(); first += group) {
    const auto part = writes.subspan(first, std::min(group, writes.size() - first));
    if (writer) writer->presign(part, presigned);
    for (std::size_t i = 0; i < part.size(); ++i) {
      Write& write = part[i];
      write.ok = write_closely(write, write_of_batch, &presigned[i]);
      if (write.ok) continue;
      write.version = 0;
      write.code = failure.code;
      if (ends_batch(write.code)) return std::unexpected(std::exchange(failure, Error{}));
    }
  }
  return {};
}

Result<std::size_t> Table::maintain() {
  if (state_->view->closed()) [[unlikely]]
    return pool::in_gate(*state_->view, {}, [&] { return maintain(); });
  if (!state_->writer)
    return fail(Code::denied, By::library, "maintain refused: this table was opened for reading only");
  return state_->writer->maintain();
}

}  // namespace bailey::table
