// Files being made: asked for, taken by a child that may be killed in our place, then handed to whoever
// asked.
#include <fmt/format.h>
#include <sys/epoll.h>

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
  auto started = [&]() -> Result<std::pair<Fd, medium::Allocation>> {
    BAILEY_TRY(medium::room_for(setup_.place, bytes, promised_, what));
    Fd file = BAILEY_TRY(medium::create_file(setup_.place, name, bytes));
    auto allocation = BAILEY_TRY(
        medium::Allocation::start(setup_.place, file.get(), bytes, copy_from ? copy_from->get() : -1));
    return std::pair{std::move(file), std::move(allocation)};
  }();
  if (!started) return done(std::unexpected(std::move(started).error()));

  std::uint64_t id = ++next_making_;
  auto file = std::make_shared<Fd>(std::move(started->first));
  Making& making = making_[id];
  making.allocation = std::move(started->second);
  making.bytes = bytes;
  auto watch = loop_.watch(making.allocation.pidfd(), EPOLLIN,
                           [this, id, name, file, what = std::move(what), done](std::uint32_t) {
                             auto node = making_.extract(id);
                             Making& made = node.mapped();
                             loop_.forget(made.watch);
                             promised_ -= made.bytes;
                             Status finished = made.allocation.finish(what);
                             if (finished) return done(std::move(*file));
                             static_cast<void>(medium::remove_file(setup_.place, name));
                             done(std::unexpected(std::move(finished).error()));
                           });
  if (!watch) {
    making_.erase(id);
    return done(std::unexpected(std::move(watch).error()));
  }
  making.watch = *watch;
  promised_ += bytes;
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
