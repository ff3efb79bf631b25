// Credential: what a session may do in a region that it has open, as the broker re-minted it for this
// session.
//
// The key is of this one audience. With it the session verifies, without the broker, what code in this
// process narrowed from the token; and could mint for itself, which gives it nothing that it has not.
//
// Thread-safe: const access by many.
#pragma once

#include "bailey/base/error.h"
#include "bailey/capability/key.h"
#include "bailey/capability/scope.h"
#include "bailey/capability/token.h"
#include "bailey/protocol/messages.h"

namespace bailey::session {

class Credential {
 public:
  // Checks that the broker gave what it should: a token for this session, this region and these rights, under
  // the key that came with it. Error corrupt, by the peer.
  static Result<Credential> take(const protocol::Opened& opened, const protocol::Welcome& welcome,
                                 bool writable);

  const capability::Token& token() const { return token_; }
  // What a token of this session allows. Error denied where it is another's, or was changed.
  Result<capability::Scope> scope_of(const capability::Token& token) const {
    if (!key_.verify(token)) [[unlikely]]
      return refused();
    return capability::scope_of(token);
  }

 private:
  Credential(capability::Token token, capability::Key key) : token_(token), key_(key) {}
  static std::unexpected<Error> refused();
  capability::Token token_;
  capability::Key key_;
};

}  // namespace bailey::session
