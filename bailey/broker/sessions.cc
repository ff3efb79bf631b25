// Sessions: connections, who is behind them, and how they end.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "bailey/base/clock.h"
#include "bailey/base/log.h"
#include "bailey/broker/broker.h"

namespace bailey::broker {
namespace {

// Of one round, so that a client that sends without end does not keep others waiting.
constexpr unsigned requests_a_round = 16;

protocol::Nonce fresh_nonce() {
  protocol::Nonce nonce;
  random_bytes(nonce.data(), nonce.size());
  return nonce;
}

// ETOOMANYREFS: descriptors under way count against the broker's user, whoever leaves them there.
bool is_crowded(const Result<bool>& sent) { return !sent && sent.error().code == Code::quota; }

}  // namespace

bool Bucket::take(std::uint64_t now_ns) {
  if (rate == 0) return true;
  if (at_ns == 0) tokens = rate;
  tokens = std::min<double>(rate, tokens + static_cast<double>(now_ns - at_ns) * 1e-9 * rate);
  at_ns = now_ns;
  if (tokens < 1) return false;
  tokens -= 1;
  return true;
}

// ---- connections
// ------------------------------------------------------------------------------------------------

void Broker::accept() {
  for (unsigned round = 0; round < requests_a_round; ++round) {
    auto accepted = setup_.listener->try_accept();
    if (!accepted) {
      log::warning("broker", "a client could not be accepted: {}", accepted.error().to_string());
      return;
    }
    if (!*accepted) return;
    auto strangers =
        std::count_if(peers_.begin(), peers_.end(), [](auto& entry) { return entry.second->session == 0; });
    if (static_cast<std::size_t>(strangers) >= strangers_max) {
      log::warning("broker", "a client was turned away: {} others have not shown who they are", strangers);
      continue;
    }
    auto credentials = (*accepted)->peer_credentials();
    if (!credentials) continue;
    auto alike = std::count_if(peers_.begin(), peers_.end(), [&](auto& entry) {
      return entry.second->session == 0 && entry.second->credentials.uid == credentials->uid;
    });
    if (static_cast<std::size_t>(alike) >= strangers_of_uid_max && credentials->uid != ::geteuid()) {
      log::warning("broker",
                   "a client of uid {} was turned away: {} others of it have not shown who they are",
                   credentials->uid, alike);
      continue;
    }
    auto peer = std::make_unique<Peer>();
    peer->id = ++next_peer_;
    peer->connection = std::move(**accepted);
    peer->credentials = *credentials;
    std::uint64_t id = peer->id;
    auto watch = loop_.watch(peer->connection.fd(), EPOLLIN,
                             [this, id](std::uint32_t events) { on_peer(id, events); });
    if (!watch) continue;
    peer->watch = *watch;
    peer->timer =
        loop_.after(handshake_ns, [this, id] { drop_peer(id, "it did not show who it is in time"); });
    peers_.emplace(id, std::move(peer));
  }
}

void Broker::on_peer(std::uint64_t id, std::uint32_t events) {
  auto found = peers_.find(id);
  if (found == peers_.end()) return;
  if ((events & EPOLLOUT) != 0) flush(*found->second);
  if ((events & EPOLLIN) != 0)
    for (unsigned round = 0; round < requests_a_round; ++round) {
      found = peers_.find(id);
      if (found == peers_.end()) return;
      Peer& peer = *found->second;
      if (peer.busy || !peer.queue.empty() || !read_one(peer)) break;
    }
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) drop_peer(id, "");
}

// Whether there may be more.
bool Broker::read_one(Peer& peer) {
  auto received = peer.connection.try_receive(0);
  if (!received) {
    drop_peer(peer.id, received.error().code == Code::closed ? "" : received.error().to_string());
    return false;
  }
  if (!*received) return false;
  auto request = protocol::decode_request(as_bytes((*received)->payload));
  if (!request) {
    drop_peer(peer.id, request.error().to_string());
    return false;
  }
  hear(peer, std::move(*request));
  return true;
}

