// A broker for tests, in a process of its own: honest where it is not told otherwise, and able to break each
// promise.
//
// It has one region, "orders": an exclusive table with one frozen segment, 7. `Wrong` says what it does
// instead of the right thing.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bailey/abi/control.h"
#include "bailey/base/clock.h"
#include "bailey/capability/key.h"
#include "bailey/medium/file.h"
#include "bailey/protocol/codec.h"
#include "bailey/protocol/handshake.h"
#include "bailey/protocol/socket.h"
#include "bailey/table/table.h"

namespace bailey::session {

class FakeBroker {
 public:
  static constexpr std::uint64_t segment_bytes = 4 * BAILEY_PAGE_BYTES;
  static constexpr std::uint32_t grant = 3;
  static constexpr std::uint64_t grant_value = 1000;
  static constexpr std::uint64_t session_number = 5;

  // What the broker process does and knows. A script may answer a request itself and return true.
  class World;
  using Script = std::function<bool(World&, const protocol::Request&)>;

  struct File {
    Fd fd;
    Mapping mapping;  // the broker's own, writable
  };

  class World {
   public:
    // Files as they ought to be.
    static File file(std::uint64_t bytes, std::optional<medium::Purpose> sealed) {
      medium::Place place;
      File made;
      made.fd = medium::create_file(place, "fake", bytes).value();
      if (::fallocate(made.fd.get(), 0, 0, static_cast<off_t>(bytes)) != 0) ::_exit(90);
      made.mapping =
          Mapping::of_file(made.fd.get(), bytes, Access::read_write, Mapping::Fork::inherited).value();
      if (sealed && !medium::seal(place, made.fd.get(), *sealed)) ::_exit(91);
      return made;
    }

    World() {
      control = file(sizeof(bailey_control), medium::Purpose::control);
      page()->header.magic = BAILEY_CONTROL_MAGIC;
      page()->header.version = BAILEY_CONTROL_VERSION;
      page()->header.layout = BAILEY_LAYOUT;
      std::copy(pool.begin(), pool.end(), page()->header.pool);
      for (auto& word : page()->grants) word.value = grant_value;
      index = file(geometry.index_bytes(), medium::Purpose::exclusive_index);
      table::Table::format(index.mapping.span(), geometry);
      frozen = file(segment_bytes, medium::Purpose::segment);
    }
    bailey_control* page() { return reinterpret_cast<bailey_control*>(control.mapping.data()); }

