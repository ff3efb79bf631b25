// Keys of encrypted regions: made from the root when they are needed, renewed by a new generation, given to
// sessions that have the region open, and to nobody else. None is ever stored.
//
// Renewal: the new generation is committed, together with what takes the right to read from somebody where
// that is why. Then every grant word of the region moves, and only then somebody is given the new key:
// whoever meets a record that is sealed under it and lacks it is not current, attends, and is told.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "bailey/base/log.h"
#include "bailey/broker/broker.h"
#include "bailey/crypto/kdf.h"
#include "bailey/crypto/key_chain.h"

namespace bailey::broker {
namespace {

Error out_of_keys(const Region& region) {
  return fail(Code::quota, By::broker,
              fmt::format("region {} has had all its {} keys", region.name, crypto::generations_max),
              "copy what is in it into a new region")
      .error();
}

}  // namespace

// Of an encrypted region; nothing of another.
Result<std::optional<protocol::RegionKey>> Broker::key_of(Region& region) const {
  if (region.key_generation == 0) return std::nullopt;
  // Found once a generation: it takes some thousand hashes.
  if (region.key_found != region.key_generation) {
    region.key = BAILEY_TRY(crypto::key_of_generation(
        setup_.root->span(), std::as_bytes(std::span(region.id)), region.key_generation));
    region.key_found = region.key_generation;
  }
  protocol::RegionKey key;
  key.cipher = region.cipher;
  key.generation = region.key_generation;
  std::memcpy(key.key.data(), region.key.span().data(), key.key.size());
  return key;
}

// Tells roots apart, and tells nothing of them; stored when the first encrypted region is made.
Result<std::string> Broker::mark_of_root() const {
  crypto::Secret mark = BAILEY_TRY(crypto::derive(setup_.root->span(), "bailey mark of the root 1"));
  return std::string(as_text(mark.span()));
}

// Whether this broker's root is the one that the pool's encrypted regions were made under.
Status Broker::check_root() {
  const bool encrypted =
      std::any_of(regions_.begin(), regions_.end(), [](auto& of) { return of.second.key_generation != 0; });
  if (!encrypted || BAILEY_TRY(state_.meta("root")) == BAILEY_TRY(mark_of_root())) return {};
  return fail(
      Code::unauthenticated, By::broker,
      "the pool has encrypted regions, which were made under another broker's key",
      "start the broker with the --key that made the pool; nothing of those regions opens without it");
}

// Counts up in memory; who asks commits it, or takes it back, and then has everybody told. Whether it did:
// not where the region is not encrypted, nor where it has a new one already, nor where its chain of keys is
// at its end.
bool Broker::count_key(Region& region) {
  if (region.key_generation == 0 || region.key_untold) return false;
  if (region.key_generation == crypto::generations_max) {
    log::error("broker", "{}", out_of_keys(region).message);
    return false;
  }
  ++region.key_generation;
  region.key_untold = true;
  return true;
}

void Broker::uncount_key(Region& region) {
  --region.key_generation;
  region.key_untold = false;
}

// Once the new generation is committed, if there is one. What whoever took the right to read from somebody
// has to hear: that the chain is at its end, or near to it.
std::string Broker::tell_of_key(Region& region) {
  if (!std::exchange(region.key_untold, false)) {
    if (region.key_generation < crypto::generations_max) return {};
    note("key not renewed", nullptr, {{"region", region.name}, {"generation", region.key_generation}});
    return fmt::format(
        "region {} keeps its key: its chain is at its end, and who had the key opens what is written with "
        "it; "
        "copy what is in it into a new region\n",
        region.name);
  }
  bump_region(region);
  note("key renewed", nullptr, {{"region", region.name}, {"generation", region.key_generation}});
  std::string left = keys_left(region);
  if (left.empty()) return {};
  log::warning("broker", "{}", left);
  return left + "\n";
}

// Whether who writes into the region may still be kept from somebody who loses the right to read it.
Status Broker::check_keys_left(const Region& region) {
  if (region.key_generation < crypto::generations_max) return {};
  return fail(
      Code::quota, By::broker,
      fmt::format("region {} has the last of its {} keys, and takes no new writers: nothing that they "
                  "write could be kept from who loses the right to read",
                  region.name, crypto::generations_max),
      "copy what is in it into a new region");
}

// A warning where nine of ten keys are used up; else empty.
std::string Broker::keys_left(const Region& region) {
  if (region.key_generation < crypto::generations_max / 10 * 9) return {};
  return fmt::format(
      "Region {} has used {} of its {} keys; after the last one it takes no new writers, and who loses the "
      "right to "
      "read opens what is written all the same. Copy what is in it into a new region.",
      region.name, region.key_generation, crypto::generations_max);
}

Reaction Broker::rotate_key(Session& session, std::uint64_t number, const protocol::RotateKey& request) {
  if (!session.admin) {
    Error error = policy::may_administer(policy_, session.who).error();
    denied(session, request.region, error);
    return std::unexpected(std::move(error));
  }
  Region* region = find_region(request.region);
  if (region == nullptr)
    return fail(Code::not_found, By::broker, fmt::format("there is no region {}", request.region));
  if (region->key_generation == 0)
    return fail(Code::unsupported, By::broker,
                fmt::format("region {} is not encrypted: it has no key", request.region),
                "declare a region with protect = [\"process\", \"encrypted\"]");
  if (!count_key(*region)) return std::unexpected(out_of_keys(*region));
  if (auto committed = state_.commit([&] { return state_.save(*region); }); !committed) {
    uncount_key(*region);
    return std::unexpected(std::move(committed).error());
  }
  const std::string left = tell_of_key(*region);
  // Answered once no writer is in the middle of a record under the old key.
  renew(*region);
  std::string text =
      fmt::format("region {} has the key of generation {}", region->name, region->key_generation);
  if (!left.empty()) text += "\n" + left;
  if (!region->replacing) return Outcome{protocol::Text{std::move(text)}, {}};
  applying_.push_back({session.number, number, std::move(text), {}, {region->number}});
  return std::nullopt;
}

}  // namespace bailey::broker
