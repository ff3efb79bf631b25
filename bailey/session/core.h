// Core: the connection of a session, shared by all that was opened through it.
//
// One request at a time, answered or given up within the timeout. A connection that breaks (the broker proper
// died and was restarted) is made anew and the session resumed within the same timeout, and the request is
// sent again, so every request must bear being heard twice.
//
// What the broker sends is checked for shape by the codec, for the right number and count of descriptors
// here, and for its meaning by whoever asked.
//
// Thread safety: one thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "bailey/abi/control.h"
#include "bailey/base/clock.h"
#include "bailey/base/fd.h"
#include "bailey/crypto/sign.h"
#include "bailey/protocol/handshake.h"
#include "bailey/protocol/messages.h"
#include "bailey/protocol/socket.h"
#include "bailey/session/alive.h"
#include "bailey/session/session.h"

namespace bailey::session {

template <class Answer>
struct Answered {
  Answer answer;
  std::vector<Fd> fds;    // as many as fds_of(answer) says
  bool repeated = false;  // the request was sent more than once: the broker may have heard it before
};

class Core {
 public:
  static Result<std::shared_ptr<Core>> connect(const Options& options);
  ~Core();
  Core(const Core&) = delete;

  // An answer that the broker holds back until all writers of a region have heard comes this much later.
  static constexpr unsigned held_back_ms_max = 3000;

  // Asks, and returns the answer of the type that belongs to the request. Errors: what the broker answers;
  // forked; unavailable ("broker away"); closed (the session ended for good: the broker came back without
  // it); corrupt.
  template <class Answer>
  Result<Answered<Answer>> call(protocol::Body body) {
    Replied replied = BAILEY_TRY(exchange(std::move(body)));
    if (auto* error = std::get_if<Error>(&replied.answer)) return std::unexpected(std::move(*error));
    auto* answer = std::get_if<Answer>(&replied.answer);
    if (answer == nullptr) return wrong_answer(replied.answer);
    return Answered<Answer>{std::move(*answer), std::move(replied.fds), replied.repeated};
  }
  // Says that a region is closed: waits for the answer if the broker is there, else it is said when it is
  // back. Nothing where the ticket does not hold the grant any more.
  void close_region(std::uint32_t grant, std::uint64_t ticket);

  // The broker gives the number of a grant that it took back to another region some time later, even in this
  // session. Whoever opens a region takes the number; who had it before then has none.
  std::uint64_t take_grant(std::uint32_t grant) { return holders_[grant] = ++tickets_; }
  bool holds_grant(std::uint32_t grant, std::uint64_t ticket) const {
    auto holder = holders_.find(grant);
    return holder != holders_.end() && holder->second == ticket;
  }
  void forget_grant(std::uint32_t grant) { holders_.erase(grant); }

  const Alive& alive() const { return alive_; }
  // Where the broker's words of a grant and a region lie; nothing where a number is out of bounds.
  const std::uint64_t* grant_word(std::uint32_t grant) const;
  const std::uint64_t* membership(std::uint32_t region) const;
  const protocol::Welcome& welcome() const { return welcome_; }

 private:
  struct Replied {
    protocol::Answer answer;
    std::vector<Fd> fds;
    bool repeated = false;
  };
  Core(const Options& options, std::string path, Alive alive);

  Result<Replied> exchange(protocol::Body body);
  // One request and its reply on the connection that is there.
  Result<Replied> exchange_once(const protocol::Body& body, std::uint64_t deadline_ns);
  // Connects and shows who we are; resumes where there is a session.
  Status handshake(std::uint64_t deadline_ns);
  Status take_welcome(protocol::Welcome welcome, const std::vector<Fd>& fds);
  Status reconnect(std::uint64_t deadline_ns);
  void late(std::uint64_t number, const protocol::Answer& answer);
  void say_without_waiting(protocol::Body body);
  Status here() const;
  std::unexpected<Error> away() const;
  std::unexpected<Error> wrong_answer(const protocol::Answer& answer);
  std::unexpected<Error> ended(Error why);
  std::uint64_t deadline() const { return monotonic_ns() + std::uint64_t{options_.timeout_ms} * 1'000'000; }
  const bailey_control* control() const { return reinterpret_cast<const bailey_control*>(control_.data()); }

  Options options_;
  std::string path_;
  Alive alive_;
  std::optional<crypto::SecretKey> key_;
  std::optional<protocol::PublicKey> broker_key_;
  protocol::Connection connection_;
  std::uint64_t number_ = 0;
  protocol::Welcome welcome_;
  bool welcomed_ = false;
  Mapping control_;
  std::uint64_t control_file_ = 0;  // inode: after a restart it must be the same
  std::optional<Error> ended_;
  std::map<std::uint32_t, std::uint64_t> holders_;  // of grants: tickets
  std::uint64_t tickets_ = 0;
  std::vector<std::uint32_t> closing_;  // grants to close once the broker is back
  // Segments that were asked for and not waited for: given back when they come.
  std::map<std::uint64_t, std::uint32_t> unwanted_;  // request number, grant
};

}  // namespace bailey::session
