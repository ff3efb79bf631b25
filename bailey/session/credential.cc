#include "bailey/session/credential.h"

namespace bailey::session {
namespace {

std::unexpected<Error> misbehaved(std::string how) {
  return fail(Code::corrupt, By::peer, "the broker gave a token " + std::move(how),
              "this is not the broker that it should be, or a defect: look into the broker's log");
}

}  // namespace

Result<Credential> Credential::take(const protocol::Opened& opened, const protocol::Welcome& welcome,
                                    bool writable) {
  auto token = capability::Token::decode(as_bytes(opened.token));
  if (!token) return misbehaved("that is none: " + token.error().message);
  capability::Head head = token->head(), wanted;
  wanted.audience = capability::Audience::session;
  wanted.grant = opened.grant;
  wanted.number = welcome.session;
  wanted.generation = opened.grant_value;
  wanted.pool = welcome.pool;
  wanted.region = opened.region;
  wanted.id = head.id;
  wanted.access = writable ? Access::read_write : Access::read_only;
  wanted.bearer = true;
  if (head != wanted) return misbehaved("for something else than was opened");
  capability::Key key(std::as_bytes(std::span(opened.token_key)));
  if (!key.verify(*token)) return misbehaved("that its key does not verify");
  return Credential(std::move(*token), key);
}

std::unexpected<Error> Credential::refused() {
  return fail(Code::denied, By::library, "the token was not made from the one that this session holds here",
              "narrow the token of the region that is open, in this session");
}

}  // namespace bailey::session
