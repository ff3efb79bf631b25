// Indexes: the first of a region, the next of a new writer, and the one that replaces a disowned writer's.
#include <fmt/format.h>

#include <algorithm>

#include "bailey/base/clock.h"
#include "bailey/base/log.h"
#include "bailey/broker/broker.h"

namespace bailey::broker {

// Calls `then` once the region has an index, which is made when somebody first opens it.
void Broker::with_index(Region& region, std::function<void(Status)> then) {
  if (region.index.generation != 0) return then({});
  region.waiting_for_index.push_back(std::move(then));
  if (std::exchange(region.making_index, true)) return;
  std::uint64_t generation = ++region.generations;
  std::uint32_t number = region.number;
  make_file(index_name(number, generation), region.index_bytes, {},
            fmt::format("the index of region {}", region.name),
            [this, number, generation, id = region.id](Result<Fd> file) {
              Region* made = region_of(number);
              if (made == nullptr || made->id != id)
                return;  // dropped meanwhile; the name goes with the region's
              Status done = [&]() -> Status {
                if (!file) return std::unexpected(std::move(file).error());
                {
                  Mapping mapping =
                      BAILEY_TRY(Mapping::of_file(file->get(), made->index_bytes, Access::read_write));
                  if (!made->raw()) table::Table::format(mapping.span(), made->geometry);
                }
                return adopt_index(*made, IndexFile{generation, std::move(*file), {}}, nullptr);
              }();
              made->making_index = false;
              auto waiting = std::exchange(made->waiting_for_index, {});
              for (auto& next : waiting) next(done);
            });
}

// The file of a writer that takes over: it copies the old one, says IndexMapped, and the file becomes the
// region's.
void Broker::make_next_index(std::uint32_t grant, std::uint64_t session, std::uint64_t request) {
  Region& region = *region_of(open_of(grant)->region);
  std::uint64_t generation = ++region.generations;
  std::string name = index_name(region.number, generation);
  make_file(name, region.index_bytes, {}, fmt::format("a new writer's index of region {}", region.name),
            [this, grant, session, request, generation, name](Result<Fd> file) {
              if (still_opening(grant, session, request) == nullptr) {
                if (file) static_cast<void>(medium::remove_file(setup_.place, name));
                return;
              }
              if (!file) {
                close_open(grant);
                return reply(session, request, std::unexpected(std::move(file).error()));
              }
              opened(grant, session, request, IndexFile{generation, std::move(*file), {}});
            });
}

Status Broker::seal_index(const Region& region, IndexFile& index) const {
  if (region.geometry.mode == table::Mode::shared) {
    BAILEY_TRY(medium::seal(setup_.place, index.file.get(), medium::Purpose::shared_index));
    BAILEY_TRY(check_size(index.file.get(), region.index_bytes, "an index"));
    index.reader = BAILEY_TRY(medium::reopen_read_only(index.file.get()));
    return {};
  }
  BAILEY_TRY(medium::seal(setup_.place, index.file.get(), medium::Purpose::exclusive_index));
  BAILEY_TRY(check_size(index.file.get(), region.index_bytes, "an index"));
  index.file = BAILEY_TRY(medium::reopen_read_only(index.file.get()));
  return {};
}

// From now on it is the region's. `by`: the writer whose it is; nobody where the broker made it.
Status Broker::adopt_index(Region& region, IndexFile index, Open* by) {
  BAILEY_TRY(seal_index(region, index));
  BAILEY_TRY(hold(index_name(region.number, index.generation), index.file.get()));
  IndexFile old = std::exchange(region.index, std::move(index));
  bool disowned = std::exchange(region.disowned, false);
  std::uint64_t pending = by != nullptr ? std::exchange(by->pending_generation, 0) : 0;
  Status committed = state_.commit([&]() -> Status {
    BAILEY_TRY(state_.save(region));
    return by != nullptr ? state_.save(*by) : Status{};
  });
  if (!committed) {
    region.index = std::move(old);
    region.disowned = disowned;
    if (by != nullptr) by->pending_generation = pending;
    return committed;
  }
  if (old.generation != 0) drop_file(index_name(region.number, old.generation));
  bump_region(region, by != nullptr ? std::optional(by->grant) : std::nullopt);
  return {};
}

Reaction Broker::index_mapped(Session& session, const protocol::IndexMapped& request) {
  Open& open = *BAILEY_TRY(own_open(session, request.grant, true));
  // Else it was said before, or the index is shared and sealed long since.
  if (open.pending_generation != 0) {
    std::uint64_t generation = open.pending_generation;
    IndexFile next{generation, std::move(open.next.file), {}};
    open.next = {};
    auto adopted = adopt_index(*region_of(open.region), std::move(next), &open);
    if (!adopted) {
      drop_file(index_name(open.region, generation));
      close_open(open.grant);
      return std::unexpected(std::move(adopted).error());
    }
    open.generation = generation;
  }
  // The value that it was told: what moved the word since then, it still has to hear of.
  return Outcome{protocol::IndexReady{open.told}, {}};
}

// ---- the index that takes the place of one
// -------------------------------------------------------------------------------------------------------------

// The living writer of an exclusive region, once it has its index.
Open* Broker::exclusive_writer(const Region& region) {
  if (region.geometry.mode != table::Mode::exclusive || region.writer == 0) return nullptr;
  Open* writer = open_of(region.writer - 1);
  if (writer == nullptr || writer->opening || !writer->revoked.empty()) return nullptr;
  return writer->pending_generation == 0 || writer->leave ? writer : nullptr;
}

// Somebody lost the right to read, and keeps what it has mapped: what is written from now on goes into files
// that it was not given. Writers leave their segments and the index, each when it attends. Where nobody
// writes, an exclusive region needs nothing: its next writer brings an index of its own.
void Broker::renew(Region& region) {
  region.holders.clear();
  region.holders_known = true;
  region.first_expiry = 0;
  region.renewed_ns = monotonic_ns();
  bool written = region.geometry.mode == table::Mode::shared && region.index.generation != 0;
  for (auto& [grant, open] : opens_) {
    if (open.region != region.number || !open.revoked.empty()) continue;
    add_holder(region, *session_of(open.session), open);
    if (!open.writable || open.opening || (open.pending_generation != 0 && !open.leave)) continue;
    open.leave = true;
    open.said = false;
    written = true;
  }
  if (!written) return;
  if (!std::exchange(region.disowned, true))
    if (auto saved = state_.save(region); !saved)
      log::error("broker", "a renewal stays out of the state: {}", saved.error().to_string());
  note("renewed", nullptr, {{"region", region.name}});
  // One that is under way serves: what it makes was given to nobody yet.
  if (!region.replacing) replace_index(region);
}

// A writer was disowned, or somebody lost the right to read: the region gets an index that it does not have.
// Living writers must have stopped writing in the old one before it is copied, or what they publish meanwhile
// is lost: each says Attend, and is answered when the new one is there. Who does not say so in time is not
// waited for.
void Broker::replace_index(Region& region) {
  if (region.index.generation == 0) return;
  if (region.replacing) {
    region.replacing->again = region.replacing->copying;
    return;
  }
  region.replacing = std::make_unique<Region::Replacing>();
  for (auto& [grant, open] : opens_)
    if (open.region == region.number && open.writable && open.revoked.empty() && !open.opening &&
        (!open.late || open.said) && open.pending_generation == 0)
      region.replacing->waiting.insert(grant);
  std::uint32_t number = region.number;
  region.replacing->timer = loop_.after(replace_ns, [this, number] {
    Region* late = region_of(number);
    if (late == nullptr || !late->replacing) return;
    for (std::uint32_t grant : std::exchange(late->replacing->waiting, {}))
      if (Open* open = open_of(grant)) pass_over(*open);
    writers_attended(number);
  });
  bump_region(region);
  writers_attended(number);
}

void Broker::writers_attended(std::uint32_t number) {
  Region* region = region_of(number);
  if (region == nullptr || !region->replacing || region->replacing->copying ||
      !region->replacing->waiting.empty())
    return;
  // An exclusive writer that was not waited for: it brings itself a copy when it attends, and nobody else
  // writes.
  if (Open* writer = exclusive_writer(*region); writer && !region->replacing->held.contains(writer->grant))
    return replaced(*region);
  region->replacing->copying = true;
  loop_.cancel(region->replacing->timer);
  std::uint64_t generation = ++region->generations;
  const Fd& readable = region->index.reader ? region->index.reader : region->index.file;
  auto source = readable.duplicate();
  if (!source) return index_replaced(number, generation, std::unexpected(std::move(source).error()));
  make_file(
      index_name(number, generation), region->index_bytes, std::move(*source),
      fmt::format("a new index of region {}", region->name),
      [this, number, generation](Result<Fd> file) { index_replaced(number, generation, std::move(file)); });
}

void Broker::index_replaced(std::uint32_t number, std::uint64_t generation, Result<Fd> file) {
  Region* region = region_of(number);
  std::string name = index_name(number, generation);
  if (region == nullptr || !region->replacing) {
    if (file) static_cast<void>(medium::remove_file(setup_.place, name));
    return;
  }
  if (region->replacing->again) {
    // Copied while one more writer was disowned, who may have written into it until then.
    if (file) static_cast<void>(medium::remove_file(setup_.place, name));
    auto held = std::move(region->replacing->held);
    region->replacing.reset();
    replace_index(*region);
    if (!region->replacing) return;
    for (auto& [grant, request] : held) region->replacing->waiting.erase(grant);
    region->replacing->held = std::move(held);
    return writers_attended(number);
  }
  if (file && generation < region->index.generation) {
    // A new writer's own index came first.
    static_cast<void>(medium::remove_file(setup_.place, name));
    return answer_held(*region, nullptr);
  }
  if (Open* writer = exclusive_writer(*region); writer && file)
    return offer_index(*region, *writer, IndexFile{generation, std::move(*file), {}});
  Status done = file ? adopt_index(*region, IndexFile{generation, std::move(*file), {}}, nullptr)
                     : Status(std::unexpected(std::move(file).error()));
  if (done) return answer_held(*region, nullptr);
  log::error("broker", "region {} keeps an index that a disowned writer may write, for a second: {}",
             region->name, done.error().to_string());
  for (Applying& applying : applying_)
    if (applying.renewed.contains(number))
      applying.text += fmt::format(
          "region {}: its index could not be replaced, and is tried again every second; until then those who "
          "lost "
          "a right may see where records go: {}\n",
          region->name, done.error().message);
  note("index not replaced", nullptr, {{"region", region->name}, {"why", done.error().message}});
  answer_held(*region, &done.error());
  loop_.after(1'000'000'000, [this, number, id = region->id] {
    Region* again = region_of(number);
    if (again != nullptr && again->id == id && again->disowned) replace_index(*again);
  });
}

