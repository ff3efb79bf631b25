// Key: mints tokens for one audience, and verifies them.
//
// Each audience has a key of its own, derived from the broker's root: the broker's for what it minted for a
// region, and one for each region that a session has opened. Whoever has one can mint for that audience and
// for no other, since the audience is what the key is derived from.
//
// Thread safety: const access by many.
#pragma once

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"
#include "bailey/capability/token.h"
#include "bailey/crypto/kdf.h"
#include "bailey/crypto/mac.h"
#include "bailey/crypto/secret.h"

namespace bailey::capability {

inline constexpr std::size_t key_bytes = crypto::derived_bytes;

// The secret of the audience that `head` names; its id, access and bearer have no part in it. Error no_space.
Result<crypto::Secret> derive_key(Bytes root, const Head& head);

// 128 bits from the kernel.
Id fresh_id();

class Key {
 public:
  explicit Key(Bytes secret) : key_(secret) {}

  Token mint(const Head& head) const;
  // Whether it was minted with this key and narrowed by nothing but its caveats. Takes a time that depends on
  // its length and number of caveats alone.
  bool verify(const Token& token) const;

 private:
  crypto::MacKey key_;
};

}  // namespace bailey::capability
