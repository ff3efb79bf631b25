// What the broker knows: regions, segments, sessions and what they have open. Plain data; the rules are in
// the files named after each noun.
//
// The same rows are in the state database (state.h), which is written first. What is not stored is marked so:
// it is found again, or it ends with the broker.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "bailey/base/fd.h"
#include "bailey/base/identity.h"
#include "bailey/broker/control_page.h"
#include "bailey/broker/loop.h"
#include "bailey/capability/token.h"
#include "bailey/crypto/aead.h"
#include "bailey/crypto/key_chain.h"
#include "bailey/policy/decide.h"
#include "bailey/protocol/messages.h"
#include "bailey/table/table.h"

namespace bailey::broker {

using SegmentId = std::uint16_t;

enum class SegmentState : std::uint8_t {
  mapping = 1,  // its writer was given it and has not said that it has it mapped
  open = 2,     // sealed; its writer lives
  frozen = 3,   // its writer is gone, or disowned
  retired = 4,  // given back; its number waits for those that may have it mapped
};

struct Segment {
  SegmentId id = 0;
  std::uint32_t region = 0;
  std::uint32_t grant = 0;  // of its writer while mapping or open
  std::uint32_t writer = 0;
  std::uint64_t bytes = 0;
  SegmentState state = SegmentState::mapping;
  std::set<std::uint32_t> pending;  // retired: grants that have not said Dropped

  // Not stored.
  Fd file;                   // read-write until sealed, then read-only
  Loop::Timer patience = 0;  // retired: until those that have not said Dropped are waited for no more
  bool wanted = false;       // retired: somebody waits for its bytes
};

// An index file. A region has one; while a writer takes over or a writer is disowned, another is being made.
struct IndexFile {
  std::uint64_t generation = 0;  // 0: none
  Fd file;                       // read-write while it is written by the broker or many; else read-only
  Fd reader;                     // of a shared one: open for reading only
};

// A token that was minted and is neither revoked nor over. Without such a row a token opens nothing.
struct Minted {
  Id id{};
  std::uint32_t region = 0;
  // Whose right it rests on: a principal's grant of admin, or an admin of the policy, by its name there.
  // Empty: the broker's own uid, or root.
  std::string issuer;
  bool by_admin = false;  // the issuer is an admin of the policy
  std::string holder;     // empty: whoever has it
  bool writable = false;
  std::uint64_t expires = 0;  // seconds since 1970; 0: never

  // Not stored: over for good, though that is not in the state yet.
  bool ended = false;
};

// Somebody who was given files, and by what right.
struct Holder {
  policy::Verified who;
  std::optional<Id> token;           // else by the policy's grants
  std::uint64_t expires = 0;         // of the token as it was shown; 0: never
  std::vector<std::string> holders;  // that it named, all of them to be met

  bool operator==(const Holder&) const = default;
};

struct Region {
  std::uint32_t number = 0;  // row in the control page
  Id id{};
  std::string name;
  std::string kind;
  std::uint64_t bytes = 0;  // index and segments together
  table::Geometry geometry;
  std::uint64_t index_bytes = 0;    // of the file
  std::uint64_t segment_bytes = 0;  // of a usual segment
  IndexFile index;
  std::uint64_t generations = 0;  // given out
  std::uint32_t writer = 0;       // exclusive: 1 + grant of who writes; 0 is nobody
  // Somebody that lost the right to write or to read may still hold the index: it is to be replaced.
  bool disowned = false;
  crypto::Cipher cipher = crypto::Cipher::aes_256_gcm;  // of an encrypted region
  crypto::Generation key_generation = 0;                // of its key; 0: it is not encrypted

  // A raw region is one file of plain bytes: its index, without a shape, and no segments.
  bool raw() const { return kind == "raw"; }
  bool has_shape() const {
    return raw() ? geometry.buckets == 0 && geometry.overflow_buckets == 0 && index_bytes != 0
                 : geometry.fits(index_bytes);
  }

  // Not stored.
  crypto::Secret key;  // of generation key_found
  crypto::Generation key_found = 0;
  bool key_untold = false;  // the generation is new, and nobody was told
  // Who was given files that are still written, whether or not their sessions live: descriptors and mappings
  // outlive those. Unknown after a restart, or where they are too many.
  std::vector<Holder> holders;
  bool holders_known = true;
  std::uint64_t first_expiry =
      0;  // the soonest of those that are not known apart, in seconds since 1970; 0: none
  std::uint64_t renewed_ns = 0;  // when its writers were last told to leave what was given; 0: never
  bool making_index = false;     // the first one is being made
  std::vector<std::function<void(Status)>> waiting_for_index;
  struct Replacing {
    bool copying = false;
    bool again = false;                           // another writer was disowned while it was copied
    std::set<std::uint32_t> waiting;              // writers that have not said Attend
    std::map<std::uint32_t, std::uint64_t> held;  // grant -> number of the request that waits
    Loop::Timer timer = 0;
  };
  std::unique_ptr<Replacing> replacing;
};

// A part of a region that a token is for; whoever holds a session to it says so in the posture.
struct Part {
  std::optional<capability::Range> range;
  std::string prefix;  // of keys; empty: all
};

// A region that a session has open. Its number is that of its grant word.
struct Open {
  std::uint32_t grant = 0;
  std::uint64_t session = 0;
  std::uint32_t region = 0;
  std::string principal;  // whose grant it is, for quotas; empty for the janitor
  bool writable = false;
  std::uint32_t writer = 0;
  SegmentId desk = 0;                    // first segment of a writer
  std::uint64_t pending_generation = 0;  // exclusive: the index that it was given and has not confirmed
  bool late = false;                     // it did not attend in time: nobody waits for it until it does
  std::string revoked;                   // why, or empty
  std::optional<Id> token;               // opened with it, and not by the policy's grants
  std::uint64_t expires = 0;             // of the token as it was shown, in seconds since 1970; 0: never
  std::vector<std::string> holders;      // principals that it named: the session must be all of them

  // Not stored.
  bool opening = false;                // not answered yet
  std::uint64_t told = 0;              // value of the grant word that the last answer said
  std::uint64_t generation = 0;        // of the index that it was given last; 0: unknown
  std::uint64_t heard_generation = 0;  // of the one that it certainly has; 0: unknown
  bool leave = false;                  // a writer: its segments, and an exclusive one's index, are to be left
  bool said = false;                   // the last answer told it of `leave` and `late`
  std::uint64_t refused_ns = 0;        // since when there is no room for another segment of it; 0: there was
  std::uint64_t fresh_ns = 0;          // when it took another writer id; 0: never
  policy::Quotas quotas;
  IndexFile next;  // exclusive: as pending_generation says
  Part part;       // that its token is for
  Loop::Timer cut_off = 0;
};

// Tokens that come back at `rate` a second. No rate: no limit.
struct Bucket {
  std::uint32_t rate = 0;
  double tokens = 0;
  std::uint64_t at_ns = 0;
  bool take(std::uint64_t now_ns);
};

struct Session {
  std::uint64_t number = 0;
  protocol::Nonce secret{};
  pid_t pid = 0;
  uid_t uid = 0;
  policy::Verified who;
  ProcessIdentity process;

  // Not stored: follows from the policy, or from the connection.
  std::vector<std::string> principals;
  bool admin = false;
  bool janitor = false;
  Bucket bucket;
  std::set<std::uint32_t> opens;
  std::uint64_t peer = 0;  // 0: away since the broker was replaced
  Fd pidfd;
  Loop::Watch watch = 0;
};

}  // namespace bailey::broker