void Broker::hear(Peer& peer, protocol::Request request) {
  if (peer.session == 0) {
    Status shaken =
        fail(Code::unauthenticated, By::broker,
             fmt::format("{} was sent before the session showed who it is", protocol::name(request.body)),
             "send Hello, then Prove");
    if (auto* hello = std::get_if<protocol::Hello>(&request.body))
      shaken = shake_hands(peer, request.number, *hello);
    if (auto* prove = std::get_if<protocol::Prove>(&request.body))
      shaken = welcome(peer, request.number, *prove);
    if (shaken) return;
    if (audit_.denial({fmt::format("uid {}", peer.credentials.uid), "", shaken.error().message}))
      loop_.after(1'000'000'000, [this] { audit_.flush(); });
    std::string why = shaken.error().to_string();
    std::uint64_t id = peer.id;
    send(peer, request.number, std::move(shaken).error());
    drop_peer(id, why);
    return;
  }
  Session& session = *session_of(peer.session);
  std::uint64_t number = request.number, of = session.number, id = peer.id;
  if (!session.bucket.take(monotonic_ns()))
    return send(
        peer, number,
        Error{Code::quota, By::broker, 0,
              fmt::format("{} made more than {} requests a second", who(session), session.bucket.rate),
              "wait a second, or ask an admin for more requests_per_second in the grant"});
  peer.busy = true;
  auto reaction = react(session, number, request.body);
  if (!reaction) return reply(of, number, std::unexpected(std::move(reaction).error()));
  if (*reaction) return reply(of, number, std::move(**reaction));
  if (auto found = peers_.find(id); found != peers_.end()) listen_to(*found->second);
}

Reaction Broker::react(Session& session, std::uint64_t number, protocol::Body& body) {
  struct Visitor {
    Broker& broker;
    Session& session;
    std::uint64_t number;
    Reaction operator()(const protocol::Hello&) { return twice(); }
    Reaction operator()(const protocol::Prove&) { return twice(); }
    Reaction operator()(const protocol::OpenRegion& r) { return broker.open_region(session, number, r); }
    Reaction operator()(const protocol::IndexMapped& r) { return broker.index_mapped(session, r); }
    Reaction operator()(const protocol::CloseRegion& r) { return broker.close_region(session, r); }
    Reaction operator()(const protocol::MapSegments& r) { return broker.map_segments(session, r); }
    Reaction operator()(const protocol::CreateSegment& r) {
      return broker.create_segment(session, number, r);
    }
    Reaction operator()(const protocol::SegmentMapped& r) { return broker.segment_mapped(session, r); }
    Reaction operator()(const protocol::RetireSegment& r) { return broker.retire_segment(session, r); }
    Reaction operator()(const protocol::GetMembers& r) { return broker.members(session, r); }
    Reaction operator()(const protocol::Attend& r) { return broker.attend(session, number, r); }
    Reaction operator()(const protocol::Dropped& r) { return broker.dropped(session, r); }
    Reaction operator()(const protocol::FreshWriter& r) { return broker.fresh_writer(session, r); }
    Reaction operator()(const protocol::GetStatus&) { return broker.status(session); }
    Reaction operator()(const protocol::ApplyPolicy& r) { return broker.apply(session, number, r); }
    Reaction operator()(const protocol::MintToken& r) { return broker.mint_token(session, r); }
    Reaction operator()(const protocol::RevokeToken& r) { return broker.revoke_token(session, number, r); }
    Reaction operator()(const protocol::VerifyToken& r) { return broker.verify_token(session, r); }
    Reaction operator()(const protocol::RotateKey& r) { return broker.rotate_key(session, number, r); }
    Reaction operator()(const protocol::SignAs& r) { return broker.sign_as(session, r); }
    Reaction operator()(const protocol::GetWriterKeys& r) { return broker.writer_keys(session, r); }
    static Reaction twice() {
      return fail(Code::invalid_argument, By::broker, "the session has shown who it is already");
    }
  };
  return std::visit(Visitor{*this, session, number}, body);
}

// ---- replies
// ----------------------------------------------------------------------------------------------------

void Broker::reply(std::uint64_t session_number, std::uint64_t number, Result<Outcome> outcome) {
  Session* session = session_of(session_number);
  if (session == nullptr || session->peer == 0) return;
  auto found = peers_.find(session->peer);
  if (found == peers_.end()) return;
  Peer& peer = *found->second;
  peer.busy = false;
  if (outcome) return send(peer, number, std::move(outcome->answer), outcome->fds);
  send(peer, number, std::move(outcome).error());
}

void Broker::send(Peer& peer, std::uint64_t number, protocol::Answer answer, std::span<const int> fds) {
  auto payload = protocol::encode(protocol::Reply{number, std::move(answer)});
  if (!payload) {
    log::error("broker", "a reply could not be made: {}", payload.error().to_string());
    fds = {};
    payload = protocol::encode(protocol::Reply{number, std::move(payload).error()});
    BAILEY_ASSERT(payload);
  }
  Outgoing outgoing(std::move(*payload));
  // Descriptors under way count against the broker's user, whoever leaves them there.
  if (!fds.empty()) {
    int untaken = 0;
    if (::ioctl(peer.connection.fd(), SIOCOUTQ, &untaken) == 0 && untaken == 0) peer.fds_sent = 0;
    if (peer.fds_sent > untaken_fds_max) {
      std::uint64_t id = peer.id;
      loop_.after(0, [this, id] { drop_peer(id, "it asks for descriptors and does not take them"); });
      return;
    }
    peer.fds_sent += fds.size();
  }
  bool crowded = false;
  if (peer.queue.empty()) {
    auto sent = peer.connection.try_send(as_bytes(outgoing.payload), fds);
    if (sent && *sent) return listen_to(peer);
    crowded = is_crowded(sent);
    // A peer that is gone is noticed by the loop; here others may still use it.
    if (!sent && sent.error().code == Code::closed) return;
  }
  for (int fd : fds) {
    int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy >= 0) outgoing.fds.emplace_back(copy);
  }
  peer.queue.push_back(std::move(outgoing));
  wait_to_send(peer, crowded);
}

