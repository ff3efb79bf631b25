// Tokens: minted for whom an admin names, redeemed when a region is opened, taken back, and over in time.
//
// A token opens a region as long as its row is there: the row is committed before the token is given out, and
// erased before anybody is told that it was revoked. What a session holds afterwards is a token of its own,
// under a key for it alone; the root and the key of what was minted stay here.
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>

#include "bailey/base/clock.h"
#include "bailey/base/log.h"
#include "bailey/broker/broker.h"
#include "bailey/capability/key.h"

namespace bailey::broker {
namespace {

std::uint64_t now_seconds() { return wall_ns() / 1'000'000'000; }

std::string ended_text(const Id& id) {
  return fmt::format(
      "token {} is not valid any more: it was revoked, its time is over, or whoever minted it may not",
      capability::to_string(id));
}
std::unexpected<Error> ended(const Id& id) {
  return fail(Code::revoked, By::broker, ended_text(id), "ask whoever gave it to you for another");
}
std::unexpected<Error> refused(std::string how,
                               std::string remedy = "ask whoever gave it to you for another") {
  return fail(Code::denied, By::broker, "the token " + std::move(how), std::move(remedy));
}

}  // namespace

// The admins of the policy, and who has a grant of admin on the region.
Status Broker::may_mint(const Session& session, const std::string& region, Minted* minted) const {
  if (session.admin && !session.janitor) {
    if (minted == nullptr) return {};
    const std::vector<std::string>& admins = policy_.admin_principals;
    auto named = std::ranges::find_first_of(admins, session.principals);
    if (named != admins.end()) {
      minted->issuer = *named;
    } else {
      auto shown = std::ranges::find_if(policy_.admins,
                                        [&](const policy::Identity& one) { return session.who.shows(one); });
      const bool own = shown == policy_.admins.end() || (shown->kind == policy::Identity::Kind::user &&
                                                         (shown->id == ::geteuid() || shown->id == 0));
      if (!own) minted->issuer = shown->to_string();
    }
    minted->by_admin = !minted->issuer.empty();
    return {};
  }
  auto decision = BAILEY_TRY(policy::decide(policy_, session.who, region, policy::Rights::admin));
  if (minted != nullptr) minted->issuer = policy_.grants[decision.grants.front()].principal;
  return {};
}

Reaction Broker::mint_token(Session& session, const protocol::MintToken& request) {
  Region* region = find_region(request.region);
  Minted minted;
  Status may = may_mint(session, request.region, &minted);
  if (may && region == nullptr)
    may = fail(Code::not_found, By::broker, fmt::format("there is no region {}", request.region));
  if (!may) {
    denied(session, request.region, may.error());
    return std::unexpected(std::move(may).error());
  }
  if (!request.holder.empty() && policy_.find_principal(request.holder) == nullptr)
    return fail(
        Code::not_found, By::broker,
        fmt::format("the policy has no principal {}, who would be the token's holder", request.holder),
        "name a principal of the policy, or mint a bearer token");
  if (request.expires != 0 && request.expires <= now_seconds())
    return fail(Code::invalid_argument, By::broker, "the token would be over before it is minted",
                "give a time that is to come");
  if (tokens_.size() >= tokens_max)
    return fail(Code::quota, By::broker, fmt::format("all {} tokens of the pool are in use", tokens_max),
                "revoke some, or let tokens expire");

  capability::Head head;
  head.pool = pool_;
  head.region = region->id;
  head.id = capability::fresh_id();
  head.access = request.writable ? Access::read_write : Access::read_only;
  head.bearer = request.holder.empty();
  crypto::Secret key = BAILEY_TRY(capability::derive_key(setup_.root->span(), head));
  capability::Token token = capability::Key(key.span()).mint(head);
  if (!request.holder.empty()) token = BAILEY_TRY(token.narrow(capability::Holder{request.holder}));
  if (request.expires != 0) token = BAILEY_TRY(token.narrow(capability::Expiry{request.expires}));

  minted.id = head.id;
  minted.region = region->number;
  minted.holder = request.holder;
  minted.writable = request.writable;
  minted.expires = request.expires;
  BAILEY_TRY(state_.save(minted));
  tokens_.emplace(head.id, minted);
  if (minted.expires != 0) wake_at_next_expiry();
  note("token minted", &session,
       {{"token", capability::to_string(head.id)},
        {"region", region->name},
        {"writable", minted.writable},
        {"holder", minted.holder},
        {"expires", minted.expires}});
  return Outcome{protocol::TokenMinted{std::string(as_text(token.bytes()))}, {}};
}

// One of ours: minted here, for this pool, and changed by nothing but its caveats.
Result<capability::Token> Broker::verified(const std::string& bytes) const {
  auto token = BAILEY_TRY(capability::Token::decode(as_bytes(bytes)));
  capability::Head head = token.head();
  if (head.audience != capability::Audience::broker)
    return refused("is one that a session holds, which no other may use",
                   "open with the token that was minted");
  if (head.pool != pool_) return refused("is for another pool");
  crypto::Secret key = BAILEY_TRY(capability::derive_key(setup_.root->span(), head));
  if (!capability::Key(key.span()).verify(token))
    return refused("was not minted by this broker, or was changed since");
  return token;
}

// Whether the row rests on somebody who may still mint.
bool Broker::stands(const Minted& token) const {
  auto region = regions_.find(token.region);
  if (region == regions_.end()) return false;
  if (token.issuer.empty()) return true;
  if (token.by_admin)
    return std::ranges::find(policy_.admin_principals, token.issuer) != policy_.admin_principals.end() ||
           std::ranges::any_of(policy_.admins,
                               [&](const policy::Identity& one) { return one.to_string() == token.issuer; });
  return std::any_of(policy_.grants.begin(), policy_.grants.end(), [&](const policy::Grant& grant) {
    return grant.principal == token.issuer && grant.covers(region->second.name) &&
           grant.rights >= policy::Rights::admin;
  });
}

// `expires`: of the token as it was shown, which may be sooner than it was minted for.
Status Broker::token_stands(const Id& id, std::uint64_t expires) const {
  auto found = tokens_.find(id);
  auto over = [now = now_seconds()](std::uint64_t when) { return when != 0 && when <= now; };
  if (found == tokens_.end() || found->second.ended || !stands(found->second) ||
      over(found->second.expires) || over(expires))
    return ended(id);
  return {};
}

// What the token allows this session in the region. `region`: null where there is none of the name asked for.
Result<capability::Scope> Broker::redeem(const Session& session, const Region* region,
                                         const capability::Token& token, bool writable) const {
  capability::Head head = token.head();
  if (region == nullptr || head.region != region->id) return refused("is for another region");
  capability::Scope scope = capability::scope_of(token);
  BAILEY_TRY(token_stands(head.id, scope.expires.value_or(0)));
  if (!scope.held_by(session.principals))
    return refused(fmt::format("is for another holder than {}", who(session)),
                   "connect as the principal that it names, or have one minted for you");
  if (scope.nothing) return refused("has caveats that exclude each other, and allows nothing");
  if (writable && !scope.allows(Access::read_write))
    return refused(fmt::format("has rights r on region {}; rw was asked", region->name),
                   "open it for reading, or ask for a token with rights rw");
  if (!scope.narrower_than_file()) return scope;
  if (region->raw() ? !scope.prefix.empty()
                    : scope.prefix.empty() || scope.begin != 0 || scope.end != scope.no_end)
    return refused(fmt::format("is for a part that a {} has not", region->kind),
                   "ranges are for raw regions, key prefixes for tables");
  // What is given out is a descriptor of the whole file: something in the session must hold it to its part. A
  // window does, inside of gates; a table has nothing that looks at prefixes.
  auto rungs = in_force(*region);
  if (!region->raw() || std::find(rungs.begin(), rungs.end(), "pkey") == rungs.end())
    return fail(
        Code::unsupported, By::broker,
        fmt::format("the token is for a part of region {}, and nothing there holds a session to a part: it "
                    "would be given all of the file",
                    region->name),
        region->raw() ? "protect the region with \"pkey\", or ask for a token for all of it"
                      : "ask for a token for all of it");
  return scope;
}

Status Broker::open_with_token(const Session& session, const std::string& name, const std::string& bytes,
                               Open& open) {
  const Region* region = find_region(name);
  auto token = verified(bytes);
  auto scope = token ? redeem(session, region, *token, open.writable)
                     : Result<capability::Scope>(std::unexpected(std::move(token).error()));
  if (!scope) {
    denied(session, name, scope.error());
    return std::unexpected(std::move(scope).error());
  }
  open.token = token->id();
  open.expires = scope->expires.value_or(0);
  open.holders.assign(scope->holders.begin(),
                      scope->holders.begin() + static_cast<std::ptrdiff_t>(scope->holder_count));
  open.principal = "token " + capability::to_string(*open.token);
  open.quotas.bytes = policy_.find_region(name)->quota_bytes;
  if (scope->begin != 0 || scope->end != scope->no_end)
    open.part.range = capability::Range{scope->begin, scope->end - scope->begin};
  open.part.prefix = scope->prefix;
  return {};
}

// What the session may do, for itself to narrow and to verify: under a key of its own, so that whoever has it
// mints for this open region of this session and for nothing else.
Status Broker::give_token(const Open& open, const Region& region, protocol::Opened& answer) const {
  capability::Head head;
  head.audience = capability::Audience::session;
  head.grant = open.grant;
  head.number = open.session;
  head.generation = open.told;
  head.pool = pool_;
  head.region = region.id;
  head.id = open.token ? *open.token : capability::fresh_id();
  head.access = open.writable ? Access::read_write : Access::read_only;
  head.bearer = true;  // within the session, whose token it is
  crypto::Secret key = BAILEY_TRY(capability::derive_key(setup_.root->span(), head));
  capability::Token token = capability::Key(key.span()).mint(head);
  if (open.part.range) token = BAILEY_TRY(token.narrow(*open.part.range));
  if (!open.part.prefix.empty()) token = BAILEY_TRY(token.narrow(capability::Prefix{open.part.prefix}));
  answer.token = as_text(token.bytes());
  std::ranges::copy(as_text(key.span()), answer.token_key.begin());
  return {};
}

// By the policy as it is now, or by its token.
Result<policy::Decision> Broker::still_granted(const Session& session, const Region& region,
                                               const Open& open) const {
  if (!open.token)
    return policy::decide(policy_, session.who, region.name,
                          open.writable ? policy::Rights::write : policy::Rights::read);
  BAILEY_TRY(token_stands(*open.token, open.expires));
  for (const std::string& holder : open.holders)
    if (std::ranges::find(session.principals, holder) == session.principals.end())
      return refused(fmt::format("is for {}, which {} is not any more", holder, who(session)));
  policy::Decision decision;
  decision.quotas = open.quotas;
  if (const policy::Region* wanted = policy_.find_region(region.name))
    decision.quotas.bytes = wanted->quota_bytes;
  return decision;
}

// ---- how they end

// Erases the rows of what was revoked, is over, or rests on nobody any more. The regions whose files, and
// key, somebody has who may not read any more: they are marked and have a new key, in the same commit, and
// whoever asked sees to them. `unsure`: regions of which something ended, whoever had it.
//
// Where the state can't be written, what ended opens nothing all the same, and it is tried again every
// second: the error is for who would be told that it is done.
Result<std::set<std::uint32_t>> Broker::end_tokens(std::set<std::uint32_t> unsure) {
  std::vector<Id> ending;
  for (auto& [id, token] : tokens_) {
    if (token_stands(id, 0)) continue;
    token.ended = true;
    ending.push_back(id);
    unsure.insert(token.region);
  }
  std::set<std::uint32_t> lost, marked, rekeyed;
  for (auto& [number, region] : regions_)
    if (lost_holder(region, unsure.contains(number))) lost.insert(number);
  if (ending.empty() && lost.empty()) return lost;
  Status committed = state_.commit([&]() -> Status {
    for (const Id& id : ending) BAILEY_TRY(state_.erase_token(id));
    for (std::uint32_t number : lost) {
      Region& region = regions_.at(number);
      if (!std::exchange(region.disowned, true)) marked.insert(number);
      if (count_key(region)) rekeyed.insert(number);
      BAILEY_TRY(state_.save(region));
    }
    return {};
  });
  if (!committed) {
    log::error("broker", "the end of a token is not in the state yet: {}", committed.error().to_string());
    for (std::uint32_t number : marked) regions_.at(number).disowned = false;
    for (std::uint32_t number : rekeyed) uncount_key(regions_.at(number));
    return std::unexpected(std::move(committed).error());
  }
  for (const Id& id : ending) tokens_.erase(id);
  return lost;
}

// What whoever ended them has to hear besides, in lines.
std::string Broker::after_tokens_ended(const std::set<std::uint32_t>& lost) {
  std::vector<std::uint32_t> over;
  for (auto& [grant, open] : opens_)
    if (open.token && open.revoked.empty() && !token_stands(*open.token, open.expires)) over.push_back(grant);
  for (std::uint32_t grant : over)
    if (Open* open = open_of(grant)) revoke(*open, ended_text(*open->token));
  std::string told;
  for (std::uint32_t number : lost) {
    Region& region = regions_.at(number);
    told += tell_of_key(region);
    renew(region);
  }
  wake_at_next_expiry();
  return told;
}

Reaction Broker::revoke_token(Session& session, std::uint64_t number, const protocol::RevokeToken& request) {
  std::string name = capability::to_string(request.id);
  auto found = tokens_.find(request.id);
  // Who may not is told the same of a token that there is and of one that there is not.
  Status may =
      fail(Code::not_found, By::broker, fmt::format("there is no token {} that you may revoke", name),
           "tokens that are over or revoked are gone; the audit log names all that were minted");
  if (session.admin || (found != tokens_.end() && may_mint(session, regions_.at(found->second.region).name)))
    may = {};
  if (!may) {
    denied(session, "", may.error());
    return std::unexpected(std::move(may).error());
  }
  std::string text = fmt::format("token {} was not valid: revoked before, over, or never minted\n", name);
  if (found != tokens_.end()) {
    std::string region = region_of(found->second.region)->name;
    found->second.ended = true;
    auto lost = end_tokens();
    note(lost ? "token revoked" : "token not revoked for good", &session,
         {{"token", name}, {"region", region}});
    const std::string told = after_tokens_ended(lost.value_or(std::set<std::uint32_t>()));
    if (!lost)
      return fail(
          lost.error().code, By::broker,
          fmt::format("token {} opens nothing any more, but would again if the broker died now: {}", name,
                      lost.error().message),
          "make room where the broker keeps its state; it tries again every second. Ask again until it "
          "is revoked");
    text = fmt::format("token {} of region {} is revoked\n", name, region) + told;
  }
  // Also where it was revoked before: the answer to that may have been lost with the broker that gave it.
  Applying waits{session.number, number, std::move(text), {}, {}};
  for (auto& [grant, open] : opens_)
    if (!open.revoked.empty()) waits.waiting.insert(grant);
  for (auto& [of, region] : regions_)
    if (region.replacing) waits.renewed.insert(of);
  if (waits.waiting.empty() && waits.renewed.empty())
    return Outcome{protocol::Text{std::move(waits.text)}, {}};
  applying_.push_back(std::move(waits));
  return std::nullopt;
}

Reaction Broker::verify_token(Session& session, const protocol::VerifyToken& request) {
  auto token = verified(request.token);
  const Region* region = nullptr;
  if (token)
    for (auto& [number, candidate] : regions_)
      if (candidate.id == token->head().region) region = &candidate;
  auto scope = token ? redeem(session, region, *token, false)
                     : Result<capability::Scope>(std::unexpected(std::move(token).error()));
  if (!scope) {
    denied(session, region != nullptr ? region->name : "", scope.error());
    return std::unexpected(std::move(scope).error());
  }
  return Outcome{
      protocol::Text{fmt::format(
          "valid: {} on region {}{}\n", scope->allows(Access::read_write) ? "rw" : "r", region->name,
          scope->expires ? ", until " + capability::time_to_string(*scope->expires) : std::string())},
      {}};
}

// The next moment at which something ends: a token, or what was opened with one or given by one.
void Broker::wake_at_next_expiry() {
  if (!expiry_) return;  // begin_tokens() has not come to it
  std::uint64_t next = 0;
  auto consider = [&](std::uint64_t when) {
    if (when != 0 && (next == 0 || when < next)) next = when;
  };
  const std::uint64_t soon = now_seconds() + 1;
  for (auto& [id, token] : tokens_) consider(token.ended ? soon : token.expires);
  for (auto& [grant, open] : opens_)
    if (open.revoked.empty()) consider(open.expires);
  for (auto& [number, region] : regions_) consider(next_expiry(region));
  // What is due and could not be done is tried again in a second, not at once and for ever.
  if (next != 0) next = std::max(next, soon);
  // Beyond what the kernel takes there is nothing to wait for.
  itimerspec when{};
  when.it_value.tv_sec = static_cast<time_t>(std::min<std::uint64_t>(next, 1ull << 40));
  if (::timerfd_settime(expiry_.get(), TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &when, nullptr) != 0)
    log::error("broker", "tokens will not be ended in time: errno {}", errno);
}

// Without the root that they were minted under tokens are nothing: a pool in files may have outlived it.
Status Broker::load_tokens() {
  crypto::Secret mark = BAILEY_TRY(crypto::derive(setup_.root->span(), "bailey token root 1"));
  std::string_view root = as_text(mark.span());
  if (BAILEY_TRY(state_.meta("token root")) != root)
    return state_.commit([&]() -> Status {
      for (const Minted& token : BAILEY_TRY(state_.tokens())) BAILEY_TRY(state_.erase_token(token.id));
      return state_.set_meta("token root", root);
    });
  for (Minted& token : BAILEY_TRY(state_.tokens())) tokens_.emplace(token.id, std::move(token));
  return {};
}

// After a broker's death nobody knows who was given what by which token, and until when: where there are
// tokens, writers leave what may have been given, and the key is renewed.
Status Broker::begin_tokens() {
  expiry_ = Fd(::timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!expiry_) return fail_os(errno, "could not make a timer");
  BAILEY_TRY(loop_.watch(expiry_.get(), EPOLLIN, [this](std::uint32_t) {
    std::uint64_t times;
    static_cast<void>(::read(expiry_.get(), &times, sizeof times));  // fails where the clock was set
    after_tokens_ended(end_tokens().value_or(std::set<std::uint32_t>()));
  }));
  std::set<std::uint32_t> regions;
  for (auto& [id, token] : tokens_) regions.insert(token.region);
  after_tokens_ended(BAILEY_TRY(end_tokens(std::move(regions))));
  return {};
}

}  // namespace bailey::broker
