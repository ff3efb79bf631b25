// A peer that may write the index and its own segments, and writes what it likes. It can spoil its own data
// and hide ours; it can't crash us, hang us, or make us believe a record that is not the key's.
//
// Values carry their key, so that a value under a wrong key is noticed.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <random>

#include "bailey/base/clock.h"
#include "bailey/table/history_client.h"
#include "bailey/table/home.h"
#include "bailey/table/record.h"

namespace bailey::table {
namespace {

using medium::load_acquire;
using medium::store_release;

constexpr std::uint64_t keys = 40;
// Far beyond what attempts_max attempts take, far below a hang; the machine may be busy and the build
// instrumented.
constexpr std::uint64_t operation_ns_max = 3'000'000'000;

std::string key_of(std::uint64_t key) { return "key" + std::to_string(key); }
std::string value_of(std::uint64_t key, std::size_t bytes = 300) {
  std::string value = key_of(key) + "=";
  while (value.size() < bytes) value += static_cast<char>('a' + (value.size() * 7 + key) % 26);
  return value;
}

class Hostile : public ::testing::TestWithParam<Mode> {
 protected:
  // One chain of several buckets, so that there are links to spoil.
  Hostile()
      : stage_(
            {.mode = GetParam(),
             .processes = 1,
             .operations_max = 1,
             .keys = keys,
             .segments = 8,
             .segment_bytes = 512 << 10,
             .geometry = Geometry{.mode = GetParam(), .hash_seed = 3, .buckets = 2, .overflow_buckets = 16}}),
        writer_(open(true)),
        reader_(open(false)) {
    for (std::uint64_t key = 0; key < keys; ++key) EXPECT_TRUE(writer_.put(key_of(key), value_of(key)));
  }

  Table open(bool writable) {
    return Stage::must(Table::open(Stage::must(stage_.pool->view(writable)), stage_.geometry));
  }
  Home home(std::uint64_t key) const { return home_of(key_of(key), stage_.geometry); }
  Index index() { return Index(stage_.pool->index().data(), stage_.geometry); }
  Word* slot(std::uint64_t key) {
    const Index at = index();
    for (Walk walk(at, home(key).bucket); walk.slot() != nullptr; walk.next())
      if (tag_of(*walk.slot()) == home(key).tag) return walk.slot();
    return nullptr;
  }
  std::byte* record(Word slot_value) {
    auto view = Stage::must(stage_.pool->view(false));
    return (*Stage::must(view->find(segment_of(slot_value)))).base + offset_of(slot_value);
  }
  Word* page_word(Word slot_value) {
    auto view = Stage::must(stage_.pool->view(false));
    const pool::Extent extent = *Stage::must(view->find(segment_of(slot_value)));
    return page_words(extent) + ((offset_of(slot_value) - extent.data_offset) >> BAILEY_PAGE_SHIFT);
  }

  // A get by one who never wrote, and its bound in time. ok: the value is the key's.
  Code get(std::uint64_t key) {
    std::string value;
    const std::uint64_t start_ns = monotonic_ns();
    const Result<Found> found = reader_.get(key_of(key), value);
    EXPECT_LT(monotonic_ns() - start_ns, operation_ns_max);
    if (!found) return found.error().code;
    EXPECT_TRUE(value.starts_with(key_of(key) + "=")) << key << " has the value " << value.substr(0, 20);
    return Code{};
  }

  Stage stage_;
  Table writer_, reader_;
};

TEST_P(Hostile, AHealthyTableIsRead) {
  for (std::uint64_t key = 0; key < keys; ++key) EXPECT_EQ(get(key), Code{});
}

TEST_P(Hostile, BucketsInACircle) {
  for (std::uint64_t bucket = 0; bucket < 2; ++bucket) {
    bailey_bucket* first = index().primary(bucket);
    bailey_bucket* last = first;
    while (bailey_bucket* next = index().follow(last->link)) last = next;
    ASSERT_NE(first, last) << "no chain to spoil";
    store_release(&last->link, first->link);
  }
  // What stands before the circle is found; what is not there is not looked for without end.
  for (std::uint64_t key = 0; key < keys; ++key) EXPECT_EQ(get(key), Code{});
  for (std::uint64_t key = 1000; key < 1010; ++key) EXPECT_EQ(get(key), Code::corrupt);
  auto written = writer_.insert(key_of(1000), "new");
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, Code::corrupt) << written.error().to_string();
  Cursor cursor;
  std::vector<Item> items;
  const Status scanned = reader_.scan(cursor, 1000, items);
  ASSERT_FALSE(scanned);
  EXPECT_EQ(scanned.error().code, Code::corrupt);
}

TEST_P(Hostile, ALinkOutOfTheIndex) {
  for (Word link : {Word{17}, Word{1} << 32, ~Word{0}}) {
    for (std::uint64_t bucket = 0; bucket < 2; ++bucket) store_release(&index().primary(bucket)->link, link);
    for (std::uint64_t key = 1000; key < 1010; ++key) EXPECT_EQ(get(key), Code::corrupt) << link;
    auto written = writer_.insert(key_of(1000), "new");
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code, Code::corrupt);
  }
}

