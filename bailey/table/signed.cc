#include "bailey/table/signed.h"

#include <algorithm>
#include <cstring>

#include "bailey/table/sealed.h"
#include "bailey/table/writer.h"

namespace bailey::table {

bool load_proof(const std::byte* at, std::uint64_t room, pool::Proof& proof) {
  const Word word = medium::load_relaxed(reinterpret_cast<const Word*>(at));
  const Word hashes = word & 0xff, index = word >> 8;
  if (hashes > BAILEY_PROOF_HASHES_MAX || index >> hashes != 0 ||
      proof_bytes(static_cast<unsigned>(hashes)) > room)
    return false;
  proof.path.length = static_cast<std::uint8_t>(hashes);
  proof.path.index = static_cast<std::uint8_t>(index);
  medium::copy_out(proof.signature.data(), at + sizeof(Word), sizeof proof.signature);
  medium::copy_out(proof.path.beside.data(), at + BAILEY_PROOF_BYTES, hashes * BAILEY_PROOF_HASH_BYTES);
  return true;
}

void store_proof(std::byte* at, const pool::Proof& proof) {
  medium::store_relaxed(reinterpret_cast<Word*>(at), Word{proof.path.index} << 8 | proof.path.length);
  medium::copy_in(at + sizeof(Word), proof.signature.data(), sizeof proof.signature);
  medium::copy_in(at + BAILEY_PROOF_BYTES, proof.path.beside.data(),
                  std::size_t{proof.path.length} * BAILEY_PROOF_HASH_BYTES);
}

Seen approve(pool::View& view, const crypto::KeyHash& hash, std::uint64_t version, std::string_view key,
             std::span<std::byte> value, const pool::Proof* proof, Error& failure) {
  using Verdict = pool::Signatures::Verdict;
  pool::Sealer& sealer = *view.sealer();
  const auto refuse = [&](Error why) {
    failure = std::move(why);
    std::memset(value.data(), 0, value.size());
    return Seen::failed;
  };
  if (proof == nullptr) return refuse(sealer.not_signed());
  const auto verdict = [&] { return sealer.signatures()->verify(version, key, as_text(value), *proof); };
  Verdict is = verdict();
  if (is == Verdict::unknown) {
    auto learned = view.learn_writer(static_cast<std::uint32_t>(version >> 32));
    if (!learned) return refuse(std::move(learned).error());
    is = *learned ? verdict() : Verdict::bad;
  }
  if (is != Verdict::good) return refuse(sealer.not_signed());
  if (sealer.rolled_back(hash, version)) return refuse(sealer.replaced());
  return Seen::match;
}

// ---- the writer's side

// The proof of what is about to be prepared: under the version that it was presigned with, unless a newer one
// was used since; else it is signed for itself, under `version`.
bool Writer::prove(std::string_view key, std::string_view value, const Presigned* presigned,
                   std::uint64_t& version) {
  if (presigned != nullptr && presigned->version > proved_version_) {
    version = proved_version_ = presigned->version;
    proof_ = presigned->proof;
    return true;
  }
  if (keep_failure(view_.prepare_to_sign())) return false;
  pool::Signatures& signatures = *view_.sealer()->signatures();
  const crypto::Hash leaf = signatures.leaf(version, key, value);
  signatures.sign(view_.writer(), {&leaf, 1}, {&proof_, 1});
  proved_version_ = version;
  return true;
}

// Versions and proofs for those of a batch that will be records. None for any where they can't be had: then
// each write is signed by itself, and says why not.
void Writer::presign(std::span<const Write> writes, std::span<Presigned> presigned) {
  for (Presigned& of : presigned) of.version = 0;
  if (!view_.prepare_to_sign() || 0xffff'ffff - counter_ < writes.size()) return;
  pool::Signatures& signatures = *view_.sealer()->signatures();
  std::array<crypto::Hash, crypto::batch_max> leaves;
  std::array<pool::Proof, crypto::batch_max> proofs;
  unsigned count = 0;
  for (std::size_t i = 0; i < writes.size(); ++i) {
    const Write& write = writes[i];
    if (write.op == Op::erase || write.key.size() > key_bytes_max || write.value.size() > value_bytes_max)
      continue;
    presigned[i].version = std::uint64_t{view_.writer()} << 32 | ++counter_;
    leaves[count++] = signatures.leaf(presigned[i].version, write.key, write.value);
  }
  if (count == 0) return;
  signatures.sign(view_.writer(), {leaves.data(), count}, {proofs.data(), count});
  count = 0;
  for (Presigned& of : presigned)
    if (of.version != 0) of.proof = proofs[count++];
}

}  // namespace bailey::table