// With a reply in the queue. Where the kernel has too many descriptors under way it is not this client's
// fault, and its socket is writable all the same: a timer tries again, for as long as the client stays. Those
// who leave descriptors untaken have them also when they are cut off, until they close or end.
void Broker::wait_to_send(Peer& peer, bool crowded) {
  std::uint64_t id = peer.id;
  if (crowded) {
    if (peer.session != 0) loop_.cancel(std::exchange(peer.timer, 0));
    if (peer.crowded == 0)
      peer.crowded = loop_.after(crowded_ns, [this, id] {
        auto found = peers_.find(id);
        if (found == peers_.end()) return;
        found->second->crowded = 0;
        flush(*found->second);
      });
  } else if (peer.timer == 0) {
    peer.timer = loop_.after(unread_ns, [this, id] { drop_peer(id, "it does not take its replies"); });
  }
  listen_to(peer);
}

void Broker::flush(Peer& peer) {
  while (!peer.queue.empty()) {
    std::vector<int> fds;
    for (const Fd& fd : peer.queue.front().fds) fds.push_back(fd.get());
    auto sent = peer.connection.try_send(as_bytes(peer.queue.front().payload), fds);
    if (!sent || !*sent) return wait_to_send(peer, is_crowded(sent));
    peer.queue.pop_front();
  }
  if (peer.session != 0) loop_.cancel(std::exchange(peer.timer, 0));
  listen_to(peer);
}

// A client is read from when it has taken its replies and nothing of it is under way.
void Broker::listen_to(Peer& peer) {
  std::uint32_t events = 0;
  if (peer.crowded != 0)
    events = 0;  // its end is heard all the same
  else if (!peer.queue.empty())
    events = EPOLLOUT;
  else if (!peer.busy)
    events = EPOLLIN;
  loop_.change(peer.watch, events);
}

