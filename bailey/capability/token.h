// Tokens: grants that can be carried, and narrowed offline by whoever carries them.
//
// A token is bytes (abi/token.h): a header that says for what it is, caveats that must all hold, and a tag.
// To narrow it is to append a caveat; the tag that was there becomes the key of the next one and is gone, so
// nobody gets back to the wider token. To have a Token proves nothing: whoever acts on one verifies it with a
// Key of its audience first (key.h), then looks at its scope (scope.h).
//
// Bytes of others come in through decode() and from_text() alone: one form for each token, every other string
// is refused. Tokens are secrets: they are wiped when they go, and logs name ids.
//
// Thread safety: values.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "bailey/abi/token.h"
#include "bailey/base/bytes.h"
#include "bailey/base/error.h"
#include "bailey/base/fd.h"

namespace bailey::capability {

using Id = std::array<std::uint8_t, 16>;

enum class Audience : std::uint8_t {
  broker = BAILEY_TOKEN_AUDIENCE_BROKER,
  session = BAILEY_TOKEN_AUDIENCE_SESSION,
};

// What a token is for. Everything but `id`, `access` and `bearer` says who verifies it: a key belongs to
// that.
struct Head {
  Audience audience = Audience::broker;
  std::uint32_t grant = 0;       // of a session's: its grant word
  std::uint64_t number = 0;      // the session's number
  std::uint64_t generation = 0;  // and the value of the grant word when the region was opened
  Id pool{};
  Id region{};
  Id id{};
  Access access = Access::read_only;
  bool bearer = false;

  bool operator==(const Head&) const = default;
};

// ---- caveats. Texts lie in the token that they were taken from.

struct Range {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;  // not 0; the end is within 64 bits
  bool operator==(const Range&) const = default;
};
struct Prefix {  // of keys
  std::string_view bytes;
  bool operator==(const Prefix&) const = default;
};
struct Rights {
  Access access = Access::read_only;
  bool operator==(const Rights&) const = default;
};
struct Expiry {
  std::uint64_t seconds = 0;  // since 1970, UTC: from then on it holds no more
  bool operator==(const Expiry&) const = default;
};
struct Holder {
  std::string_view name;  // of a principal of the policy
  bool operator==(const Holder&) const = default;
};
using Caveat = std::variant<Range, Prefix, Rights, Expiry, Holder>;

// "bytes 0..4095", "until 2027-01-01T00:00:00Z": for people.
std::string to_string(const Caveat& caveat);
std::string to_string(const Id& id);         // 32 hexadecimal digits
Result<Id> parse_id(std::string_view text);  // the same back; invalid_argument
std::string time_to_string(
    std::uint64_t seconds);  // "2027-01-01T00:00:00Z", or the number where no calendar has it

class Token {
 public:
  // Error corrupt, by the peer, with what is wrong.
  static Result<Token> decode(Bytes bytes);
  // Base64, without white space. Error invalid_argument.
  static Result<Token> from_text(std::string_view text);

  Token(const Token&) = default;
  Token& operator=(const Token&) = default;
  ~Token();

  Bytes bytes() const { return {bytes_.data(), size_}; }
  std::string text() const;

  Head head() const;
  Id id() const;
  std::size_t caveats() const { return caveats_; }
  Caveat caveat(std::size_t number) const;

  // Offline. Errors: invalid_argument (a caveat that has no form), too_large (no room for it, by bytes or by
  // number).
  Result<Token> narrow(const Caveat& caveat) const;

 private:
  friend class Key;
  Token() = default;
  Bytes head_bytes() const { return bytes().first(sizeof(bailey_token_header)); }
  Bytes caveat_bytes(std::size_t number) const {
    return bytes().subspan(starts_[number], static_cast<std::size_t>(starts_[number + 1] - starts_[number]));
  }
  Bytes tag() const { return bytes().last(BAILEY_TOKEN_TAG_BYTES); }

  std::array<std::byte, BAILEY_TOKEN_BYTES_MAX> bytes_;
  std::uint16_t size_ = 0;
  std::uint16_t caveats_ = 0;
  std::array<std::uint16_t, BAILEY_TOKEN_CAVEATS_MAX + 1> starts_{};  // of caveats; then of the tag
};

}  // namespace bailey::capability