    void reply(std::uint64_t number, protocol::Answer answer, std::vector<int> fds = {}) {
      std::string payload = protocol::encode(protocol::Reply{number, std::move(answer)}).value();
      send(payload, fds);
    }
    void send(const std::string& payload, std::vector<int> fds = {}) {
      // A client that has hung up is what some tests are about.
      static_cast<void>(connection.send(as_bytes(payload), monotonic_ns() + 5'000'000'000, fds));
    }
    // `of`: tells the region from those of other brokers.
    protocol::Opened opened(bool writable, std::uint8_t of = 0) {
      protocol::Opened answer;
      answer.region[0] = of;
      answer.kind = "table";
      answer.number = 1;
      answer.mode = static_cast<std::uint8_t>(geometry.mode);
      answer.hash_seed = geometry.hash_seed;
      answer.buckets = geometry.buckets;
      answer.overflow_buckets = geometry.overflow_buckets;
      answer.index_bytes = geometry.index_bytes();
      answer.index_writable = answer.copy_index_from = writable;
      answer.writer = writable ? 9 : 0;
      answer.grant = grant;
      answer.grant_value = grant_value;
      answer.segment_bytes = segment_bytes;
      answer.size = 1 << 20;
      answer.protect = {"process"};
      capability::Head head;
      head.audience = capability::Audience::session;
      head.grant = grant;
      head.number = session_number;
      head.generation = grant_value;
      head.pool = pool;
      head.region = answer.region;
      head.access = writable ? Access::read_write : Access::read_only;
      head.bearer = true;
      answer.token_key = filled_key();
      sign(answer, head);
      return answer;
    }
    static protocol::Key filled_key() {
      protocol::Key key;
      key.fill(5);
      return key;
    }
    // The token that goes with what was opened, under the key that the answer has.
    static void sign(protocol::Opened& answer, const capability::Head& head) {
      capability::Key key(std::as_bytes(std::span(answer.token_key)));
      answer.token = as_text(key.mint(head).bytes());
    }
    // What an honest broker does.
    void honest(const protocol::Request& request) {
      std::uint64_t number = request.number;
      if (auto* open = std::get_if<protocol::OpenRegion>(&request.body)) {
        auto answer = opened(open->writable);
        if (!open->writable) return reply(number, answer, {index.fd.get()});
        next_index = file(geometry.index_bytes(), {});
        return reply(number, answer, {next_index.fd.get(), index.fd.get()});
      }
      if (std::holds_alternative<protocol::IndexMapped>(request.body)) {
        if (!medium::seal({}, next_index.fd.get(), medium::Purpose::exclusive_index)) ::_exit(92);
        return reply(number, protocol::IndexReady{grant_value});
      }
      if (std::holds_alternative<protocol::MapSegments>(request.body))
        return reply(number, protocol::Segments{{{7, segment_bytes}}}, {frozen.fd.get()});
      if (auto* create = std::get_if<protocol::CreateSegment>(&request.body)) {
        std::uint64_t bytes = segment_bytes + round_up(create->record_bytes, BAILEY_PAGE_BYTES);
        segment = file(bytes, {});
        return reply(number, protocol::SegmentCreated{{++segments, bytes}}, {segment.fd.get()});
      }
      if (std::holds_alternative<protocol::SegmentMapped>(request.body)) {
        if (!medium::seal({}, segment.fd.get(), medium::Purpose::segment)) ::_exit(93);
        return reply(number, protocol::Done{});
      }
      if (std::holds_alternative<protocol::GetMembers>(request.body))
        return reply(number, protocol::Members{page()->regions[1].membership, {}, {7}});
      if (std::holds_alternative<protocol::Attend>(request.body))
        return reply(number, protocol::Attention{page()->grants[grant].value, false, 0, {}, false, false});
      if (std::holds_alternative<protocol::FreshWriter>(request.body))
        return reply(number, protocol::Writer{10});
      if (std::holds_alternative<protocol::GetStatus>(request.body))
        return reply(number, protocol::Text{"{}"});
      reply(number, protocol::Done{});
    }
    // The next request of this client; none once it has hung up.
    std::optional<protocol::Request> next() {
      auto received = connection.receive(monotonic_ns() + 20'000'000'000, 0);
      if (!received) return std::nullopt;
      auto request = protocol::decode_request(as_bytes(received->payload));
      if (!request) return std::nullopt;
      return std::move(*request);
    }

    protocol::Connection connection;
    protocol::Id pool{1, 2, 3};
    table::Geometry geometry{table::Mode::exclusive, 42, 16, 16};
    File control, index, next_index, frozen, segment;
    std::uint16_t segments = 10;  // numbers given out
    unsigned connections = 0;     // so far
    protocol::Nonce secret{7, 7, 7};
    // What the test's own process can see.
    std::uint64_t* seen = nullptr;
  };

  // What to send in place of Welcome.
  using Greeting = std::function<void(World&, std::uint64_t number, protocol::Welcome)>;

  explicit FakeBroker(Script script = {}, Greeting greeting = {}) {
    char name[] = "/tmp/bailey-fake-XXXXXX";
    if (::mkdtemp(name) == nullptr) ::abort();
    folder_ = name;
    shared_ = Mapping::anonymous(4096).value();
    int ready[2];
    if (::pipe(ready) != 0) ::abort();
    child_ = ::fork();
    if (child_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::close(ready[0]);
      // A script that fails must not run on as a second copy of the tests.
      try {
        serve(std::move(script), std::move(greeting), ready[1]);
      } catch (...) {
        ::_exit(96);
      }
      ::_exit(0);
    }
    ::close(ready[1]);
    char byte = 0;
    if (::read(ready[0], &byte, 1) != 1) ::abort();
    ::close(ready[0]);
  }
  ~FakeBroker() {
    kill();
    std::filesystem::remove_all(folder_);
  }
  void kill() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = 0;
  }
  std::string path() const { return folder_ + "/broker.sock"; }
  // A counter that scripts grow.
  std::uint64_t seen() const {
    return __atomic_load_n(reinterpret_cast<std::uint64_t*>(shared_.data()), __ATOMIC_SEQ_CST);
  }

 private:
  void serve(Script script, Greeting greeting, int ready) {
    auto listener = protocol::Listener::bind(path()).value();
    auto key = crypto::SecretKey::generate().value();
    World world;
    world.seen = reinterpret_cast<std::uint64_t*>(shared_.data());
    if (::write(ready, "r", 1) != 1) return;
    for (;;) {
      pollfd wait{listener.fd(), POLLIN, 0};
      ::poll(&wait, 1, 20'000);
      auto accepted = listener.try_accept();
      if (!accepted || !*accepted) continue;
      world.connection = std::move(**accepted);
      ++world.connections;
      if (!shake_hands(world, listener, key, greeting)) continue;
      while (auto request = world.next()) {
        if (!script || !script(world, *request)) world.honest(*request);
        if (!world.connection) break;
      }
    }
  }
  static bool shake_hands(World& world, protocol::Listener& listener, const crypto::SecretKey& key,
                          const Greeting& greeting) {
    auto hello = world.next();
    if (!hello) return false;
    auto handshake = protocol::BrokerHandshake::start(world.connection, listener.place(),
                                                      std::get<protocol::Hello>(hello->body), key);
    if (!handshake) {
      world.reply(hello->number, handshake.error());
      return false;
    }
    world.reply(hello->number, handshake->challenge());
    auto proved = world.next();
    if (!proved || !handshake->check(std::get<protocol::Prove>(proved->body))) return false;
    if (handshake->hello().resume &&
        !handshake->check_resume(std::get<protocol::Prove>(proved->body), world.secret)) {
      world.reply(proved->number, Error{Code::not_found, By::broker, 0, "the session is not known", ""});
      return false;
    }
    protocol::Welcome welcome;
    welcome.session = session_number;
    welcome.resume_secret = world.secret;
    welcome.pool = world.pool;
    welcome.pool_name = "fake";
    welcome.control_bytes = sizeof(bailey_control);
    welcome.principals = {"user:alice"};
    if (greeting)
      greeting(world, proved->number, welcome);
    else
      world.reply(proved->number, welcome, {world.control.fd.get()});
    return true;
  }

  std::string folder_;
  Mapping shared_;
  pid_t child_ = 0;
};

}  // namespace bailey::session