void Broker::drop_peer(std::uint64_t id, const std::string& why) {
  auto node = peers_.extract(id);
  if (node.empty()) return;
  Peer& peer = *node.mapped();
  if (!why.empty())
    log::warning("broker", "the connection of pid {}, uid {} was closed: {}", peer.credentials.pid,
                 peer.credentials.uid, why);
  loop_.forget(peer.watch);
  loop_.cancel(peer.timer);
  loop_.cancel(peer.crowded);
  if (peer.session != 0) end_session(peer.session, why.empty() ? "it closed its connection" : why);
}

// ---- who it is
// --------------------------------------------------------------------------------------------------

Status Broker::shake_hands(Peer& peer, std::uint64_t number, const protocol::Hello& hello) {
  if (peer.handshake) return fail(Code::invalid_argument, By::broker, "Hello was sent twice");
  peer.handshake = BAILEY_TRY(
      protocol::BrokerHandshake::start(peer.connection, setup_.listener->place(), hello, *setup_.key));
  send(peer, number, peer.handshake->challenge());
  return {};
}

Status Broker::welcome(Peer& peer, std::uint64_t number, const protocol::Prove& prove) {
  if (!peer.handshake) return fail(Code::unauthenticated, By::broker, "Prove came without Hello");
  BAILEY_TRY(peer.handshake->check(prove));
  Session* session =
      BAILEY_TRY(peer.handshake->hello().resume ? resumed_session(peer, prove) : new_session(peer));
  session->peer = peer.id;
  peer.session = session->number;
  loop_.cancel(std::exchange(peer.timer, 0));
  protocol::Welcome answer;
  answer.session = session->number;
  answer.resume_secret = session->secret;
  answer.pool = pool_;
  answer.pool_name = policy_.pool;
  answer.control_bytes = setup_.control->bytes();
  answer.admin = session->admin;
  answer.principals = session->principals;
  note("session", session,
       {{"resumed", peer.handshake->hello().resume}, {"bound", peer.handshake->bound().to_string()}});
  peer.handshake.reset();
  int page = setup_.control->reader();
  send(peer, number, std::move(answer), std::span(&page, 1));
  return {};
}

Result<Session*> Broker::new_session(Peer& peer) {
  if (sessions_.size() >= sessions_max)
    return fail(Code::quota, By::broker,
                fmt::format("all {} sessions of the broker are in use", sessions_max));
  const protocol::Hello& hello = peer.handshake->hello();
  Session session;
  session.number = next_session_;
  session.secret = fresh_nonce();
  session.pid = peer.credentials.pid;
  session.uid = peer.credentials.uid;
  session.process = hello.process;
  session.who.uid = peer.credentials.uid;
  session.who.gids.push_back(peer.credentials.gid);
  for (gid_t group : BAILEY_TRY(peer.connection.peer_groups())) session.who.gids.push_back(group);
  if (hello.has_key) session.who.keys.push_back(hello.key);
  bool stranger = policy::principals_of(policy_, session.who).empty();
  auto alike =
      static_cast<std::size_t>(std::count_if(sessions_.begin(), sessions_.end(), [&](const auto& entry) {
        return entry.second.uid == session.uid && (!stranger || entry.second.principals.empty());
      }));
  std::size_t most = stranger ? sessions_of_stranger_max : sessions_of_uid_max;
  if (alike >= most && session.uid != ::geteuid())
    return fail(Code::quota, By::broker,
                fmt::format("uid {} has {} sessions, and no more", session.uid, alike), "close some of them");
  session.pidfd = BAILEY_TRY(peer.connection.peer_pidfd());
  session.janitor = session.uid == ::geteuid() && is_child_of_keeper(session.pid);
  BAILEY_TRY(watch_process(session));
  auto remember = [&]() -> Status {
    BAILEY_TRY(hold_.hold(fmt::format("process-{}", session.number), session.pidfd.get()));
    return state_.commit([&]() -> Status {
      BAILEY_TRY(state_.set_meta("next_session", std::to_string(session.number + 1)));
      return state_.save(session);
    });
  };
  if (auto remembered = remember(); !remembered) {
    loop_.forget(session.watch);
    return std::unexpected(std::move(remembered).error());
  }
  ++next_session_;
  Session& added = sessions_.emplace(session.number, std::move(session)).first->second;
  refresh_rights(added);
  return &added;
}

