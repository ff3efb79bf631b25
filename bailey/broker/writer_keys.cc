// Which key is a writer's, in a signed region: told once by the writer itself, and by nobody else, before it
// signs anything; kept as long as the region, since records of writers that are gone stay. Readers ask, and
// trust no other word.
#include <fmt/format.h>

#include "bailey/broker/broker.h"

namespace bailey::broker {

bool Broker::is_signed(const Region& region) const {
  const policy::Region* wanted = policy_.find_region(region.name);
  return wanted != nullptr && wanted->has("signed");
}

Reaction Broker::sign_as(Session& session, const protocol::SignAs& request) {
  Open& open = *BAILEY_TRY(own_open(session, request.grant, true));
  Region& region = *region_of(open.region);
  if (!is_signed(region))
    return fail(Code::unsupported, By::broker, fmt::format("region {} is not signed", region.name));
  BAILEY_TRY(state_.commit([&] { return state_.save_writer_key(region.number, open.writer, request.key); }));
  const auto stored = BAILEY_TRY(state_.writer_keys(region.number, open.writer, 1));
  // Told twice: the answer was lost.
  if (stored.empty() || stored.front() != protocol::WriterKey{open.writer, request.key})
    return fail(
        Code::denied, By::broker,
        fmt::format("writer {} of region {} has a key, which does not change", open.writer, region.name),
        "close the region and open it again: that makes another writer");
  // Who was told that this writer has none asks again.
  setup_.control->bump_membership(region.number);
  return Outcome{protocol::Done{}, {}};
}

Reaction Broker::writer_keys(Session& session, const protocol::GetWriterKeys& request) {
  Open& open = *BAILEY_TRY(own_open(session, request.grant, false));
  return Outcome{protocol::WriterKeys{
                     BAILEY_TRY(state_.writer_keys(open.region, request.writer, protocol::writer_keys_max))},
                 {}};
}

}  // namespace bailey::broker
