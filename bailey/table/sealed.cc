#include "bailey/table/sealed.h"

namespace bailey::table {

using Part = pool::Sealer::Part;

Seen open_part(pool::View& view, Part part, const SealedHead& head, Bytes sealed, std::byte* out,
               Error& failure) {
  pool::Sealer& sealer = *view.sealer();
  switch (sealer.open(sealed, out, part, generation_of(head.bound.lengths), head.bound,
                      part == Part::key ? head.key_tag : head.value_tag, failure)) {
    case pool::Sealer::Opened::yes:
      // What is not its writer's must not count as met: approve() looks at both.
      if (sealer.signatures() != nullptr || !sealer.rolled_back(head.bound.hash, head.bound.version))
          [[likely]]
        return Seen::match;
      failure = sealer.replaced();
      return Seen::failed;
    case pool::Sealer::Opened::unheard:
      // The broker moves the grant word before it gives anybody the new key.
      if (!view.current()) return Seen::unheard;
      [[fallthrough]];
    case pool::Sealer::Opened::forged:
      failure = sealer.corrupt("a record is not what any holder of the region's key wrote");
      return Seen::failed;
    case pool::Sealer::Opened::failed:
      break;
  }
  return Seen::failed;
}

SealedCopy::SealedCopy(pool::Sealer& sealer, const std::byte* record, std::uint64_t block_bytes, Word word,
                       Word lengths)
    : head(record, word, lengths) {
  value = sealer.room(head.value_bytes() + head.key_bytes());
  key = value + head.value_bytes();
  medium::copy_out(value, sealed_value(record), head.value_bytes());
  medium::copy_out(key, sealed_key(record, head.value_bytes()), head.key_bytes());
  if (sealer.signatures() == nullptr) return;
  const std::uint64_t before = sealed_record_bytes(head.key_bytes(), head.value_bytes());
  proved = load_proof(record + before, block_bytes - before, proof);
}

Seen SealedCopy::open(pool::View& view, Error& failure) {
  const Seen opened = open_part(view, Part::value, head, {value, head.value_bytes()}, value, failure);
  if (opened != Seen::match) return opened;
  const Seen whole = open_part(view, Part::key, head, {key, head.key_bytes()}, key, failure);
  if (whole != Seen::match || view.sealer()->signatures() == nullptr) return whole;
  return approve(view, head.bound.hash, head.bound.version, key_text(), {value, head.value_bytes()},
                 proved ? &proof : nullptr, failure);
}

}  // namespace bailey::table
