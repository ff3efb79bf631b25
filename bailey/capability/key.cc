#include "bailey/capability/key.h"

#include <algorithm>
#include <cstring>

#include "bailey/base/identity.h"

namespace bailey::capability {

Result<crypto::Secret> derive_key(Bytes root, const Head& head) {
  struct Context {
    std::uint64_t audience, grant, number, generation;
    Id pool, region;
  } context{static_cast<std::uint64_t>(head.audience),
            head.grant,
            head.number,
            head.generation,
            head.pool,
            head.region};
  static_assert(sizeof context == 64);
  return crypto::derive(root, "bailey token 1", std::as_bytes(std::span(&context, 1)));
}

Id fresh_id() {
  Id id;
  random_bytes(id.data(), id.size());
  return id;
}

Token Key::mint(const Head& head) const {
  bailey_token_header header{};
  header.magic = BAILEY_TOKEN_MAGIC;
  header.version = BAILEY_TOKEN_VERSION;
  header.audience = static_cast<std::uint8_t>(head.audience);
  header.rights = head.access == Access::read_write ? BAILEY_TOKEN_RIGHTS_WRITE : BAILEY_TOKEN_RIGHTS_READ;
  header.flags = head.bearer ? BAILEY_TOKEN_FLAG_BEARER : 0;
  header.grant = head.grant;
  header.number = head.number;
  header.generation = head.generation;
  std::ranges::copy(head.pool, header.pool);
  std::ranges::copy(head.region, header.region);
  std::ranges::copy(head.id, header.id);
  Token token;
  Bytes bytes = std::as_bytes(std::span(&header, 1));
  std::ranges::copy(bytes, token.bytes_.begin());
  crypto::Mac tag = key_.mac(bytes);
  std::memcpy(token.bytes_.data() + bytes.size(), tag.data(), tag.size());
  token.size_ = static_cast<std::uint16_t>(bytes.size() + tag.size());
  token.starts_[0] = static_cast<std::uint16_t>(bytes.size());
  return token;
}

bool Key::verify(const Token& token) const {
  crypto::Mac tag = key_.mac(token.head_bytes());
  for (std::size_t i = 0; i < token.caveats_; ++i)
    tag = crypto::mac(std::as_bytes(std::span(tag)), token.caveat_bytes(i));
  bool right = crypto::equal_secret(std::as_bytes(std::span(tag)), token.tag());
  crypto::wipe(std::as_writable_bytes(std::span(tag)));
  return right;
}

}  // namespace bailey::capability
