#include "bailey/capability/token.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "bailey/abi/control.h"
#include "bailey/crypto/base64.h"
#include "bailey/crypto/mac.h"
#include "bailey/crypto/secret.h"

namespace bailey::capability {
namespace {

constexpr std::size_t head_size = sizeof(bailey_token_header);
constexpr std::size_t caveat_head_bytes = sizeof(bailey_token_caveat);
constexpr std::size_t holder_bytes_max = 63;

std::unexpected<Error> malformed(std::string how) {
  return fail(Code::corrupt, By::peer, "not a token: " + std::move(how));
}

std::uint64_t number_at(const std::byte* at) {
  std::uint64_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

bool is_holder(std::string_view name) {
  return !name.empty() && name.size() <= holder_bytes_max && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}
bool is_range(const Range& range) {
  return range.length != 0 && range.offset + (range.length - 1) >= range.offset;
}

// The caveat, or nothing where these bytes are none.
std::optional<Caveat> parse(std::uint8_t kind, Bytes body) {
  switch (kind) {
    case BAILEY_TOKEN_CAVEAT_RANGE: {
      if (body.size() != 16) return std::nullopt;
      Range range{number_at(body.data()), number_at(body.data() + 8)};
#ifndef BAILEY_FUZZ_CANARY  // the planted defect
      if (!is_range(range)) return std::nullopt;
#endif
      return range;
    }
    case BAILEY_TOKEN_CAVEAT_PREFIX:
      if (body.empty()) return std::nullopt;
      return Prefix{as_text(body)};
    case BAILEY_TOKEN_CAVEAT_RIGHTS: {
      if (body.size() != 1) return std::nullopt;
      auto rights = std::to_integer<std::uint8_t>(body[0]);
      if (rights == BAILEY_TOKEN_RIGHTS_READ) return Rights{Access::read_only};
      if (rights == BAILEY_TOKEN_RIGHTS_WRITE) return Rights{Access::read_write};
      return std::nullopt;
    }
    case BAILEY_TOKEN_CAVEAT_EXPIRY:
      if (body.size() != 8 || number_at(body.data()) == 0) return std::nullopt;
      return Expiry{number_at(body.data())};
    case BAILEY_TOKEN_CAVEAT_HOLDER:
      if (!is_holder(as_text(body))) return std::nullopt;
      return Holder{as_text(body)};
    default:
      return std::nullopt;
  }
}

std::uint8_t rights_of(Access access) {
  return access == Access::read_write ? BAILEY_TOKEN_RIGHTS_WRITE : BAILEY_TOKEN_RIGHTS_READ;
}

// The bytes of a caveat with its head.
struct Written {
  std::array<std::byte, caveat_head_bytes + 255> bytes;
  std::size_t size = 0;

  Bytes span() const { return {bytes.data(), size}; }
  void put(std::uint8_t kind, const void* body, std::size_t count) {
    bytes[0] = std::byte{kind};
    bytes[1] = static_cast<std::byte>(count);
    std::memcpy(bytes.data() + caveat_head_bytes, body, count);
    size = caveat_head_bytes + count;
  }
};

struct Writer {
  Written& out;
  bool operator()(const Range& range) {
    std::uint64_t words[] = {range.offset, range.length};
    out.put(BAILEY_TOKEN_CAVEAT_RANGE, words, sizeof words);
    return is_range(range);
  }
  bool operator()(const Prefix& prefix) {
    if (prefix.bytes.empty() || prefix.bytes.size() > 255) return false;
    out.put(BAILEY_TOKEN_CAVEAT_PREFIX, prefix.bytes.data(), prefix.bytes.size());
    return true;
  }
  bool operator()(const Rights& rights) {
    std::uint8_t byte = rights_of(rights.access);
    out.put(BAILEY_TOKEN_CAVEAT_RIGHTS, &byte, 1);
    return true;
  }
  bool operator()(const Expiry& expiry) {
    out.put(BAILEY_TOKEN_CAVEAT_EXPIRY, &expiry.seconds, sizeof expiry.seconds);
    return expiry.seconds != 0;
  }
  bool operator()(const Holder& holder) {
    if (!is_holder(holder.name)) return false;
    out.put(BAILEY_TOKEN_CAVEAT_HOLDER, holder.name.data(), holder.name.size());
    return true;
  }
};

struct Teller {
  std::string operator()(const Range& range) const {
    return fmt::format("bytes {}..{}", range.offset, range.offset + (range.length - 1));
  }
  std::string operator()(const Prefix& prefix) const {
    std::string text = "keys that begin with \"";
    for (char c : prefix.bytes)
      if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\')
        text += c;
      else
        text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    return text + '"';
  }
  std::string operator()(const Rights& rights) const {
    return rights.access == Access::read_write ? "rights rw" : "rights r";
  }
  std::string operator()(const Expiry& expiry) const { return "until " + time_to_string(expiry.seconds); }
  std::string operator()(const Holder& holder) const { return fmt::format("holder {}", holder.name); }
};

}  // namespace

std::string to_string(const Caveat& caveat) { return std::visit(Teller{}, caveat); }

std::string to_string(const Id& id) {
  std::string text;
  for (std::uint8_t byte : id) text += fmt::format("{:02x}", byte);
  return text;
}

Result<Id> parse_id(std::string_view text) {
  Id id{};
  auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  bool right =
      text.size() == 2 * id.size() && std::ranges::all_of(text, [&](char c) { return digit(c) >= 0; });
  if (!right)
    return fail(Code::invalid_argument, By::library, "a token's id is 32 digits of 0-9 a-f",
                "`bailey token inspect` and the audit log show it");
  for (std::size_t i = 0; i < id.size(); ++i)
    id[i] = static_cast<std::uint8_t>(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
  return id;
}

std::string time_to_string(std::uint64_t seconds) {
  constexpr std::uint64_t year_9999 = 253402300799;
  auto time = static_cast<time_t>(seconds);
  tm broken{};
  if (seconds > year_9999 || ::gmtime_r(&time, &broken) == nullptr) return fmt::format("second {}", seconds);
  char text[32];
  std::size_t size = ::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &broken);
  return {text, size};
}

Token::~Token() { crypto::wipe({bytes_.data(), size_}); }

Result<Token> Token::decode(Bytes bytes) {
  if (bytes.size() < head_size + BAILEY_TOKEN_TAG_BYTES || bytes.size() > BAILEY_TOKEN_BYTES_MAX)
    return malformed(fmt::format("it has {} bytes, outside of {}..{}", bytes.size(),
                                 head_size + BAILEY_TOKEN_TAG_BYTES, BAILEY_TOKEN_BYTES_MAX));
  // Fetched once: what is checked is what is used.
  Token token;
  std::ranges::copy(bytes, token.bytes_.begin());
  token.size_ = static_cast<std::uint16_t>(bytes.size());
  bailey_token_header header;
  std::memcpy(&header, token.bytes_.data(), sizeof header);
  if (header.magic != BAILEY_TOKEN_MAGIC) return malformed("it has not the magic number of one");
  if (header.version != BAILEY_TOKEN_VERSION)
    return fail(
        Code::incompatible, By::peer,
        fmt::format("a token of version {}; this build knows {}", header.version, BAILEY_TOKEN_VERSION),
        "use the version of Bailey that minted it");
  bool of_session = header.audience == BAILEY_TOKEN_AUDIENCE_SESSION;
  if (!of_session && header.audience != BAILEY_TOKEN_AUDIENCE_BROKER)
    return malformed(fmt::format("it is for an audience {} that does not exist", header.audience));
  if (!of_session && (header.grant != 0 || header.number != 0 || header.generation != 0))
    return malformed("it is for the broker and names a session");
  if (header.grant >= BAILEY_GRANT_WORDS) return malformed("it names a grant word that does not exist");
  if (header.rights != BAILEY_TOKEN_RIGHTS_READ && header.rights != BAILEY_TOKEN_RIGHTS_WRITE)
    return malformed(fmt::format("it gives rights {} that do not exist", header.rights));
  if ((header.flags & ~BAILEY_TOKEN_FLAG_BEARER) != 0) return malformed("it has flags that do not exist");
  std::size_t at = head_size, end = bytes.size() - BAILEY_TOKEN_TAG_BYTES;
  for (; at != end; ++token.caveats_) {
    if (token.caveats_ == BAILEY_TOKEN_CAVEATS_MAX)
      return malformed(fmt::format("it has more than {} caveats", BAILEY_TOKEN_CAVEATS_MAX));
    if (end - at < caveat_head_bytes) return malformed("a caveat is cut");
    auto kind = std::to_integer<std::uint8_t>(token.bytes_[at]);
    auto body = std::to_integer<std::size_t>(token.bytes_[at + 1]);
    if (end - at - caveat_head_bytes < body) return malformed("a caveat is cut");
    if (!parse(kind, token.bytes().subspan(at + caveat_head_bytes, body)))
      return malformed(
          fmt::format("its caveat {} of kind {} and {} bytes has no meaning", token.caveats_, kind, body));
    token.starts_[token.caveats_] = static_cast<std::uint16_t>(at);
    at += caveat_head_bytes + body;
  }
  token.starts_[token.caveats_] = static_cast<std::uint16_t>(end);
  return token;
}

Result<Token> Token::from_text(std::string_view text) {
  std::string bytes = BAILEY_TRY(crypto::from_base64(text, BAILEY_TOKEN_BYTES_MAX));
  auto token = decode(as_bytes(bytes));
  crypto::wipe(std::as_writable_bytes(std::span(bytes)));
  return token;
}

std::string Token::text() const { return crypto::base64(bytes()); }

Id Token::id() const {
  Id id;
  std::memcpy(id.data(), bytes_.data() + offsetof(bailey_token_header, id), id.size());
  return id;
}

Head Token::head() const {
  bailey_token_header header;
  std::memcpy(&header, bytes_.data(), sizeof header);
  Head head;
  head.audience = static_cast<Audience>(header.audience);
  head.grant = header.grant;
  head.number = header.number;
  head.generation = header.generation;
  std::ranges::copy(header.pool, head.pool.begin());
  std::ranges::copy(header.region, head.region.begin());
  std::ranges::copy(header.id, head.id.begin());
  head.access = header.rights == BAILEY_TOKEN_RIGHTS_WRITE ? Access::read_write : Access::read_only;
  head.bearer = (header.flags & BAILEY_TOKEN_FLAG_BEARER) != 0;
  return head;
}

Caveat Token::caveat(std::size_t number) const {
  BAILEY_ASSERT(number < caveats_);
  Bytes bytes = caveat_bytes(number);
  auto caveat = parse(std::to_integer<std::uint8_t>(bytes[0]), bytes.subspan(caveat_head_bytes));
  BAILEY_ASSERT(caveat);  // decode() and narrow() let no other in
  return *caveat;
}

Result<Token> Token::narrow(const Caveat& caveat) const {
  Written written;
  if (!std::visit(Writer{written}, caveat))
    return fail(
        Code::invalid_argument, By::library, "this caveat can't be written into a token",
        "a range has 1 byte or more and ends within 64 bits, a key prefix has 1 to 255 bytes, an expiry is "
        "not second 0, a holder is the name of a principal: 1 to 63 of a-z 0-9 -");
  if (caveats_ == BAILEY_TOKEN_CAVEATS_MAX || size_ + written.size > BAILEY_TOKEN_BYTES_MAX)
    return fail(
        Code::too_large, By::library,
        fmt::format("the token has {} caveats and {} bytes, and no room for {} more bytes; at most {} and {}",
                    caveats_, size_, written.size, BAILEY_TOKEN_CAVEATS_MAX, BAILEY_TOKEN_BYTES_MAX),
        "narrow a token that has fewer caveats, or have one minted");
  Token narrower;
  std::size_t end = starts_[caveats_];
  std::memcpy(narrower.bytes_.data(), bytes_.data(), end);
  std::memcpy(narrower.bytes_.data() + end, written.bytes.data(), written.size);
  crypto::Mac next = crypto::mac(tag(), written.span());
  std::memcpy(narrower.bytes_.data() + end + written.size, next.data(), next.size());
  narrower.size_ = static_cast<std::uint16_t>(size_ + written.size);
  narrower.starts_ = starts_;
  narrower.caveats_ = static_cast<std::uint16_t>(caveats_ + 1);
  narrower.starts_[narrower.caveats_] = static_cast<std::uint16_t>(end + written.size);
  return narrower;
}

}  // namespace bailey::capability