TEST_P(Hostile, SlotsThatLeadNowhere) {
  for (std::uint64_t key = 0; key < keys; ++key) {
    Word* at = slot(key);
    ASSERT_NE(at, nullptr);
    const Word good = *at;
    const Word tag = good & ~slot_place_mask;
    const auto segment = segment_of(good);
    const Word forged[] = {
        tag | make_slot(0, segment, 0),                           // the segment's header
        tag | make_slot(0, segment, BAILEY_SEGMENT_DESK_OFFSET),  // the desk
        tag | make_slot(0, segment, (512 << 10) - 16),            // the last bytes
        tag | make_slot(0, segment, 512 << 10),                   // one past the end
        tag | (Word{segment} << BAILEY_SLOT_SEGMENT_SHIFT) | 0xffff'ffff,
        tag | make_slot(0, 0, offset_of(good)),             // segment 0 is none
        tag | make_slot(0, 8, offset_of(good)),             // not in use
        tag | make_slot(0, 65535, offset_of(good)),         // beyond the pool
        tag | make_slot(0, segment, offset_of(good) + 16),  // within a block
        tag,
    };
    for (Word bad : forged) {
      store_release(at, bad);
      // A place in a page without records could be a slot that is about to change, so it is tried again, with
      // a bound.
      const bool free_page = bad == forged[2];
      const Code refusal = free_page ? Code::contended : Code::not_found;
      EXPECT_EQ(get(key), refusal) << std::hex << bad;
      // A writer survives it too, and is not led to write there.
      auto written = writer_.update(key_of(key), "x");
      ASSERT_FALSE(written) << std::hex << bad;
      EXPECT_EQ(written.error().code, refusal) << std::hex << bad;
    }
    store_release(at, good);
    EXPECT_EQ(get(key), Code{});
  }
  EXPECT_GT(reader_.counters().forged_entries, keys);
}

TEST_P(Hostile, SlotsThatLeadToOtherKeysRecords) {
  for (std::uint64_t key = 0; key < keys; ++key) {
    Word* at = slot(key);
    const Word good = *at;
    for (std::uint64_t other = 0; other < keys; ++other) {
      if (other == key) continue;
      store_release(at, (good & ~slot_place_mask) | place_of(*slot(other)));
      EXPECT_EQ(get(key), Code::not_found);
    }
    store_release(at, good);
  }
}

