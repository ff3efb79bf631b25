#include "bailey/protocol/handshake.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <concepts>
#include <utility>

#include "bailey/abi/control.h"
#include "bailey/base/identity.h"
#include "bailey/crypto/mac.h"
#include "bailey/protocol/address.h"
#include "bailey/protocol/overflow.h"

namespace bailey::protocol {
namespace {

void append(std::string& out, std::string_view text) { out += text; }
template <std::unsigned_integral Integer>
void append(std::string& out, Integer value) {
  for (std::size_t byte = 0; byte < sizeof value; ++byte)
    out.push_back(static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * byte)));
}
template <std::size_t size>
void append(std::string& out, const std::array<std::uint8_t, size>& bytes) {
  out.append(reinterpret_cast<const char*>(bytes.data()), size);
}
void append(std::string& out, const Place& place) {
  append(out, place.pid_namespace);
  append(out, place.user_namespace);
  append(out, place.pid);
  append(out, place.uid);
  append(out, place.gid);
  append(out, place.start_ticks);
}
void append(std::string& out, const Seen& seen) {
  append(out, seen.place);
  append(out, seen.uid);
  append(out, seen.gid);
}

std::unexpected<Error> not_shown(By by, std::string message, std::string remedy = {}) {
  return fail(Code::unauthenticated, by, std::move(message), std::move(remedy));
}

// Whether whoever listens is whom one may expect there: whoever owns the folder could have put any socket
// into it, and root could do anything.
Status check_listener(const Seen& broker, const std::string& path, bool is_pinned) {
  struct stat folder;
  if (::stat(folder_of(path).c_str(), &folder) != 0)
    return fail_os(errno, fmt::format("could not look at the folder of {}", path));
  if (broker.uid == overflow_id) {
    if (is_pinned) return {};
    return not_shown(
        By::library,
        fmt::format("this user namespace does not show who listens at {} (uid {})", path, overflow_id),
        "give the broker's public key to the session, or map the broker's uid into the namespace");
  }
  if (broker.uid == 0 || broker.uid == folder.st_uid) return {};
  return not_shown(
      By::library,
      fmt::format("uid {} listens at {}, but the folder belongs to uid {}", broker.uid, path, folder.st_uid),
      "somebody has put a socket in the broker's place: ask whoever runs the machine");
}

}  // namespace

std::string transcript(Role role, const Hello& hello, const Challenge& challenge) {
  std::string out;
  // The zero ends the domain: neither is the beginning of the other.
  append(out, role == Role::broker ? std::string_view("bailey handshake 1 broker\0", 26)
                                   : std::string_view("bailey handshake 1 session\0", 27));
  append(out, hello.protocol);
  append(out, hello.layout);
  append(out, hello.process.boot);
  append(out, hello.process.start_ticks);
  append(out, hello.process.random);
  append(out, hello.client);
  append(out, hello.broker);
  append(out, hello.nonce);
  append(out, static_cast<std::uint8_t>(hello.has_key));
  append(out, hello.key);
  append(out, static_cast<std::uint8_t>(hello.resume));
  append(out, hello.session);
  append(out, challenge.nonce);
  append(out, challenge.broker_key);
  return out;
}

std::string Bound::to_string() const {
  std::string out;
  auto add = [&](bool is_bound, std::string_view what) {
    if (!is_bound) return;
    if (!out.empty()) out += ", ";
    out += what;
  };
  add(client_pid, "session's pid");
  add(client_ids, "session's ids");
  add(broker_pid, "broker's pid");
  add(broker_ids, "broker's ids");
  return out.empty() ? "nothing" : out;
}

// ---- the session's side

Result<SessionHandshake> SessionHandshake::start(const Connection& connection, const std::string& path,
                                                 const Options& options) {
  auto broker = observe(connection);
  if (!broker && broker.error().code == Code::not_found)
    return fail(Code::unavailable, By::kernel, fmt::format("the broker at {} is gone", path));
  if (!broker) return std::unexpected(broker.error());
  BAILEY_TRY(check_listener(*broker, path, options.broker_key.has_value()));
  Hello hello;
  hello.layout = BAILEY_LAYOUT;
  hello.process = BAILEY_TRY(own_identity());
  hello.client = BAILEY_TRY(own_place());
  hello.broker = *broker;
  random_bytes(hello.nonce.data(), hello.nonce.size());
  if (options.key != nullptr) {
    hello.has_key = true;
    hello.key = options.key->public_key();
  }
  if (options.resume) {
    hello.resume = true;
    hello.session = options.resume->session;
  }
  return SessionHandshake(options, hello);
}