Result<Session*> Broker::resumed_session(Peer& peer, const protocol::Prove& prove) {
  const protocol::Hello& hello = peer.handshake->hello();
  Session* session = session_of(hello.session);
  // One answer for all, so that numbers of others' sessions tell nothing.
  auto unknown =
      fail(Code::not_found, By::broker,
           fmt::format("session {} can't be resumed: it has ended", hello.session), "connect anew");
  if (session == nullptr || session->uid != peer.credentials.uid || !(session->process == hello.process))
    return unknown;
  if (!peer.handshake->check_resume(prove, session->secret)) return unknown;
  std::vector<policy::PublicKey> keys;
  if (hello.has_key) keys.push_back(hello.key);
  if (keys != session->who.keys) return unknown;
  // Its end of the old connection is closed, or it would not be here; our side has just not seen that yet.
  if (session->peer != 0)
    return fail(Code::busy, By::broker, fmt::format("session {} has a connection", session->number),
                "close it, or wait until the broker has noticed that it is closed");
  return session;
}

// Death is the kernel's word: the process itself, not a socket that a forked child may keep open.
Status Broker::watch_process(Session& session) {
  std::uint64_t number = session.number;
  session.watch = BAILEY_TRY(loop_.watch(session.pidfd.get(), EPOLLIN, [this, number](std::uint32_t) {
    end_session(number, "its process died");
  }));
  return {};
}

// What follows from the policy, for a new session and after every change.
void Broker::refresh_rights(Session& session) {
  session.principals.clear();
  for (const policy::Principal* principal : policy::principals_of(policy_, session.who))
    session.principals.push_back(principal->name);
  session.admin = session.janitor || policy::may_administer(policy_, session.who).has_value();
  // The largest of what the grants allow, no limit beating any; whoever has no grant has little to ask.
  bool granted = false, unlimited = session.admin;
  std::uint32_t most = 1;
  for (const policy::Grant& grant : policy_.grants) {
    if (std::find(session.principals.begin(), session.principals.end(), grant.principal) ==
        session.principals.end())
      continue;
    granted = true;
    if (grant.quotas.requests_per_second)
      most = std::max(most, *grant.quotas.requests_per_second);
    else
      unlimited = true;
  }
  session.bucket.rate = unlimited ? 0 : granted ? most : requests_of_stranger;
}

bool Broker::is_child_of_keeper(pid_t pid) const {
  auto stat = read_file(fmt::format("/proc/{}/stat", pid));
  if (!stat) return false;
  std::size_t name_end = stat->rfind(')');
  if (name_end == std::string::npos) return false;
  char state = 0;
  int parent = 0;
  return std::sscanf(stat->c_str() + name_end + 1, " %c %d", &state, &parent) == 2 && parent == setup_.keeper;
}

void Broker::end_session(std::uint64_t number, const std::string& why) {
  auto found = sessions_.find(number);
  if (found == sessions_.end()) return;
  Session& session = found->second;
  note("session end", &session, {{"why", why}});
  std::uint64_t peer = std::exchange(session.peer, 0);
  if (auto entry = peers_.find(peer); entry != peers_.end()) {
    entry->second->session = 0;  // so that the connection's end does not end it twice
    drop_peer(peer, "");
  }
  auto opens = session.opens;
  for (std::uint32_t grant : opens) close_open(grant);
  if (auto erased = state_.erase_session(number); !erased)
    log::error("broker", "session {} stays in the state: {}", number, erased.error().to_string());
  if (auto dropped = hold_.drop(fmt::format("process-{}", number)); !dropped)
    log::error("broker", "{}", dropped.error().to_string());
  loop_.forget(session.watch);
  sessions_.erase(number);
}

}  // namespace bailey::broker