TEST_P(Hostile, LengthsOutOfTheBlock) {
  for (std::uint64_t key = 0; key < keys; ++key) {
    auto* words = reinterpret_cast<Word*>(record(*slot(key)));
    const Word good = words[1];
    for (Word lengths : {~Word{0}, make_lengths(4, 0xffff'ffff), make_lengths(0xffff, 10),
                         make_lengths(4, 5000), make_lengths(4096, 0), make_lengths(4, value_bytes_max)}) {
      store_release(words + 1, lengths);
      EXPECT_EQ(get(key), Code::not_found);
      EXPECT_FALSE(writer_.update(key_of(key), "x"));
    }
    store_release(words + 1, good);
    EXPECT_EQ(get(key), Code{});
  }
}

TEST_P(Hostile, PageWordsThatLie) {
  Word* word = page_word(*slot(0));
  const Word good = *word;
  for (Word bad : {Word{0}, ~Word{0}, good ^ (Word{1} << BAILEY_PAGE_WORD_CLASS_SHIFT),
                   make_page_word(9, BAILEY_CLASS_RUN, 0), make_page_word(9, BAILEY_CLASS_RUN, 0xffff),
                   make_page_word(9, class_count + 1, 0), make_page_word(9, 200, 0)}) {
    store_release(word, bad);
    for (std::uint64_t key = 0; key < keys; ++key) {
      const Code code = get(key);
      EXPECT_TRUE(code == Code{} || code == Code::not_found || code == Code::contended) << name(code);
    }
  }
  store_release(word, good);
  for (std::uint64_t key = 0; key < keys; ++key) EXPECT_EQ(get(key), Code{});
}

// A record that is busy for ever, with a peer that does it on purpose or one that died: bounded either way.
TEST_P(Hostile, ARecordWordThatStaysBusy) {
  for (std::uint64_t key = 0; key < 4; ++key) {
    auto* words = reinterpret_cast<Word*>(record(*slot(key)));
    const Word good = *words;
    for (Word busy_word : {good | 1, Word{0}, Word{1}}) {
      store_release(words, busy_word);
      EXPECT_EQ(get(key), Code::contended);
      auto written = writer_.put(key_of(key), "x");
      ASSERT_FALSE(written);
      EXPECT_EQ(written.error().code, Code::contended);
    }
    store_release(words, good);
    EXPECT_EQ(get(key), Code{});
  }
}

// Runs `body` again and again in a child until the parent is done with `meanwhile`.
void beside(const std::function<void()>& body, const std::function<void()>& meanwhile) {
  const pid_t child = spawn([&] {
    while (true) body();
  });
  meanwhile();
  kill(child, SIGKILL);
  EXPECT_EQ(wait_for(child).signal, SIGKILL);
}

TEST_P(Hostile, ARecordWordThatFlipsForEver) {
  auto* words = reinterpret_cast<Word*>(record(*slot(0)));
  const Word good = *words;
  std::size_t done = 0;
  beside(
      [&] {
        store_release(words, good | 1);
        store_release(words, good);
      },
      [&] {
        for (unsigned i = 0; i < 2000; ++i) {
          const Code code = get(0);
          EXPECT_TRUE(code == Code{} || code == Code::contended) << name(code);
          const Code other = get(1);
          EXPECT_EQ(other, Code{});
          auto written = writer_.put_if_version(key_of(0), "x", 77);
          ASSERT_FALSE(written);
          EXPECT_TRUE(written.error().code == Code::version_mismatch ||
                      written.error().code == Code::contended);
          ++done;
        }
      });
  EXPECT_EQ(done, 2000u);
}

TEST_P(Hostile, ASlotThatFlipsForEver) {
  Word* at = slot(0);
  const Word good = *at;
  const Word other = (good & ~slot_place_mask) | place_of(*slot(1));
  beside(
      [&] {
        store_release(at, other);
        store_release(at, good);
      },
      [&] {
        for (unsigned i = 0; i < 5000; ++i) {
          const Code code = get(0);
          EXPECT_TRUE(code == Code{} || code == Code::contended || code == Code::not_found) << name(code);
        }
      });
}

// Desks and hints are a peer's word too: announcements of everything keep blocks from being used again, no
// more.
TEST_P(Hostile, DesksFullOfLies) {
  Table peer = open(GetParam() == Mode::shared);
  if (GetParam() == Mode::shared) {
    ASSERT_TRUE(peer.put("peer", "x"));
  }
  std::mt19937_64 random(5);
  for (unsigned segment = 1; segment <= 8; ++segment) {
    auto view = Stage::must(stage_.pool->view(false));
    auto extent = view->find(static_cast<pool::SegmentId>(segment));
    if (!extent) continue;
    if (writer_.view().extent(static_cast<pool::SegmentId>(segment)).base == (*extent)->base && segment == 1)
      continue;
    auto* desk = reinterpret_cast<bailey_desk*>((*extent)->base + BAILEY_SEGMENT_DESK_OFFSET);
    for (auto& announced : desk->announced) store_release(&announced, random());
    for (auto& hint : desk->hints)
      store_release(&hint, random() % 4 == 0 ? *slot(random() % keys) : random());
    store_release(&desk->hints_head, random());
  }
  for (unsigned round = 0; round < 3000; ++round) {
    const std::uint64_t key = round % keys;
    auto written = writer_.put(key_of(key), value_of(key, 100 + round % 900));
    EXPECT_TRUE(written) << written.error().to_string();
    EXPECT_EQ(get(key), Code{});
  }
  EXPECT_TRUE(writer_.maintain());
  for (std::uint64_t key = 0; key < keys; ++key) EXPECT_EQ(get(key), Code{}) << key;
}

// ---- bytes at random

// Everything that peers could write is spoiled at random while processes read and write. They may say what
// they like, but they come back each time, and never with a value that is not the key's. Spoiled are index
// and pages, not what only the broker writes (the pool's own header).
class HostileRandom : public Hostile {};

TEST_P(HostileRandom, BytesFlippedWhileOthersWork) {
  struct Seen {
    std::atomic<std::uint64_t> reads, whole, wrong;
  };
  auto memory = Stage::must(Mapping::anonymous(3 * sizeof(Seen)));
  auto* seen = reinterpret_cast<Seen*>(memory.data());
  std::vector<pid_t> children;
  for (unsigned process = 0; process < 3; ++process) {
    children.push_back(spawn(
        [&, process] {
          const bool writes = process == 2;
          Table table = open(writes);
          std::mt19937_64 random(process);
          std::string value;
          while (stage_.shared().stop == 0) {
            const std::uint64_t key = random() % keys;
            // What a bounded operation is: the child's own alarm ends a hang, and the parent sees it.
            if (writes && random() % 4 == 0) {
              alarm(20);
              if (random() % 8 == 0) {
                (void)table.erase(key_of(key));
              } else {
                (void)table.put(key_of(key), value_of(key));
              }
              if (random() % 200 == 0) (void)table.maintain();
            }
            alarm(20);
            ++seen[process].reads;
            if (random() % 64 == 0) {
              Cursor cursor;
              std::vector<Item> items;
              (void)table.scan(cursor, 1000, items);
              continue;
            }
            const auto found = table.get(key_of(key), value);
            if (!found) continue;
            // A flipped byte of the value itself is the owner's right; the key it was stored under is not
            // ours to find elsewhere.
            if (value == value_of(key)) {
              ++seen[process].whole;
            } else {
              for (std::uint64_t other = 0; other < keys; ++other)
                if (other != key && value == value_of(other)) ++seen[process].wrong;
            }
          }
        },
        120));
  }
  std::mt19937_64 random(2026);
  const MutableBytes whole_index = stage_.pool->index();
  const auto memory_from = static_cast<std::size_t>(whole_index.data() - stage_.memory.data());
  Table repair = open(true);
  const std::uint64_t until_ns = monotonic_ns() + 4'000'000'000;
  std::uint64_t flips = 0;
  while (monotonic_ns() < until_ns) {
    // Mostly words that decide something: slots, links, page and record words; else any byte.
    if (random() % 2 == 0) {
      auto* words = reinterpret_cast<Word*>(whole_index.data() + BAILEY_INDEX_BUCKETS_OFFSET);
      const std::size_t place = random() % (18 * 8);
      const Word old = load_acquire(words + place);
      store_release(words + place, random() % 3 == 0 ? random() : old ^ (Word{1} << random() % 64));
    } else {
      const std::size_t at = memory_from + random() % (stage_.memory.size() - memory_from);
      auto* byte = reinterpret_cast<std::uint8_t*>(stage_.memory.data() + at);
      __atomic_store_n(byte, static_cast<std::uint8_t>(random()), __ATOMIC_RELAXED);
    }
    ++flips;
    // Sometimes the table is whole again for a while, or there would be nothing left to read.
    if (flips % 200 == 0) {
      std::fill(whole_index.begin() + BAILEY_INDEX_BUCKETS_OFFSET, whole_index.end(), std::byte{0});
      for (std::uint64_t key = 0; key < keys; ++key) (void)repair.put(key_of(key), value_of(key));
    }
  }
  stage_.shared().stop = 1;
  for (pid_t child : children) {
    const Ended ended = wait_for(child);
    EXPECT_TRUE(ended.well()) << "signal " << ended.signal << ", exit code " << ended.code;
  }
  for (unsigned process = 0; process < 3; ++process) {
    EXPECT_GT(seen[process].reads, 1000u);
    EXPECT_GT(seen[process].whole, 10u) << "hardly anything was there to read";
    EXPECT_EQ(seen[process].wrong, 0u);
  }
  RecordProperty("flips", std::to_string(flips));
  RecordProperty("whole", std::to_string(seen[0].whole));
}

std::string mode_name(const ::testing::TestParamInfo<Mode>& chosen) {
  return chosen.param == Mode::shared ? "Shared" : "Exclusive";
}
INSTANTIATE_TEST_SUITE_P(Modes, Hostile, ::testing::Values(Mode::shared, Mode::exclusive), mode_name);
INSTANTIATE_TEST_SUITE_P(Modes, HostileRandom, ::testing::Values(Mode::shared), mode_name);

}  // namespace
}  // namespace bailey::table
