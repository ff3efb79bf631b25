// For tests and benchmarks without a broker: a sealer with keys that all who ask for it share. One thread.
#pragma once

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
  std::unique_ptr<Sealer> sealer() const {
    return Sealer::create({cipher, RegionId{region}, "vault", generation, key(generation)}).value();
  }
};

}  // namespace bailey::pool
