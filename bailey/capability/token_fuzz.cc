// What any bytes do to the decoder of tokens: refused, or a token within the limits, in its one form, whose
// scope no narrowing widens.
#include <algorithm>
#include <cstdint>

#include "bailey/capability/key.h"
#include "bailey/capability/scope.h"

namespace bailey::capability {
namespace {

// The limits once more, written without a look at the decoder: what whoever acts on a caveat relies on.
struct WithinLimits {
  bool operator()(const Range& range) const {
    return range.length > 0 && range.offset <= ~0ull - (range.length - 1);
  }
  bool operator()(const Prefix& prefix) const { return !prefix.bytes.empty(); }
  bool operator()(const Rights&) const { return true; }
  bool operator()(const Expiry& expiry) const { return expiry.seconds != 0; }
  bool operator()(const Holder& holder) const {
    return !holder.name.empty() && holder.name.size() <= 63 &&
           holder.name.find('\0') == std::string_view::npos;
  }
};

void check(const Token& token, Bytes bytes) {
  BAILEY_ASSERT(std::ranges::equal(token.bytes(), bytes));
  BAILEY_ASSERT(token.caveats() <= 8);
  Scope scope = scope_of(token);
  BAILEY_ASSERT(scope.nothing || scope.begin < scope.end);
  for (std::size_t i = 0; i < token.caveats(); ++i) {
    BAILEY_ASSERT(std::visit(WithinLimits{}, token.caveat(i)));
    for (char c : to_string(token.caveat(i))) BAILEY_ASSERT(c >= 0x20 && c < 0x7f);
  }
  static const Key key{Bytes(std::as_bytes(std::span("not a key of anything at all")))};
  BAILEY_ASSERT(!key.verify(token));
  auto text = Token::from_text(token.text());
  BAILEY_ASSERT(text && std::ranges::equal(text->bytes(), bytes));
  if (auto narrower = token.narrow(Range{16, 16})) {
    Scope less = scope_of(*narrower);
    BAILEY_ASSERT(less.nothing || (less.begin >= std::max<std::uint64_t>(scope.begin, 16) &&
                                   less.end <= std::min<std::uint64_t>(scope.end, 32)));
    BAILEY_ASSERT(Token::decode(narrower->bytes()).has_value());
  }
}

}  // namespace
}  // namespace bailey::capability

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  bailey::Bytes bytes(reinterpret_cast<const std::byte*>(data), size);
  if (auto token = bailey::capability::Token::decode(bytes)) bailey::capability::check(*token, bytes);
  return 0;
}