Result<Prove> SessionHandshake::answer(const Challenge& challenge) const {
  if (options_.broker_key && *options_.broker_key != challenge.broker_key)
    return not_shown(By::library,
                     "the broker shows another key than the one that this session was told to expect",
                     "if the broker was set up anew, take its new public key; else somebody is in its place");
  if (!crypto::verify(challenge.broker_key, as_bytes(transcript(Role::broker, hello_, challenge)),
                      challenge.signature))
    return not_shown(By::library,
                     "the broker's proof is not about this connection: somebody passes its messages on");
  std::string own = transcript(Role::session, hello_, challenge);
  Prove prove;
  if (options_.key != nullptr) {
    prove.has_key = true;
    prove.signature = options_.key->sign(as_bytes(own));
  }
  if (options_.resume)
    prove.resume_proof = crypto::mac(std::as_bytes(std::span(options_.resume->secret)), as_bytes(own));
  return prove;
}

// ---- the broker's side

Result<BrokerHandshake> BrokerHandshake::start(const Connection& connection, const Place& listener,
                                               const Hello& hello, const crypto::SecretKey& key) {
  if (hello.protocol != protocol_version)
    return fail(
        Code::incompatible, By::broker,
        fmt::format("the session speaks protocol {}, the broker {}", hello.protocol, protocol_version),
        "use the same version of Bailey on both sides");
  if (hello.layout != BAILEY_LAYOUT)
    return fail(
        Code::incompatible, By::broker,
        fmt::format("the session was built with layout {}, the broker with {}", hello.layout, BAILEY_LAYOUT),
        "use the same version of Bailey on both sides");
  Seen client = BAILEY_TRY(observe(connection));
  auto elsewhere = [](std::string_view whom, const std::string& disagreement) {
    return not_shown(
        By::broker,
        fmt::format("the {} is not whom the other end of the connection shows: {}", whom, disagreement),
        "connect straight to the broker's socket; a process in between, or one that connected before it "
        "forked or changed its user, is refused");
  };
  // The broker has no word of its own about a place that does not say its namespaces; compare() refuses it.
  Comparison of_client = compare(hello.client, client, listener);
  if (!of_client.disagreement.empty()) return elsewhere("session", of_client.disagreement);
  Comparison of_broker = compare(listener, hello.broker, hello.client);
  if (!of_broker.disagreement.empty()) return elsewhere("broker", of_broker.disagreement);
  Challenge challenge;
  random_bytes(challenge.nonce.data(), challenge.nonce.size());
  challenge.broker_key = key.public_key();
  challenge.signature = key.sign(as_bytes(transcript(Role::broker, hello, challenge)));
  return BrokerHandshake(hello, challenge,
                         Bound{.client_pid = of_client.pid,
                               .client_ids = of_client.ids,
                               .broker_pid = of_broker.pid,
                               .broker_ids = of_broker.ids});
}

Status BrokerHandshake::check(const Prove& prove) const {
  if (prove.has_key != hello_.has_key)
    return not_shown(By::broker, hello_.has_key ? "the session claims a key and does not prove it"
                                                : "the session proves a key that it did not claim");
  if (hello_.has_key &&
      !crypto::verify(hello_.key, as_bytes(transcript(Role::session, hello_, challenge_)), prove.signature))
    return not_shown(By::broker, "the session's proof of its key is wrong",
                     "the key file must be the one whose public half is in the policy");
  return {};
}

Status BrokerHandshake::check_resume(const Prove& prove, const Nonce& secret) const {
  BAILEY_ASSERT(hello_.resume);
  if (!crypto::mac_is_right(prove.resume_proof, std::as_bytes(std::span(secret)),
                            as_bytes(transcript(Role::session, hello_, challenge_))))
    return not_shown(By::broker,
                     fmt::format("session {} can't be gone on with: its secret is not known", hello_.session),
                     "start a new session");
  return {};
}

}  // namespace bailey::protocol
