// Waiting: peers that wake, fill, flip and use up, to make others wait or run short.
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <atomic>
#include <cstring>
#include <limits>
#include <thread>

#include "attack/attack.h"
#include "attack/house.h"
#include "bailey/abi/segment.h"
#include "bailey/table/home.h"
#include "bailey/table/record.h"

namespace bailey::attack {
namespace {

constexpr std::uint64_t second = 1'000'000'000;

// Whether a client of the broker is answered within a second.
bool answers(const House& house, const std::string& who = "alice") {
  const std::uint64_t begun = monotonic_ns();
  auto client = broker::Client::connect(house.socket(), house.key(who));
  return client && client->status() && monotonic_ns() - begun < second;
}

// A process that asks the broker whenever it is told to, so that it can be told while the attacker still has
// all that it took.
class Bystander {
 public:
  explicit Bystander(const House& house)
      : process_([this, &house] {
          while (asked_.hear() != 0) said_.say(answers(house) ? 'y' : 'n');
          return 0;
        }) {}
  // In the attacker.
  bool is_answered() const {
    asked_.say();
    return said_.hear() == 'y';
  }
  std::vector<int> ends() const { return {asked_.ends[1], said_.ends[0]}; }

 private:
  broker::Words asked_, said_;
  broker::Process process_;
};

// Requeues whoever waits on any word of a file, for half a second.
Came move_waiters(int fd, std::size_t bytes) {
  auto* words = static_cast<std::uint32_t*>(::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0));
  if (words == MAP_FAILED) return Came::broken("a reader can't map what it was given");
  for (std::uint64_t until = monotonic_ns() + second / 2; monotonic_ns() < until;)
    for (std::size_t at = 0; at < bytes / 4; ++at) {
      const long moved =
          ::syscall(SYS_futex, words + at, FUTEX_REQUEUE, 1, std::numeric_limits<int>::max(), words, 0);
      if (moved > 0) return Came::through(fmt::format("{} waiters were moved", moved));
    }
  return Came::stopped("nobody waits there");
}
Came futex_requeue(const Ground& ground) {
  House house(ground.folder);
  house.serve(house.policy("shared"));
  broker::Client bob = house.client("bob");
  must(bob.open("orders", false));
  broker::Process worker([&] {
    Session alice = house.session("alice");
    auto table = must(alice.open_table("orders", bailey::Access::read_write));
    for (std::uint64_t until = monotonic_ns() + second; monotonic_ns() < until;)
      if (!table.put("key", "value")) return 1;
    return 0;
  });
  Came came = in_hostile(attacker_of("same uid"), {bob.page_file.get()},
                         [&] { return move_waiters(bob.page_file.get(), bob.welcome.control_bytes); });
  if (worker.wait() != 0) return Came::through("a session was held up");
  return came;
}
Came futex_requeue_of_a_sleeper(const Ground&) {
  const Fd file(::memfd_create("unprotected", MFD_CLOEXEC));
  must(file && ::ftruncate(file.get(), 4096) == 0, "file");
  const broker::Process sleeper([&]() -> int {
    void* at = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    for (;;) ::syscall(SYS_futex, static_cast<std::uint32_t*>(at) + 5, FUTEX_WAIT, 0, nullptr, nullptr, 0);
  });
  const Fd for_reading(::open(fmt::format("/proc/self/fd/{}", file.get()).c_str(), O_RDONLY | O_CLOEXEC));
  return in_hostile(attacker_of("same uid"), {for_reading.get()},
                    [&] { return move_waiters(for_reading.get(), 4096); });
}

// A pipe or an eventfd that whoever writes to it waits for.
struct Full {
  explicit Full(bool pipe) {
    if (!pipe) {
      end = Fd(::eventfd(0, EFD_CLOEXEC));
      const std::uint64_t most = ~std::uint64_t{0} - 1;
      must(end && ::write(end.get(), &most, sizeof most) == sizeof most, "eventfd");
      return;
    }
    int ends[2];
    must(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0, "pipe");
    other = Fd(ends[0]);
    end = Fd(ends[1]);
    for (const std::string bytes(4096, 'x'); ::write(end.get(), bytes.data(), bytes.size()) > 0;) {}
    must(::fcntl(end.get(), F_SETFL, 0) == 0, "pipe that blocks");
  }
  Fd end, other;
};
// The broker is handed as many as a message takes, and asked.
Came full_end(const Ground& ground, bool pipe) {
  House house(ground.folder);
  house.serve(house.policy("shared"));
  const Bystander others(house);
  return in_hostile(stranger(), others.ends(), [&] {
    const Full full(pipe);
    broker::Client bob = house.client("bob");
    const std::vector<int> ends(100, full.end.get());
    for (int i = 0; i < 100; ++i) {
      const auto asks = must(protocol::encode(protocol::Request{++bob.number, protocol::GetStatus{}}));
      if (!bob.connection.send(as_bytes(asks), broker::in_10_s(), ends)) break;
      if (!bob.receive<protocol::Text>()) break;
    }
    return others.is_answered() ? Came::stopped("others are answered") : Came::through("others wait");
  });
}
// Somebody who tells a peer by the end that the peer gave it.
Came full_end_of_a_teller(const Ground&, bool pipe) {
  const Full full(pipe);
  broker::Words told;
  const broker::Process teller([&] {
    const std::uint64_t one = 1;
    if (::write(full.end.get(), &one, sizeof one) == sizeof one) told.say();
    return 0;
  });
  pollfd ready{told.ends[0], POLLIN, 0};
  return ::poll(&ready, 1, 1000) == 0 ? Came::through("it waits") : Came::stopped("it goes on");
}

// Asks, and never reads the answers: the broker's socket to it is full.
Came full_socket(const Ground& ground) {
  House house(ground.folder);
  house.serve(house.policy("shared"));
  broker::Client bob = house.client("bob");
  const auto request = must(protocol::encode(protocol::Request{7, protocol::GetStatus{}}));
  for (unsigned sent = 0; sent < 20'000; ++sent)
    if (!bob.connection.send(as_bytes(request), monotonic_ns() + second))
      return answers(house) ? Came::stopped("cut off; others are answered") : Came::through("others wait");
  return answers(house) ? Came::stopped("held back; others are answered") : Came::through("others wait");
}

// Of another uid where there is one: those of one uid have their share, and no more.
Came silent_connections(const Ground& ground) {
  House house(ground.folder);
  house.serve(house.policy("shared"));
  broker::Words ready;
  const broker::Process silent([&] {
    if (::geteuid() == 0 && !become(attacker_of("other uid").uid)) return 97;
    std::vector<protocol::Connection> held;
    for (int i = 0; i < 200; ++i) {
      auto connected = protocol::connect(house.socket());
      if (!connected) break;
      held.push_back(std::move(*connected));
    }
    ready.say();
    for (;;) ::pause();
  });
  must(ready.hear() == 'x', "silent connections");
  return answers(house) ? Came::stopped("others are answered") : Came::through("others wait");
}

// A writer makes the key's slot lead to a record whose word it changes for ever, while a session reads the
// key.
Came flipping(const Ground& ground, bool busy_for_ever) {
  House house(ground.folder);
  house.serve(house.policy("shared"));
  broker::Client alice = house.client("alice");
  const auto opened = must(alice.open("orders", true));
  const auto row = must(alice.create(opened.grant));
  const pool::Extent shape = pool::Extent::shape(row.bytes);
  auto word = [&](std::uint64_t offset) {
    return reinterpret_cast<std::uint64_t*>(alice.segment.data() + offset);
  };
  *word(BAILEY_SEGMENT_PAGE_WORDS_OFFSET) = table::make_page_word(1, 1, 0);
  *word(shape.data_offset + 8) = table::make_lengths(3, 0);
  std::memcpy(word(shape.data_offset + 16), "key", 3);
  std::uint64_t* const record = word(shape.data_offset);

  table::Geometry geometry;
  geometry.mode = table::Mode::shared;
  geometry.hash_seed = opened.hash_seed;
  geometry.buckets = opened.buckets;
  geometry.overflow_buckets = opened.overflow_buckets;
  const table::Home home = table::home_of("key", geometry);
  auto* const bucket =
      reinterpret_cast<bailey_bucket*>(alice.index.data() + BAILEY_INDEX_BUCKETS_OFFSET) + home.bucket;
  bucket->slots[0] = table::make_slot(home.tag, row.segment, shape.data_offset);

  Session bob = house.session("bob");
  auto table = must(bob.open_table("orders", bailey::Access::read_only));
  std::string value;
  *record = table::record_word(1);
  must(table.get("key", value).has_value(), "record that can be read while it is left alone");
  // In the stage, since a forked child does not have the writer's mappings.
  std::atomic<bool> over = false;
  std::thread flipper([&] {
    for (std::uint64_t n = 1; !over; ++n)
      __atomic_store_n(record, busy_for_ever ? 1 : table::record_word(n), __ATOMIC_RELAXED);
  });
  std::uint64_t longest = 0;
  std::string seen = "every read ends";
  for (int i = 0; i < 200; ++i) {
    const std::uint64_t begun = monotonic_ns();
    auto got = table.get("key", value);
    longest = std::max(longest, monotonic_ns() - begun);
    if (!got && got.error().code != Code::contended) seen = std::string(name(got.error().code));
  }
  over = true;
  flipper.join();
  if (longest > second) return Came::through(fmt::format("a read took {} ms", longest / 1'000'000));
  return Came::stopped(seen);
}

// Somebody who waits until the record is whole.
Came flipping_before_a_waiter(const Ground&) {
  void* at = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  must(at != MAP_FAILED, "page");
  auto* const record = static_cast<std::uint64_t*>(at);
  *record = 1;
  broker::Words ended;
  const broker::Process waiter([&] {
    while ((__atomic_load_n(record, __ATOMIC_ACQUIRE) & 1) != 0) {}
    ended.say();
    return 0;
  });
  pollfd ready{ended.ends[0], POLLIN, 0};
  return ::poll(&ready, 1, 1000) == 0 ? Came::through("it waits") : Came::stopped("it goes on");
}

// ---- using up

// In a process of a uid of its own: begins, then takes until it is refused. Then others are answered.
using Take = std::function<std::optional<Error>()>;
Came use_up(const House& house, unsigned most, const std::function<void()>& begin, const Take& take) {
  const Bystander others(house);
  return in_hostile(stranger(), others.ends(), [&] {
    begin();
    std::optional<Error> refused;
    for (unsigned taken = 0; taken < most && !refused; ++taken) refused = take();
    if (!others.is_answered()) return Came::through("others are not answered any more");
    return refused ? Came::stopped_by(*refused) : Came::through(fmt::format("{} and no end", most));
  });
}
template <class T>
std::optional<Error> error_of(Result<T> result) {
  if (result) return {};
  return std::move(result).error();
}

// What a principal takes who has a grant with these quotas.
Came use_up_as(const Ground& ground, const std::string& who, const std::string& quotas, unsigned most,
               const std::function<std::optional<Error>(broker::Client&, std::uint32_t grant)>& take,
               const std::string& of_region = "") {
  House house(ground.folder);
  house.serve(house.policy("shared", "16MiB", quotas, of_region));
  std::optional<broker::Client> client;
  std::uint32_t grant = 0;
  return use_up(
      house, most,
      [&] {
        client.emplace(house.client(who));
        grant = must(client->open("orders", who == "alice")).grant;
      },
      [&] { return take(*client, grant); });
}
std::optional<Error> segment(broker::Client& client, std::uint32_t grant) {
  return error_of(client.create(grant));
}
std::optional<Error> request(broker::Client& client, std::uint32_t) { return error_of(client.status()); }
std::optional<Error> grant_word(broker::Client& client, std::uint32_t) {
  return error_of(client.ask<protocol::Opened>(protocol::OpenRegion{"orders", false}));
}
std::optional<Error> writer_id(broker::Client& client, std::uint32_t grant) {
  return error_of(client.ask<protocol::Writer>(protocol::FreshWriter{grant}));
}

Came use_up_sessions(const Ground& ground) {
  House house(ground.folder);
  house.serve(house.policy("shared", "16MiB", "sessions = 4"));
  std::vector<broker::Client> held;
  return use_up(
      house, 100, [] {},
      [&]() -> std::optional<Error> {
        held.push_back(house.client("bob"));
        return error_of(held.back().open("orders", false));
      });
}
// The broker's own uid is not bounded so.
Came use_up_connections(const Ground& ground) {
  if (::geteuid() != 0) return Came::skipped("the suite is not run as root, and has one uid");
  House house(ground.folder);
  house.serve(house.policy("shared"));
  std::vector<broker::Client> held;
  return use_up(
      house, 1000, [] {},
      [&]() -> std::optional<Error> {
        auto client = broker::Client::connect(house.socket());
        if (!client) return client.error();
        held.push_back(std::move(*client));
        return {};
      });
}
// Descriptors that are sent and not taken count against the broker's user.
Came use_up_descriptors(const Ground& ground) {
  House house(ground.folder);
  house.serve(house.policy("shared"));
  broker::Client alice = house.client("alice");
  const auto hers = must(alice.open("orders", true));
  for (int i = 0; i < 4; ++i) must(alice.create(hers.grant));
  std::optional<broker::Client> bob;
  std::string asks;
  return use_up(
      house, 1000,
      [&] {
        bob.emplace(house.client("bob"));
        const auto his = must(bob->open("orders", false));
        asks = must(protocol::encode(protocol::Request{7, protocol::MapSegments{his.grant, {}}}));
      },
      [&] { return error_of(bob->connection.send(as_bytes(asks), monotonic_ns() + second)); });
}

}  // namespace

void add_waiting(Attacks& attacks) {
  auto add = [&](std::string name, std::string what, std::string mechanism, std::vector<std::string> expected,
                 std::function<Came(const Ground&)> act) {
    attacks.push_back({.name = "waiting/" + name,
                       .what = std::move(what),
                       .rung = "process",
                       .mechanism = std::move(mechanism),
                       .expected = std::move(expected),
                       .known = {},
                       .act = std::move(act)});
  };
  add("futex-requeue", "a reader moves and wakes the waiters of every word of the control page",
      "nothing of ours sleeps in shared memory", {"nobody waits there"}, futex_requeue);
  for (const bool pipe : {true, false})
    add(pipe ? "full-pipe" : "full-eventfd",
        fmt::format("hands the broker ends of {} with its requests", pipe ? "a full pipe" : "a full eventfd"),
        "no descriptor of a client is taken", {"others are answered"},
        [pipe](const Ground& ground) { return full_end(ground, pipe); });
  add("full-socket", "asks without end and reads no answer", "queues are bounded, sends never block",
      {"cut off; others are answered", "held back; others are answered"}, full_socket);
  add("silent-connections", "connects many times and says nothing", "bounded by number and time",
      {"others are answered"}, silent_connections);
  add("record-word-flips", "a record word changes for ever while others read", "512 attempts",
      {"every read ends"}, [](const Ground& ground) { return flipping(ground, false); });
  add("record-word-busy", "a record stays busy for ever", "512 attempts", {"every read ends"},
      [](const Ground& ground) { return flipping(ground, true); });
  const std::vector<std::string> quota{"quota exceeded, by the broker"};
  auto add_use_up = [&](const std::string& name, std::string what, std::string mechanism,
                        std::function<Came(const Ground&)> act) {
    add("use-up/" + name, std::move(what), std::move(mechanism), quota, std::move(act));
  };
  const std::string of_grant = "quota of a grant";
  add_use_up("sessions", "opens a region in session after session", of_grant, use_up_sessions);
  add_use_up("segments", "takes segment after segment", of_grant,
             [](const Ground& ground) { return use_up_as(ground, "alice", "segments = 2", 100, segment); });
  add_use_up(
      "bytes", "takes more bytes than a writer of the region may", "quota of a region",
      [](const Ground& ground) { return use_up_as(ground, "alice", "", 100, segment, "quota = \"4MiB\""); });
  add_use_up("region", "takes all bytes of a region", "the region's size",
             [](const Ground& ground) { return use_up_as(ground, "alice", "", 100, segment); });
  add_use_up("requests", "asks as often as it can", of_grant, [](const Ground& ground) {
    return use_up_as(ground, "bob", "requests_per_second = 50", 10'000, request);
  });
  add_use_up("grant-words", "opens a region again and again", "bounded for a session",
             [](const Ground& ground) { return use_up_as(ground, "bob", "", 100'000, grant_word); });
  add_use_up("writer-ids", "asks for writer ids again and again", "one a minute",
             [](const Ground& ground) { return use_up_as(ground, "alice", "", 100'000, writer_id); });
  add_use_up("connections", "a uid without a grant opens session after session", "bounded for a uid",
             use_up_connections);
  add("use-up/descriptors", "asks for descriptors and takes none", "cut off where 32 are under way",
      {"closed, by the peer"}, use_up_descriptors);

  auto add_canary = [&](const std::string& name, std::string what, std::function<Came(const Ground&)> act) {
    attacks.push_back({.name = "canary/" + name,
                       .what = std::move(what),
                       .rung = "none",
                       .mechanism = "nothing",
                       .expected = {},
                       .known = {},
                       .act = std::move(act)});
  };
  add_canary("futex-requeue", "a reader moves a process that sleeps in shared memory",
             futex_requeue_of_a_sleeper);
  add_canary("full-pipe", "a process writes to a full pipe that its peer gave it",
             [](const Ground& ground) { return full_end_of_a_teller(ground, true); });
  add_canary("full-eventfd", "a process writes to a full eventfd that its peer gave it",
             [](const Ground& ground) { return full_end_of_a_teller(ground, false); });
  add_canary("record-word-busy", "a reader waits for a record that stays busy", flipping_before_a_waiter);
  add_canary("use-up-requests", "asks as often as it can, with a grant that has no quota",
             [](const Ground& ground) { return use_up_as(ground, "bob", "", 2000, request); });
}

}  // namespace bailey::attack