// The living writer of an exclusive region is given the copy as its answer; once it has that mapped it says
// IndexMapped. In the old one it writes no more.
void Broker::offer_index(Region& region, Open& writer, IndexFile next) {
  std::string name = index_name(region.number, next.generation);
  Status kept = [&]() -> Status {
    BAILEY_TRY(hold(name, next.file.get()));
    writer.pending_generation = next.generation;
    return state_.save(writer);
  }();
  if (!kept) {
    writer.pending_generation = 0;
    drop_file(name);
    return answer_held(region, &kept.error());
  }
  writer.next = std::move(next);
  answer_held(region, nullptr);
}

// Nothing is written any more into files that somebody without the right may hold.
void Broker::replaced(Region& region) {
  loop_.cancel(region.replacing->timer);
  region.replacing.reset();
  settled({}, region.number);
}

// Writers that waited in Attend go on.
void Broker::answer_held(Region& region, const Error* error) {
  auto replacing = std::move(region.replacing);
  std::uint32_t number = region.number;
  for (auto& [grant, request] : replacing->held) {
    Open* open = open_of(grant);
    if (open == nullptr) continue;
    Session& session = *session_of(open->session);
    if (error != nullptr) {
      reply(session.number, request, std::unexpected(*error));
      continue;
    }
    if (open->revoked.empty()) {
      reply(session.number, request, attention(*open, region));
      continue;
    }
    reply(session.number, request,
          fail(Code::revoked, By::broker, open->revoked, "ask an admin for the grant"));
    close_open(grant);
  }
  settled({}, number);
}

}  // namespace bailey::broker
