// Session: what an application holds of Bailey. This is the header that C++ programs include.
//
//   auto session = bailey::Session::connect();
//   auto orders = session->open_table("orders", bailey::Access::read_write);
//   orders->put("key", "value");
//
// A session is one authenticated connection to the broker of one pool. What it opens (tables) stays usable
// while the broker is away: reads and writes touch memory only. What needs the broker (a new segment, a
// segment that this session has not mapped, a changed grant) then waits for it at most `timeout_ms`, and
// fails with `unavailable`.
//
// The broker is checked too: it must be who owns the socket's folder, or root, or the holder of the pinned
// key; every file that it hands over must have the size and the seals that it should, before anything of it
// is used.
//
// Thread safety: a session and all that was opened through it are for one thread at a time. A thread that
// wants its own has its own session.
//
// Fork: a session belongs to the process that made it. In a forked child every call on it and on what it
// opened returns `forked`, and destroying it there touches nothing of the parent's. The child connects anew.
//
// Dump: connect() makes the process non-dumpable (prctl), so that others of the same uid can't attach to it
// or take its descriptors, unless Options::allow_dump says otherwise. It also means no core files.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bailey/base/error.h"
#include "bailey/base/fd.h"
#include "bailey/capability/token.h"
#include "bailey/pool/view.h"
#include "bailey/session/window.h"
#include "bailey/table/table.h"

namespace bailey::session {

inline constexpr unsigned timeout_ms_default = 2000;
inline constexpr unsigned timeout_ms_max = 600'000;

struct Options {
  // Where the broker listens. Empty: $BAILEY_SOCKET; else for root /run/bailey/broker.sock; else
  // $XDG_RUNTIME_DIR/bailey/broker.sock; else /tmp/bailey-UID/broker.sock.
  std::string socket_path;
  // Secret key of a `key:` principal (made by `bailey principal add`). Empty: the session is who the kernel
  // says.
  std::string key_file;
  // Base64 of the broker's public key: no other broker is accepted. Empty: see above.
  std::string broker_key;
  // How long a call may wait for the broker, a restart of it included.
  unsigned timeout_ms = timeout_ms_default;
  bool allow_dump = false;
};

class Credential;

// An open region, before a structure is laid over it.
struct Region {
  std::string kind;                  // "table", "raw"
  table::Geometry geometry;          // of a table
  std::uint64_t size = 0;            // in bytes, quota of the whole region
  std::uint64_t segment_bytes = 0;   // of a usual segment
  std::vector<std::string> protect;  // rungs in force, as the broker says
  std::unique_ptr<pool::View> view;
  std::shared_ptr<const Credential> credential;  // what this session may do in it
};

class Core;

class Session {
 public:
  // Errors: unavailable (nobody listens, or no answer in time), unauthenticated (either side), denied,
  // incompatible (another layout or protocol), invalid_argument (Options), unsupported (a kernel older
  // than 4.14), corrupt (the broker handed over what it must not), io.
  static Result<Session> connect(const Options& options = {});

  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  // Tables that are still open go on; the connection closes with the last of them.
  ~Session();

  // Opens a table. Errors: denied, not_found, busy (an exclusive table that another session writes; names
  // it), quota, unavailable, unsupported (the region is of another kind), corrupt (as above), forked.
  // With a token the session has its rights there and no more, whatever the policy grants it; further errors
  // then: revoked (it was taken back, or its time is over), unsupported (it is for a part of the region,
  // which nothing enforces there).
  Result<table::Table> open_table(std::string_view region, Access access,
                                  const capability::Token* token = nullptr);
  // Opens a region of plain bytes (window.h). Errors: likewise. A token for a part of it is taken where the
  // region has the rung `pkey`.
  Result<Raw> open_raw(std::string_view region, Access access, const capability::Token* token = nullptr);
  // For whoever looks below structures (`bailey region check`). A token for a part is unsupported.
  Result<Region> open_region(std::string_view region, Access access,
                             const capability::Token* token = nullptr);

  // A token for a region: who has a grant of admin on it, and the admins of the policy. Errors: denied,
  // not_found (region, holder), invalid_argument (a time that is past), quota.
  struct Mint {
    Access access = Access::read_only;
    std::string holder;         // a principal of the policy; empty: whoever has the token
    std::uint64_t expires = 0;  // seconds since 1970, UTC; 0: never
  };
  Result<capability::Token> mint_token(std::string_view region, const Mint& mint);
  // Takes it back with all that was narrowed from it. Returns, with a line for people, once every session
  // that used it has heard or was cut off. Errors: not_found (or who asks may not revoke it).
  Result<std::string> revoke_token(const capability::Id& id);
  // Asks the broker whether this session could use the token, and for what; a line for people. Errors: those
  // of open_table.
  Result<std::string> verify_token(const capability::Token& token);

  // What the broker knows, as JSON: posture, regions, sessions, denials. An admin sees all, others their own
  // rows.
  Result<std::string> status();
  // Replaces the policy (admin). `file` is its name for messages, `folder` where key:@FILE is looked for.
  // `drop` allows to drop regions that the new policy lacks with their data. Returns what changed, for
  // people.
  Result<std::string> apply_policy(std::string_view policy, std::string_view file, std::string_view folder,
                                   bool drop);

  // Gives an encrypted region a new key (admin): whoever has the old one opens nothing that is written from
  // then on. Returns, once all writers use it, what was done, for people.
  Result<std::string> rotate_key(std::string_view region);

  const std::string& pool_name() const;
  // Names that this session acts as: "user:alice", "group:staff", "key:...".
  const std::vector<std::string>& principals() const;
  bool admin() const;

 private:
  explicit Session(std::shared_ptr<Core> core);
  std::shared_ptr<Core> core_;
};

// "0.1.0"
std::string_view version();

}  // namespace bailey::session

namespace bailey {
using capability::Token;
using session::Options;
using session::Raw;
using session::Session;
using session::Window;
using table::Table;
}  // namespace bailey
