// Signed records: sealed ones (sealed.h) with a proof behind them, by which readers verify who wrote them
// (pool/signatures.h).
//
// The proof is fetched once with the rest, and looked at when the record was validated and opened. What does
// not verify is told as corrupt; a write replaces it.
#pragma once

#include "bailey/pool/sealer.h"
#include "bailey/table/record.h"

namespace bailey::table {

constexpr std::uint64_t proof_bytes(unsigned hashes) {
  return BAILEY_PROOF_BYTES + std::uint64_t{BAILEY_PROOF_HASH_BYTES} * hashes;
}
static_assert(BAILEY_PROOF_HASHES_MAX == crypto::path_max && BAILEY_PROOF_HASH_BYTES == sizeof(crypto::Hash));
static_assert(BAILEY_PROOF_BYTES == sizeof(Word) + sizeof(crypto::Signature));

// The least that a proof takes in the region that a sealer is for.
inline std::uint64_t proof_bytes_least(const pool::Sealer* sealer) {
  return sealer != nullptr && sealer->signatures() != nullptr ? proof_bytes(0) : 0;
}

// Fetches a proof that lies in the first `room` bytes of `at`, which are at least proof_bytes(0). False: it
// is none.
[[nodiscard]] bool load_proof(const std::byte* at, std::uint64_t room, pool::Proof& proof);
// To an owner's block.
void store_proof(std::byte* at, const pool::Proof& proof);

// What was opened, of the record of `version`: match where its writer signed it (`proof` may be null, then it
// did not) and nobody met a newer one. Else failed, `failure` says why, and nothing is left of the value.
Seen approve(pool::View& view, const crypto::KeyHash& hash, std::uint64_t version, std::string_view key,
             std::span<std::byte> value, const pool::Proof* proof, Error& failure);

// What a batch signs before its writes begin: versions that go up in its order, and a proof for each.
struct Presigned {
  std::uint64_t version = 0;  // 0: not of the batch
  pool::Proof proof;
};

}  // namespace bailey::table
