// How session and broker show each other who they are.
//
//   session                                   broker
//      | -- Hello: own Place, broker's Place,    |
//      |    nonce, key that it claims ---------> |  compares both Places with what its own kernel says
//      | <------- Challenge: nonce, broker's key,|
//      |    signature over transcript(broker)    |
//   checks it                                    |
//      | -- Prove: signature over                |
//      |    transcript(session), resume proof -> |  checks them
//      | <------------------------------ Welcome |
//
// What stops a squatter that relays. Somebody who gets hold of the socket's path and passes messages on
// between a session and the true broker would be taken for that session. It can alter nothing that is signed,
// and both signatures cover the whole Hello, which says who the session is and whom its kernel sees at the
// other end. The broker compares: its own kernel sees the squatter, not the session, at the other end, and it
// is not whom the session saw. Either difference is a refusal; a squatter that rewrites Hello makes the
// signatures wrong.
//
// What is bound in which case, beside the keys (tests: handshake_test.cc, namespace_test.cc). "ids" are uid
// and gid. The two questions, pid namespaces and user namespaces, are apart:
//
//   pid namespaces              | session's pid and start time     | broker's pid and start time
//   ----------------------------+----------------------------------+---------------------------------------
//   the same                    | yes                              | yes
//   session's below the broker's| yes, as the session counts itself| no: the session must see nobody's pid
//   broker's below the session's| no: likewise                     | yes, as the broker counts itself
//   unrelated                   | no                               | no
//
//   user namespaces             | session's ids                    | broker's ids
//   ----------------------------+----------------------------------+---------------------------------------
//   the same                    | yes                              | yes
//   session's below the broker's| yes, through its uid_map         | no
//   broker's below the session's| no                               | yes, through its uid_map
//   unrelated                   | no                               | no
//
// Across namespaces a process is looked up in /proc: an observer with an outer /proc (`unshare --pid` without
// `--mount-proc`) sees more, and binds more; one that /proc hides a process from (hidepid) binds only what
// needs no look at it. Start times differ between time namespaces with other boot offsets: refused.
//
// `Bound` says which case it is; a broker tells it in its audit log. In unrelated pid namespaces a squatter
// of the same uid is not noticed: give such containers distinct uids. A namespace below the own one is told
// apart from another with like ids by its inode number, which the other end can read where it is root, or has
// the same uid and the process is dumpable.
//
// The transcript is a byte string of fixed size: a domain ("bailey handshake 1 broker" or "bailey handshake 1
// session", and a zero), then the fields of Hello and the Challenge's nonce and key in the order of
// messages.h, integers little-endian, a bool as a byte. Roles have different domains, so that one side's
// signature never serves as the other's.
//
// Thread safety: an object is for one thread at a time.
#pragma once

#include <optional>
#include <string>

#include "bailey/base/error.h"
#include "bailey/base/fd.h"
#include "bailey/crypto/sign.h"
#include "bailey/protocol/messages.h"
#include "bailey/protocol/place.h"
#include "bailey/protocol/socket.h"

namespace bailey::protocol {

enum class Role : std::uint8_t { broker = 1, session = 2 };

// What `role` signs. The Challenge's signature is not part of it.
std::string transcript(Role role, const Hello& hello, const Challenge& challenge);

// What the handshake tied to the kernel's word, see the table above.
struct Bound {
  bool client_pid = false;
  bool client_ids = false;
  bool broker_pid = false;
  bool broker_ids = false;
  bool operator==(const Bound&) const = default;
  std::string to_string() const;  // for logs and posture: "session's pid and ids, broker's ids"
};

// The session's side: start, send hello(), receive the Challenge, send answer(), receive Welcome or an Error.
class SessionHandshake {
 public:
  struct Resume {
    std::uint64_t session = 0;
    Nonce secret{};
  };
  struct Options {
    const crypto::SecretKey* key = nullptr;  // for a key: principal; outlives the handshake
    std::optional<PublicKey> broker_key;     // pinned: no other is accepted
    std::optional<Resume> resume;            // go on with a session after the broker came back
  };

  // `path` is what was connected to. Sends nothing before the listener is whom one may expect there: the
  // owner of the socket's folder, or root. Errors: unauthenticated (somebody else listens; or the owner can't
  // be told from here, because this user namespace does not map it, and no key is pinned), io, unavailable
  // (the broker is gone).
  static Result<SessionHandshake> start(const Connection& connection, const std::string& path,
                                        const Options& options);

  const Hello& hello() const { return hello_; }
  // Checks the broker's proof and makes the session's. Error unauthenticated: the key is not the pinned one,
  // or the signature is not over what this side sent and saw.
  Result<Prove> answer(const Challenge& challenge) const;

 private:
  SessionHandshake(const Options& options, const Hello& hello) : options_(options), hello_(hello) {}
  Options options_;
  Hello hello_;
};

// The broker's side: start with a received Hello, send challenge(), receive Prove, check() it.
class BrokerHandshake {
 public:
  // `listener` is Listener::place(). Errors: incompatible (protocol or layout; both numbers are named);
  // unauthenticated (Hello does not agree with what the kernel says of either end; says what); not_found
  // (the peer is gone). All are fit to be sent as the Reply.
  static Result<BrokerHandshake> start(const Connection& connection, const Place& listener,
                                       const Hello& hello, const crypto::SecretKey& key);

  const Hello& hello() const { return hello_; }
  const Challenge& challenge() const { return challenge_; }
  const Bound& bound() const { return bound_; }

  // Whether the session holds the key that it claims. Where Hello claims none, Prove must not either.
  // After this, hello().key is a principal of the session iff hello().has_key. Error unauthenticated.
  Status check(const Prove& prove) const;
  // Whether it knows the resume secret of the session that Hello names. To be called after check(), and only
  // where Hello::resume; the caller also compares Hello::process and the ids with the session's own.
  Status check_resume(const Prove& prove, const Nonce& secret) const;

 private:
  BrokerHandshake(const Hello& hello, const Challenge& challenge, const Bound& bound)
      : hello_(hello), challenge_(challenge), bound_(bound) {}
  Hello hello_;
  Challenge challenge_;
  Bound bound_;
};

}  // namespace bailey::protocol
