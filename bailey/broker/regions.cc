// Opening and closing regions.
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "bailey/base/count.h"
#include "bailey/base/log.h"
#include "bailey/broker/broker.h"

namespace bailey::broker {

Result<policy::Decision> Broker::decide(const Session& session, const std::string& region, bool writable) {
  if (session.janitor) {
    policy::Decision all;
    all.rights = policy::Rights::write;
    return all;
  }
  auto decision =
      policy::decide(policy_, session.who, region, writable ? policy::Rights::write : policy::Rights::read);
  if (!decision) denied(session, region, decision.error());
  return decision;
}

// An exclusive region has one writer; the janitor makes way.
Status Broker::check_writer(Session& session, Region& region) {
  if (region.writer == 0) return {};
  Open& holder = *open_of(region.writer - 1);
  // Its own, not confirmed: the answer was lost with the broker that gave it.
  if (holder.session == session.number && holder.pending_generation != 0) {
    close_open(holder.grant);
    return {};
  }
  Session& other = *session_of(holder.session);
  if (other.janitor && !session.janitor) {
    // Nobody may copy the index before its writer is dead. It is our own process, and dies in a moment.
    ::syscall(SYS_pidfd_send_signal, other.pidfd.get(), SIGKILL, nullptr, 0);
    pollfd dead{other.pidfd.get(), POLLIN, 0};
    if (::poll(&dead, 1, 200) == 1) {
      end_session(other.number, "it made way for a writer");
      return {};
    }
  }
  return fail(Code::busy, By::broker,
              fmt::format("region {} is exclusive, and is open for writing by {}", region.name, who(other)),
              "wait until it closes the region or ends, or declare the region with mode = \"shared\"");
}

Status Broker::check_sessions(const Session& session, const Region& region, const Open& open) {
  if (!open.quotas.sessions) return {};
  std::set<std::uint64_t> others;
  for (auto& [grant, other] : opens_)
    if (other.region == region.number && other.principal == open.principal && other.session != session.number)
      others.insert(other.session);
  if (others.size() < *open.quotas.sessions) return {};
  return fail(Code::quota, By::broker,
              fmt::format("the grant of {} on region {} allows {}, and {} it open", open.principal,
                          region.name, counted(*open.quotas.sessions, "session"),
                          others.size() == 1 ? "1 has" : fmt::format("{} have", others.size())),
              "close one, or ask an admin for more sessions in the grant");
}

// In several steps, since files take their time: decided here, an index is made where there is none, a writer
// of an exclusive region gets a new one, then opened() answers. A session that ends meanwhile takes its Open
// with it.
Reaction Broker::open_region(Session& session, std::uint64_t number, const protocol::OpenRegion& request) {
  Open open;
  open.writable = request.writable;
  if (!request.token.empty()) {
    BAILEY_TRY(open_with_token(session, request.region, request.token, open));
  } else {
    auto decision = BAILEY_TRY(decide(session, request.region, request.writable));
    open.quotas = decision.quotas;
    if (!decision.grants.empty()) open.principal = policy_.grants[decision.grants.front()].principal;
  }
  Region* region = find_region(request.region);
  if (region == nullptr)
    return fail(Code::not_found, By::broker, fmt::format("there is no region {}", request.region));
  if (session.opens.size() >= opens_of_session_max)
    return fail(Code::quota, By::broker,
                fmt::format("a session has at most {} regions open", opens_of_session_max));
  if (request.writable && !session.janitor) BAILEY_TRY(check_keys_left(*region));
  bool exclusive_writer = request.writable && region->geometry.mode == table::Mode::exclusive;
  if (exclusive_writer) BAILEY_TRY(check_writer(session, *region));

  open.session = session.number;
  open.region = region->number;
  open.opening = true;
  BAILEY_TRY(check_sessions(session, *region, open));
  std::size_t alike = 0;
  for (auto& [word, other] : opens_)
    if (Session* holder = session_of(other.session); holder != nullptr && holder->uid == session.uid) ++alike;
  if (alike >= grants_of_uid_max && session.uid != ::geteuid())
    return fail(
        Code::quota, By::broker,
        fmt::format("uid {} has {} regions open in all its sessions, and no more", session.uid, alike),
        "close some of them");
  auto grant = free_grant();
  if (!grant)
    return fail(Code::quota, By::broker,
                fmt::format("all {} grant words of the pool are in use", BAILEY_GRANT_WORDS));
  open.grant = *grant;
  opens_.emplace(*grant, std::move(open));
  session.opens.insert(*grant);
  if (exclusive_writer) region->writer = 1 + *grant;  // nobody else begins to take it

  with_index(*region, [this, grant = *grant, of = session.number, number, exclusive_writer](Status made) {
    if (still_opening(grant, of, number) == nullptr) return;
    if (!made) {
      close_open(grant);
      return reply(of, number, std::unexpected(std::move(made).error()));
    }
    if (exclusive_writer) return make_next_index(grant, of, number);
    opened(grant, of, number, {});
  });
  return std::nullopt;
}

// The Open that a step goes on with; nothing where it is over, which its session has been told by then.
Open* Broker::still_opening(std::uint32_t grant, std::uint64_t session, std::uint64_t request) {
  if (session_of(session) == nullptr) return nullptr;
  Open* open = open_of(grant);
  if (open != nullptr && (open->session != session || !open->opening)) open = nullptr;
  if (open != nullptr && open->revoked.empty() && region_of(open->region) != nullptr) return open;
  if (open != nullptr) close_open(grant);
  reply(
      session, request,
      fail(Code::revoked, By::broker, "the policy was changed while the region was opened", "open it again"));
  return nullptr;
}

void Broker::opened(std::uint32_t grant, std::uint64_t session_number, std::uint64_t request,
                    IndexFile next) {
  Open& open = *open_of(grant);
  Region& region = *region_of(open.region);
  auto committed = [&]() -> Status {
    if (open.writable && next_writer_ >= 0x7fff'ffffu)
      return fail(Code::quota, By::broker, "all 2^31 writer ids of the pool were given out",
                  "format a new pool");
    if (next.generation != 0) BAILEY_TRY(hold(index_name(region.number, next.generation), next.file.get()));
    open.next = std::move(next);
    open.pending_generation = open.next.generation;
    if (open.writable) open.writer = next_writer_;
    return state_.commit([&]() -> Status {
      if (open.writable) {
        BAILEY_TRY(state_.set_meta("next_writer", std::to_string(next_writer_ + 1)));
        BAILEY_TRY(state_.save(region));
      }
      return state_.save(open);
    });
  }();
  if (!committed) {
    close_open(grant);
    return reply(session_number, request, std::unexpected(std::move(committed).error()));
  }
  if (open.writable) ++next_writer_;
  open.opening = false;
  // Moved, so that whoever had this word before is not taken for a holder.
  open.told = setup_.control->bump_grant(grant);
  open.generation = region.index.generation;
  add_holder(region, *session_of(session_number), open);
  if (open.expires != 0) wake_at_next_expiry();
  // A writer that comes while the shared index is copied attends before it writes, and is held like the
  // others.
  if (open.writable && region.replacing) bump(open);
  if (open.writable) setup_.control->bump_membership(region.number);
  nlohmann::json fields{{"region", region.name}, {"writable", open.writable}, {"writer", open.writer}};
  if (open.token) fields["token"] = capability::to_string(*open.token);
  note("open", session_of(session_number), std::move(fields));
  auto answer = opened_answer(open, region);
  if (!answer) close_open(grant);
  reply(session_number, request, std::move(answer));
}

Result<Outcome> Broker::opened_answer(const Open& open, Region& region) const {
  bool shared = region.geometry.mode == table::Mode::shared;
  protocol::Opened answer;
  answer.region = region.id;
  answer.number = region.number;
  answer.kind = region.kind;
  answer.mode = static_cast<std::uint8_t>(region.geometry.mode);
  answer.hash_seed = region.geometry.hash_seed;
  answer.buckets = region.geometry.buckets;
  answer.overflow_buckets = region.geometry.overflow_buckets;
  answer.index_bytes = region.index_bytes;
  answer.index_writable = open.writable;
  answer.copy_index_from = open.writable && !shared;
  answer.writer = open.writer;
  answer.grant = open.grant;
  answer.grant_value = open.told;
  answer.segment_bytes = region.segment_bytes;
  answer.size = region.bytes;
  answer.protect = in_force(region);
  BAILEY_TRY(give_token(open, region, answer));
  answer.key = BAILEY_TRY(key_of(region));
  if (!open.writable)
    return Outcome{std::move(answer), {shared ? region.index.reader.get() : region.index.file.get()}};
  if (shared) return Outcome{std::move(answer), {region.index.file.get()}};
  return Outcome{std::move(answer), {open.next.file.get(), region.index.file.get()}};
}

Reaction Broker::close_region(Session& session, const protocol::CloseRegion& request) {
  // Closing what is closed is no mistake: the answer may have been lost.
  if (Open* open = open_of(request.grant); open != nullptr && open->session == session.number)
    close_open(request.grant);
  return Outcome{protocol::Done{}, {}};
}

// A broker has no less to give than `process`, which is what a region that asks for none gets.
std::vector<std::string> Broker::in_force(const Region& region) const {
  std::vector<std::string> rungs;
  if (const policy::Region* wanted = policy_.find_region(region.name))
    for (const policy::Protection& protection : wanted->protect)
      if (protection.in_force && protection.name != "none") rungs.push_back(protection.name);
  if (rungs.empty()) rungs.push_back("process");
  return rungs;
}

}  // namespace bailey::broker
