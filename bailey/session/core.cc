#include "bailey/session/core.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "bailey/base/log.h"
#include "bailey/crypto/key_file.h"
#include "bailey/protocol/codec.h"
#include "bailey/session/verify.h"

namespace bailey::session {
namespace {

constexpr std::uint64_t millisecond = 1'000'000;

void pause_for(std::uint64_t ns) {
  timespec time{static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
  ::nanosleep(&time, nullptr);
}

std::unexpected<Error> misbehaved(std::string how) {
  return fail(Code::corrupt, By::peer, fmt::format("the broker {}", std::move(how)),
              "this is not the broker that it should be, or a defect: look into the broker's log");
}

}  // namespace

Core::Core(const Options& options, std::string path, Alive alive)
    : options_(options), path_(std::move(path)), alive_(std::move(alive)) {}

Core::~Core() {
  crypto::wipe({reinterpret_cast<std::byte*>(welcome_.resume_secret.data()), welcome_.resume_secret.size()});
}

Result<std::shared_ptr<Core>> Core::connect(const Options& options) {
  if (options.timeout_ms == 0 || options.timeout_ms > timeout_ms_max)
    return fail(Code::invalid_argument, By::library,
                fmt::format("a session's timeout is 1 to {} ms, not {}", timeout_ms_max, options.timeout_ms));
  // Before any secret is read.
  if (!options.allow_dump && ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
    return fail_os(errno, "could not make the process non-dumpable",
                   "allow_dump connects without, and leaves it open to others of the same user");
  Alive alive = BAILEY_TRY(Alive::create());
  std::string path = options.socket_path.empty() ? protocol::default_socket_path() : options.socket_path;
  std::shared_ptr<Core> core(new Core(options, std::move(path), std::move(alive)));
  if (!options.key_file.empty()) core->key_ = BAILEY_TRY(crypto::read_secret_key(options.key_file));
  if (!options.broker_key.empty())
    core->broker_key_ = BAILEY_TRY(crypto::parse_public_key(options.broker_key));
  // A broker that goes away in the middle comes back, or another answers in its place; one that never
  // answers, or hangs up whenever it is asked, is away. Where nobody listens nobody is waited for.
  std::uint64_t until = core->deadline();
  for (std::uint64_t wait = millisecond;; wait = std::min(wait * 2, 20 * millisecond)) {
    auto shaken = core->handshake(until);
    if (shaken) return core;
    core->connection_.close();
    if (shaken.error().code == Code::timed_out) return core->away();
    if (shaken.error().code != Code::closed) return std::unexpected(std::move(shaken).error());
    if (monotonic_ns() + wait >= until) return core->away();
    pause_for(wait);
  }
}

Status Core::handshake(std::uint64_t deadline_ns) {
  std::uint64_t now = monotonic_ns();
  if (now >= deadline_ns) return fail(Code::timed_out);
  protocol::SessionHandshake::Options how;
  if (key_) how.key = &*key_;
  how.broker_key = broker_key_;
  if (welcomed_) how.resume = {welcome_.session, welcome_.resume_secret};

  connection_ = BAILEY_TRY(protocol::connect(path_, deadline_ns - now));
  auto shaken = BAILEY_TRY(protocol::SessionHandshake::start(connection_, path_, how));
  Replied challenged = BAILEY_TRY(exchange_once(shaken.hello(), deadline_ns));
  if (auto* error = std::get_if<Error>(&challenged.answer)) return std::unexpected(std::move(*error));
  auto* challenge = std::get_if<protocol::Challenge>(&challenged.answer);
  if (challenge == nullptr) return wrong_answer(challenged.answer);
  // A keeper holds its socket for life, so another key means that the one this session began with is dead,
  // and its pool with it: nobody could take back what the session has open.
  if (welcomed_ && challenge->broker_key != *broker_key_)
    return ended({Code::closed, By::library, 0,
                  fmt::format("another broker than the one that it began with listens at {}", path_),
                  "connect anew"});
  auto prove = BAILEY_TRY(shaken.answer(*challenge));
  // Whoever it was at first it must be for the session's life: nobody takes the broker's place while it is
  // away.
  broker_key_ = challenge->broker_key;
  Replied welcomed = BAILEY_TRY(exchange_once(prove, deadline_ns));
  if (auto* error = std::get_if<Error>(&welcomed.answer)) return std::unexpected(std::move(*error));
  auto* welcome = std::get_if<protocol::Welcome>(&welcomed.answer);
  if (welcome == nullptr) return wrong_answer(welcomed.answer);
  return take_welcome(std::move(*welcome), welcomed.fds);
}

Status Core::take_welcome(protocol::Welcome welcome, const std::vector<Fd>& fds) {
  if (welcome.control_bytes != sizeof(bailey_control))
    return fail(Code::incompatible, By::library,
                fmt::format("the broker's control page has {} bytes, this build's {}", welcome.control_bytes,
                            sizeof(bailey_control)),
                "install the same version of Bailey on both sides");
  struct stat about;
  if (::fstat(fds.at(0).get(), &about) != 0) return fail_os(errno, "could not look at the control page");
  if (welcomed_) {
    // The words that views watch are in the page that was mapped first: another page means another pool.
    if (welcome.session != welcome_.session || welcome.pool != welcome_.pool || about.st_ino != control_file_)
      return ended({Code::closed, By::broker, 0,
                    "the broker came back with another pool: this session has ended", "connect anew"});
    welcome_ = std::move(welcome);
    return {};
  }
  Mapping control = BAILEY_TRY(
      map_checked(fds[0].get(), sizeof(bailey_control), Access::read_only, Sealed::writes, "control page"));
  const auto& header = reinterpret_cast<const bailey_control*>(control.data())->header;
  if (header.magic != BAILEY_CONTROL_MAGIC) return misbehaved("sent a control page without its magic number");
  if (header.version != BAILEY_CONTROL_VERSION || header.layout != BAILEY_LAYOUT)
    return fail(
        Code::incompatible, By::library,
        fmt::format("the broker's control page has version {} and layout {}, this build knows {} and {}",
                    header.version, header.layout, BAILEY_CONTROL_VERSION, BAILEY_LAYOUT),
        "install the same version of Bailey on both sides");
  if (!std::equal(welcome.pool.begin(), welcome.pool.end(), header.pool))
    return misbehaved("sent the control page of another pool");
  control_ = std::move(control);
  control_file_ = about.st_ino;
  welcome_ = std::move(welcome);
  welcomed_ = true;
  return {};
}

Status Core::reconnect(std::uint64_t deadline_ns) {
  for (std::uint64_t wait = millisecond;; wait = std::min(wait * 2, 20 * millisecond)) {
    auto done = handshake(deadline_ns);
    if (done) break;
    connection_.close();
    if (ended_) return std::unexpected(*ended_);
    switch (done.error().code) {
      // It is not there, or it went away meanwhile, or it has not seen that the old connection is closed.
      case Code::unavailable:
      case Code::closed:
      case Code::timed_out:
      case Code::busy:
        break;
      // It is there and does not know this session, or is somebody else, whom this session does not trust.
      case Code::unauthenticated:
      case Code::not_found:
      case Code::denied:
      case Code::revoked:
      case Code::incompatible:
        if (done.error().by == By::broker) return ended(std::move(done).error());
        return done;
      default:
        return done;
    }
    std::uint64_t now = monotonic_ns();
    if (now + wait >= deadline_ns) return away();
    pause_for(wait);
  }
  unwanted_.clear();
  log::info("session", "session {} goes on after the broker came back", welcome_.session);
  for (std::uint32_t grant : std::exchange(closing_, {})) {
    auto closed = exchange_once(protocol::CloseRegion{grant}, deadline_ns);
    if (!closed) closing_.push_back(grant);
  }
  return {};
}

Result<Core::Replied> Core::exchange(protocol::Body body) {
  BAILEY_TRY(here());
  std::uint64_t until = deadline();
  if (std::holds_alternative<protocol::Attend>(body)) until += held_back_ms_max * millisecond;
  for (std::uint64_t wait = millisecond;; wait = std::min(wait * 2, 20 * millisecond)) {
    if (!connection_) BAILEY_TRY(reconnect(until));
    auto replied = exchange_once(body, until);
    if (replied) {
      replied->repeated = wait > millisecond;
      return replied;
    }
    switch (replied.error().code) {
      case Code::closed:
        connection_.close();
        // A broker that hangs up whenever it is asked this must not make us spin.
        if (wait > millisecond) pause_for(wait);
        continue;
      case Code::timed_out:
        if (auto* create = std::get_if<protocol::CreateSegment>(&body)) unwanted_[number_] = create->grant;
        return away();
      default:
        return replied;
    }
  }
}

Result<Core::Replied> Core::exchange_once(const protocol::Body& body, std::uint64_t deadline_ns) {
  std::uint64_t number = ++number_;
  std::string request = BAILEY_TRY(protocol::encode(protocol::Request{number, body}));
  BAILEY_TRY(connection_.send(as_bytes(request), deadline_ns));
  // From here on a reply may be under way: whatever is wrong with one ends the connection, since the next one
  // could not be told from it. Replies to requests that were given up come first and are passed over; the
  // deadline bounds them.
  for (;;) {
    auto received = connection_.receive(deadline_ns);
    if (!received) {
      if (received.error().code != Code::timed_out) connection_.close();
      return std::unexpected(std::move(received).error());
    }
    auto reply = protocol::decode_reply(as_bytes(received->payload));
    crypto::wipe(std::as_writable_bytes(std::span(received->payload)));  // it may have held a key
    if (!reply) {
      connection_.close();
      return std::unexpected(std::move(reply).error());
    }
    if (received->fds.size() != protocol::fds_of(reply->answer)) {
      connection_.close();
      return misbehaved(fmt::format("sent {} descriptors with a message {} that has {}", received->fds.size(),
                                    protocol::name(reply->answer), protocol::fds_of(reply->answer)));
    }
    if (reply->number < number) {
      late(reply->number, reply->answer);
      continue;
    }
    if (reply->number > number) {
      connection_.close();
      return misbehaved(fmt::format("answered request {}, which was not made", reply->number));
    }
    return Replied{std::move(reply->answer), std::move(received->fds)};
  }
}

// What was given to a request that nobody waits for any more goes back.
void Core::late(std::uint64_t number, const protocol::Answer& answer) {
  auto asked = unwanted_.extract(number);
  if (auto* opened = std::get_if<protocol::Opened>(&answer))
    say_without_waiting(protocol::CloseRegion{opened->grant});
  else if (auto* created = std::get_if<protocol::SegmentCreated>(&answer);
           created != nullptr && !asked.empty())
    say_without_waiting(protocol::RetireSegment{asked.mapped(), created->row.segment});
}

// The answer to number 0 is passed over, as late ones are.
void Core::say_without_waiting(protocol::Body body) {
  auto request = protocol::encode(protocol::Request{0, std::move(body)});
  if (!request || !connection_.try_send(as_bytes(*request)))
    log::warning("session", "what the broker gave too late could not be given back");
}

void Core::close_region(std::uint32_t grant, std::uint64_t ticket) {
  if (!here() || !holds_grant(grant, ticket)) return;
  forget_grant(grant);
  if (connection_) {
    auto closed = exchange_once(protocol::CloseRegion{grant}, deadline());
    if (closed || closed.error().code != Code::closed) return;
    connection_.close();
  }
  closing_.push_back(grant);
}

const std::uint64_t* Core::grant_word(std::uint32_t grant) const {
  return grant < BAILEY_GRANT_WORDS ? &control()->grants[grant].value : nullptr;
}

const std::uint64_t* Core::membership(std::uint32_t region) const {
  return region < BAILEY_REGIONS_MAX ? &control()->regions[region].membership : nullptr;
}

Status Core::here() const {
  if (alive_.alive()) [[likely]]
    return {};
  if (!alive_.own_process())
    return fail(Code::forked, By::library,
                "this session belongs to the parent process; a forked child can't use it",
                "connect anew in the child");
  return std::unexpected(*ended_);
}

std::unexpected<Error> Core::away() const {
  return fail(Code::unavailable, By::library,
              fmt::format("broker away: {} did not answer within {} ms", path_, options_.timeout_ms),
              "what is mapped stays usable; try again once the broker is back");
}

std::unexpected<Error> Core::wrong_answer(const protocol::Answer& answer) {
  connection_.close();
  return misbehaved(fmt::format("answered with a message {}, which does not belong to the request",
                                protocol::name(answer)));
}

std::unexpected<Error> Core::ended(Error why) {
  connection_.close();
  why.message = fmt::format("the session has ended: {}", why.message);
  ended_ = std::move(why);
  alive_.end();
  return std::unexpected(*ended_);
}

}  // namespace bailey::session
