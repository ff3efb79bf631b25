#include "bailey/pool/sealer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "bailey/crypto/kdf.h"

namespace bailey::pool {
namespace {

constexpr std::size_t room_bytes_least = 4096;

// What is authenticated beside the text (docs/formats.md).
struct BoundBytes {
  BoundBytes(const RegionId& id, const Bound& bound)
      : region(id),
        first(bound.hash.first),
        second(bound.hash.second),
        version(bound.version),
        lengths(bound.lengths) {}
  RegionId region;
  std::uint64_t first, second, version, lengths;
};
static_assert(sizeof(BoundBytes) == 48);

}  // namespace

Result<std::unique_ptr<Sealer>> Sealer::create(const Parts& parts) {
  crypto::KeyChain keys = BAILEY_TRY(crypto::KeyChain::create(parts.generation, parts.key));
  crypto::Aead newest = BAILEY_TRY(crypto::Aead::create(parts.cipher, parts.key));
  // From the first generation's key, which all have: the index is made of these hashes, and does not change
  // when the key does.
  crypto::Secret hash_key = BAILEY_TRY(crypto::derive(keys.key(1), "bailey hash of keys 1"));
  return std::unique_ptr<Sealer>(new Sealer(parts, std::move(keys), std::move(newest), std::move(hash_key)));
}

Sealer::Sealer(const Parts& parts, crypto::KeyChain keys, crypto::Aead newest, crypto::Secret hash_key)
    : cipher_(parts.cipher),
      region_(parts.region),
      name_(parts.name),
      keys_(std::move(keys)),
      newest_(std::move(newest)),
      hash_key_(std::move(hash_key)),
      room_(room_bytes_least) {}

Status Sealer::set_signed(std::unique_ptr<WriterKeys> keys) {
  signatures_ = BAILEY_TRY(Signatures::create(region_, keys_.key(1), std::move(keys)));
  return {};
}

Status Sealer::renew(crypto::Generation generation, Bytes key) {
  if (generation <= this->generation()) return {};
  crypto::KeyChain keys = BAILEY_TRY(crypto::KeyChain::create(generation, key));
  if (!crypto::equal_secret(keys.key(1), keys_.key(1)))
    return fail(Code::corrupt, By::peer,
                fmt::format("region {}: the broker gave a key of generation {} that is not of the same chain "
                            "as the one before",
                            name_, generation));
  newest_ = BAILEY_TRY(crypto::Aead::create(cipher_, key));
  keys_ = std::move(keys);
  return {};
}

void Sealer::make_room(std::size_t bytes) { room_.resize(std::max(bytes, room_.size() * 2)); }

void Sealer::seal(Bytes text, std::byte* out, Part part, const Bound& bound, crypto::Tag& tag) const {
  const BoundBytes with(region_, bound);
  newest_.seal(text, out, {bound.version, static_cast<std::uint32_t>(part)},
               std::as_bytes(std::span(&with, 1)), tag);
}

Sealer::Opened Sealer::open(Bytes text, std::byte* out, Part part, crypto::Generation generation,
                            const Bound& bound, const crypto::Tag& tag, Error& failure) {
  const BoundBytes with(region_, bound);
  const crypto::Aead* aead = &newest_;
  if (generation != this->generation()) [[unlikely]] {
    if (generation == 0) return Opened::forged;
    if (generation > this->generation()) return Opened::unheard;
    auto older = of(generation);
    if (!older) {
      failure = std::move(older).error();
      return Opened::failed;
    }
    aead = *older;
  }
  return aead->open(text, out, {bound.version, static_cast<std::uint32_t>(part)},
                    std::as_bytes(std::span(&with, 1)), tag)
             ? Opened::yes
             : Opened::forged;
}

Result<const crypto::Aead*> Sealer::of(crypto::Generation generation) {
  Older& older = older_[generation % older_.size()];
  if (older.generation != generation) {
    older = {};
    older.aead = BAILEY_TRY(crypto::Aead::create(cipher_, keys_.key(generation)));
    older.generation = generation;
  }
  return &*older.aead;
}

void Sealer::forget_versions() { std::ranges::fill(met_, Met{}); }

Error Sealer::corrupt(std::string_view what) const {
  return fail(Code::corrupt, By::peer, fmt::format("region {}: {}", name_, what),
              "somebody without the region's key wrote into it: bailey region check tells what is readable")
      .error();
}

Error Sealer::replaced() const { return corrupt("a record was put back that its writer had replaced"); }

Error Sealer::not_signed() const {
  return fail(Code::corrupt, By::peer, fmt::format("region {}: a record is not signed by its writer", name_),
              "somebody with the region's key wrote into it, and not under a grant to write: bailey region "
              "check tells what is readable")
      .error();
}

}  // namespace bailey::pool
