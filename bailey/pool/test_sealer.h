// For tests and benchmarks without a broker: a sealer with keys that all who ask for it share. One thread.
#pragma once

#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <memory>

#include "bailey/pool/sealer.h"

namespace bailey::pool {

struct TestKeys {
  crypto::Cipher cipher = crypto::check_cipher(crypto::Cipher::aes_256_gcm)
                              ? crypto::Cipher::aes_256_gcm
                              : crypto::Cipher::xchacha20_poly1305;
  crypto::Generation generation = 1;
  std::uint8_t region = 7;
  std::uint8_t secret = 's';
  bool signs = false;
  std::uint32_t writers_known = ~0u;  // of a signed region: writers after these have no key

  Bytes key(crypto::Generation of) const {
    static std::map<std::array<unsigned, 3>, crypto::Secret> made;  // to make one takes a while
    crypto::Secret& key = made[{secret, region, of}];
    if (key.span().empty()) {
      std::array<std::byte, 32> from;
      from.fill(std::byte{secret});
      RegionId id{region};
      key = crypto::key_of_generation(from, std::as_bytes(std::span(id)), of).value();
    }
    return key.span();
  }
  // `writer`: who signs.
  std::unique_ptr<Sealer> sealer(std::uint32_t writer = 0) const {
    auto made = Sealer::create({cipher, RegionId{region}, "vault", generation, key(generation)}).value();
    if (signs) BAILEY_ASSERT(made->set_signed(std::make_unique<Pairs>(writer, writers_known)));
    return made;
  }

  // Pairs that follow from the writer's number: known to everybody, in every process.
  class Pairs : public WriterKeys {
   public:
    explicit Pairs(std::uint32_t writer, std::uint32_t writers_known)
        : writer_(writer), writers_known_(writers_known) {}
    static crypto::SecretKey of(std::uint32_t writer) {
      std::array<std::uint8_t, crypto::seed_bytes> seed{'p', 'a', 'i', 'r'};
      std::memcpy(seed.data() + 4, &writer, sizeof writer);
      return crypto::SecretKey::from_seed(seed).value();
    }
    Result<std::vector<Row>> from(std::uint32_t writer) override {
      ++asked;
      if (writer > writers_known_) return std::vector<Row>{};
      return std::vector<Row>{{writer, of(writer).public_key()}};
    }
    Result<crypto::SecretKey> pair() override { return of(writer_); }
    static inline std::atomic<unsigned> asked = 0;  // by all

   private:
    std::uint32_t writer_, writers_known_;
  };
};

}  // namespace bailey::pool
