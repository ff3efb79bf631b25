// Bounds: offsets, lengths and numbers at every edge, in messages and in shared words.
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "attack/attack.h"
#include "attack/edges.h"
#include "attack/house.h"
#include "bailey/table/home.h"
#include "bailey/table/record.h"

namespace bailey::attack {
namespace {

// ---- in messages

// The broker answers each with an error, or ends that connection; it lives, and gives nothing.
Came numbers_in_messages(const Ground& ground) {
  House house(ground.folder);
  house.serve(house.policy("shared"));
  broker::Client alice = house.client("alice");
  const auto hers = must(alice.open("orders", true));
  unsigned asked = 0;
  for (const std::uint64_t edge : edges) {
    const auto number = static_cast<std::uint32_t>(edge);
    const auto segment = static_cast<std::uint16_t>(edge);
    const protocol::Body bodies[] = {protocol::CreateSegment{number == hers.grant ? ~0u : number, 100},
                                     protocol::SegmentMapped{hers.grant, segment},
                                     protocol::RetireSegment{hers.grant, segment},
                                     protocol::IndexMapped{number == hers.grant ? ~0u : number},
                                     protocol::FreshWriter{number == hers.grant ? ~0u : number}};
    for (const protocol::Body& body : bodies) {
      broker::Client& client = alice;
      ++asked;
      if (!client.send(body)) {
        alice = house.client("alice");
        continue;
      }
      auto answered = client.receive<protocol::SegmentCreated>();
      if (answered || !client.fds.empty()) return Came::through(fmt::format("a file for number {}", edge));
      if (answered.error().by != By::broker) return Came::through(answered.error().to_string());
    }
  }
  return house.client("alice").status() ? Came::stopped("refused, each")
                                        : Came::through(fmt::format("no broker after {} requests", asked));
}

// A segment for a record of so many bytes: none, or one of the region's size at most.
Came record_bytes(const Ground& ground) {
  House house(ground.folder);
  house.serve(house.policy("shared"));
  for (const std::uint64_t edge : edges) {
    broker::Client alice = house.client("alice");
    const auto hers = must(alice.open("orders", true));
    auto created = alice.ask<protocol::SegmentCreated>(protocol::CreateSegment{hers.grant, edge});
    if (created && created->row.bytes > (16u << 20))
      return Came::through(fmt::format("{} bytes for a record of {}", created->row.bytes, edge));
    if (!created && created.error().by == By::kernel) return Came::through(created.error().to_string());
  }
  return house.client("alice").status() ? Came::stopped("within the region") : Came::through("no broker");
}

// Every byte of a request that is cut, flipped or doubled in length.
Came damaged_requests(const Ground& ground) {
  House house(ground.folder);
  house.serve(house.policy("shared"));
  const std::string whole =
      must(protocol::encode(protocol::Request{1, protocol::OpenRegion{"orders", true}}));
  for (std::size_t at = 0; at < whole.size(); ++at)
    for (const bool cut : {true, false}) {
      std::string bytes = cut ? whole.substr(0, at) : whole;
      if (!cut) bytes[at] = static_cast<char>(bytes[at] ^ 0x80);
      if (bytes.empty()) continue;
      broker::Client bob = house.client("bob");
      if (!bob.connection.send(as_bytes(bytes), broker::in_10_s())) continue;
      auto opened = bob.receive<protocol::Opened>();
      if (opened) return Came::through("a reader has it open for writing");
    }
  return house.client("alice").status() ? Came::stopped("refused, each") : Came::through("no broker");
}

// ---- in shared words

// What a reader comes to while the stage writes. It ends by itself, with 0 where it got nothing that it must
// not.
Came while_written(broker::Process& reader, const std::function<void()>& writes) {
  std::atomic<bool> over = false;
  std::thread writer([&] {
    while (!over) writes();
  });
  const int status = reader.wait();
  over = true;
  writer.join();
  if (status == 0) return Came::stopped("every read ends, within bounds");
  if (status > 1000) return Came::through(fmt::format("SIG{}", ::sigabbrev_np(status - 1000)));
  return Came::through(fmt::format("a reader took what it must not (status {})", status));
}

constexpr std::uint64_t reads_ns = 300'000'000;  // long enough for the writer's thread to begin

// What a hostile writer of a shared table has mapped, and a reader of it.
struct Words {
  explicit Words(const Ground& ground) : house(ground.folder) {
    house.serve(house.policy("shared"));
    alice.emplace(house.client("alice"));
    const auto opened = must(alice->open("orders", true));
    row = must(alice->create(opened.grant));
    shape = pool::Extent::shape(row.bytes);
    geometry.mode = table::Mode::shared;
    geometry.hash_seed = opened.hash_seed;
    geometry.buckets = opened.buckets;
    geometry.overflow_buckets = opened.overflow_buckets;
    home = table::home_of("key", geometry);
    bucket =
        reinterpret_cast<bailey_bucket*>(alice->index.data() + BAILEY_INDEX_BUCKETS_OFFSET) + home.bucket;
    *word(BAILEY_SEGMENT_PAGE_WORDS_OFFSET) = table::make_page_word(1, 1, 0);
    lengths = word(shape.data_offset + 8);
    *lengths = table::make_lengths(3, 5);
    std::memcpy(word(shape.data_offset + 16), "key", 3);
    std::memcpy(word(shape.data_offset + 24), "value", 5);
    *word(shape.data_offset) = table::record_word(1);
    slot(row.segment, shape.data_offset);
  }
  std::uint64_t* word(std::uint64_t offset) {
    return reinterpret_cast<std::uint64_t*>(alice->segment.data() + offset);
  }
  void slot(std::uint64_t segment, std::uint64_t offset) {
    bucket->slots[0] = home.tag << BAILEY_SLOT_TAG_SHIFT | (segment & 0xffff) << BAILEY_SLOT_SEGMENT_SHIFT |
                       ((offset / BAILEY_BLOCK_UNIT) & 0xffff'ffff);
  }
  // In a process of its own, so that a crash is seen: a session that reads the key for `reads_ns`, while
  // the stage does what it does. What it got is the value, or an error that it may meet.
  Came read(const std::function<void()>& meanwhile) {
    broker::Words ready;
    broker::Process reader([&] {
      Session bob = house.session("bob");
      auto table = must(bob.open_table("orders", bailey::Access::read_only));
      std::string value;
      if (!table.get("key", value) || value != "value") return 3;
      ready.say();
      for (const std::uint64_t until = monotonic_ns() + reads_ns; monotonic_ns() < until;) {
        auto got = table.get("key", value);
        if (got && value.size() > table::value_bytes_max) return 4;
        if (!got && got.error().code != Code::not_found && got.error().code != Code::contended &&
            got.error().code != Code::too_large && got.error().code != Code::corrupt)
          return 5;
      }
      return 0;
    });
    if (ready.hear() != 'x') return Came::broken("a reader can't read what is well formed");
    return while_written(reader, meanwhile);
  }

  House house;
  std::optional<broker::Client> alice;
  protocol::SegmentRow row;
  pool::Extent shape;
  table::Geometry geometry;
  table::Home home;
  bailey_bucket* bucket = nullptr;
  std::uint64_t* lengths = nullptr;
};

Came slots(const Ground& ground) {
  Words words(ground);
  std::size_t at = 0;
  return words.read([&] {
    const std::uint64_t edge = edges[at++ % std::size(edges)];
    words.slot(words.row.segment, edge);
    words.slot(words.row.segment, words.row.bytes - edge);
    words.slot(edge, words.shape.data_offset);
    words.slot(words.row.segment, words.shape.data_offset);
  });
}
Came lengths(const Ground& ground) {
  Words words(ground);
  std::size_t at = 0;
  return words.read([&] {
    const std::uint64_t edge = edges[at++ % std::size(edges)];
    for (const std::uint64_t lie :
         {edge << (at % 3 * 16), table::make_lengths(3, edge), table::make_lengths(edge, 5)})
      __atomic_store_n(words.lengths, lie, __ATOMIC_RELAXED);
  });
}
// The length that is checked and the length that is used, if they were loaded twice.
Came length_changes(const Ground& ground) {
  Words words(ground);
  return words.read([&] {
    __atomic_store_n(words.lengths, table::make_lengths(3, 5), __ATOMIC_RELAXED);
    __atomic_store_n(words.lengths, table::make_lengths(3, 0xffff'ffff), __ATOMIC_RELAXED);
  });
}
Came page_words(const Ground& ground) {
  Words words(ground);
  std::size_t at = 0;
  return words.read([&] {
    std::uint64_t* const word = words.word(BAILEY_SEGMENT_PAGE_WORDS_OFFSET);
    const std::uint64_t edge = edges[at++ % std::size(edges)];
    __atomic_store_n(word, table::make_page_word(edge, edge & 0xff, edge & 0xffff), __ATOMIC_RELAXED);
    __atomic_store_n(word, table::make_page_word(1, BAILEY_CLASS_RUN, 0xffff), __ATOMIC_RELAXED);
    __atomic_store_n(word, table::make_page_word(1, 1, 0), __ATOMIC_RELAXED);
  });
}
// All bytes that a writer may write: its segment, and the index of a shared table.
Came scribble(const Ground& ground, bool index) {
  Words words(ground);
  const MutableBytes all = index ? words.alice->index.span() : words.alice->segment.span();
  std::uint64_t state = 0x9e37'79b9'7f4a'7c15;
  return words.read([&] {
    for (int i = 0; i < 4096; ++i) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      reinterpret_cast<std::uint64_t*>(all.data())[state % (all.size() / 8)] = state * 0x2545'f491'4f6c'dd1d;
    }
    words.slot(words.row.segment, words.shape.data_offset);
  });
}

// ---- unprotected

// One that believes what it loads: a page that others write, and one of its own before a hole.
struct Believer {
  Believer()
      : shared(static_cast<std::uint64_t*>(pages(PROT_READ | PROT_WRITE))),
        own(static_cast<std::byte*>(pages(PROT_READ | PROT_WRITE))) {
    must(::mprotect(own + page, page, PROT_NONE) == 0, "hole");
  }
  static void* pages(int protection) {
    void* at = ::mmap(nullptr, 2 * page, protection, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(at != MAP_FAILED, "pages");
    return at;
  }
  static constexpr std::size_t page = 4096, room = 64;
  static constexpr std::uint64_t ns = 5'000'000'000;  // for which it reads
  std::uint64_t* shared;
  std::byte* own;
};
Came length_is_believed(const Ground&) {
  const Believer believer;
  broker::Process reader([&] {
    for (std::uint64_t until = monotonic_ns() + Believer::ns; monotonic_ns() < until;) {
      if (__atomic_load_n(believer.shared, __ATOMIC_RELAXED) > Believer::room) continue;
      ::sched_yield();
      std::memcpy(believer.own + Believer::page - Believer::room, believer.shared + 1,
                  __atomic_load_n(believer.shared, __ATOMIC_RELAXED));
    }
    return 0;
  });
  return while_written(reader, [&] {
    __atomic_store_n(believer.shared, Believer::room, __ATOMIC_RELAXED);
    __atomic_store_n(believer.shared, Believer::room + 1, __ATOMIC_RELAXED);
  });
}
Came offset_is_believed(const Ground&) {
  const Believer believer;
  broker::Process reader([&] {
    for (std::uint64_t until = monotonic_ns() + Believer::ns; monotonic_ns() < until;)
      static_cast<void>(
          *reinterpret_cast<volatile std::byte*>(reinterpret_cast<std::uintptr_t>(believer.own) +
                                                 __atomic_load_n(believer.shared, __ATOMIC_RELAXED)));
    return 0;
  });
  std::size_t at = 0;
  return while_written(
      reader, [&] { __atomic_store_n(believer.shared, edges[at++ % std::size(edges)], __ATOMIC_RELAXED); });
}

}  // namespace

void add_bounds(Attacks& attacks) {
  const Group add{attacks, "bounds"};
  add("messages/numbers", "grants and segments at every edge, in requests", "decoded into checked values",
      "refused, each", numbers_in_messages);
  add("messages/record-bytes", "segments for records of sizes at every edge", "bounded by the region",
      "within the region", record_bytes);
  add("messages/damaged", "a reader's request cut and flipped at every byte", "decoded into checked values",
      "refused, each", damaged_requests);
  const std::string fine = "every read ends, within bounds";
  add("words/slots", "slots that lead to every edge of segments and numbers", "checked before use", fine,
      slots);
  add("words/lengths", "lengths of a record at every edge", "checked against the block", fine, lengths);
  add("words/length-changes", "a length changes between check and use", "fetched once", fine, length_changes);
  add("words/page-words", "page words of every class and run", "checked against the segment", fine,
      page_words);
  add("words/scribble-segment", "a writer scribbles over its segment while others read", "all of it checked",
      fine, [](const Ground& ground) { return scribble(ground, false); });
  add("words/scribble-index", "the holder of a shared index scribbles over it", "all of it checked", fine,
      [](const Ground& ground) { return scribble(ground, true); });

  auto add_canary = [&](const std::string& name, std::string what, Came (*act)(const Ground&)) {
    attacks.push_back({.name = "canary/" + name,
                       .what = std::move(what),
                       .rung = "none",
                       .mechanism = "nothing",
                       .expected = {},
                       .known = {},
                       .act = act});
  };
  add_canary("length-changes", "a reader checks a length, and loads it again to copy", length_is_believed);
  add_canary("offsets", "a reader uses offsets as it loads them", offset_is_believed);
}

}  // namespace bailey::attack
