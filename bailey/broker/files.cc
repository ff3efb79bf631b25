// Files being made: their pages are taken by the allocator, then they are handed to whoever asked.
#include <fmt/format.h>

#include "bailey/base/log.h"
#include "bailey/broker/broker.h"

namespace bailey::broker {

std::string Broker::segment_name(SegmentId id) const { return fmt::format("segment-{}", id); }
std::string Broker::index_name(std::uint32_t region, std::uint64_t generation) const {
  return fmt::format("index-{}-{}", region, generation);
}

// `done` is called later, or at once where it fails at once. It finds anew what it needs: the asker may be
// gone.
void Broker::make_file(const std::string& name, std::uint64_t bytes, std::optional<Fd> copy_from,
                       std::string what, std::function<void(Result<Fd>)> done) {
  Making making;
  making.name = name;
  making.what = std::move(what);
  making.bytes = bytes;
  making.copy_from = std::move(copy_from);
  std::uint64_t id = ++next_making_;
  auto started = [&]() -> Status {
    BAILEY_TRY(medium::room_for(setup_.place, bytes, promised_, making.what));
    making.file = BAILEY_TRY(medium::create_file(setup_.place, name, bytes));
    return allocate(id, making);
  }();
  if (!started) {
    if (making.file) static_cast<void>(medium::remove_file(setup_.place, name));
    return done(std::unexpected(std::move(started).error()));
  }
  making.done = std::move(done);
  promised_ += bytes;
  making_.emplace(id, std::move(making));
}

Status Broker::allocate(std::uint64_t id, Making& making) {
  making.allocation =
      BAILEY_TRY(medium::Allocation::start(setup_.allocator->line(), setup_.place, making.file.get(),
                                           making.bytes, making.copy_from ? making.copy_from->get() : -1));
  making.watch =
      BAILEY_TRY(loop_.watch(making.allocation.fd(), 0, [this, id](std::uint32_t) { allocated(id); }));
  ++making.tries;
  return {};
}

void Broker::allocated(std::uint64_t id) {
  constexpr unsigned tries_max = 3;
  auto node = making_.extract(id);
  Making& making = node.mapped();
  loop_.forget(std::exchange(making.watch, 0));
  Status finished = making.allocation.finish(making.what);
  // An allocator that dies takes the request along that it has just heard.
  if (!finished && finished.error().code == Code::unavailable && making.tries < tries_max &&
      (finished = allocate(id, making))) {
    making_.insert(std::move(node));
    return;
  }
  promised_ -= making.bytes;
  if (finished) return making.done(std::move(making.file));
  static_cast<void>(medium::remove_file(setup_.place, making.name));
  making.done(std::unexpected(std::move(finished).error()));
}

// A pool in files has them on disk; one in memory has them at the keeper.
Status Broker::hold(const std::string& name, int fd) {
  if (setup_.place.kind == medium::Kind::file) return {};
  return hold_.hold(name, fd);
}

void Broker::drop_file(const std::string& name) {
  Status dropped =
      setup_.place.kind == medium::Kind::file ? medium::remove_file(setup_.place, name) : hold_.drop(name);
  if (!dropped) log::error("broker", "{} could not be dropped: {}", name, dropped.error().to_string());
}

}  // namespace bailey::broker
