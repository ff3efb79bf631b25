// Threads over one plain buffer, each with its own Table: the whole protocol under the thread sanitizer,
// which sees an access that is not atomic where two threads may meet. Without the sanitizer it is a torture
// test of values.
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <random>
#include <thread>

#include "bailey/base/fd.h"
#include "bailey/pool/plain.h"
#include "bailey/table/table.h"

namespace bailey::table {
namespace {

constexpr int keys = 64;

// A value tells its key and is the same byte all through, so that a mix of two values is noticed.
std::string value_of(int key, std::uint64_t seed) {
  std::string value = std::to_string(key) + ":";
  value.append(20 + seed % 700, static_cast<char>('a' + seed % 26));
  return value;
}
bool whole(int key, std::string_view value) {
  std::string prefix = std::to_string(key) + ":";
  if (!value.starts_with(prefix) || value.size() < prefix.size() + 20) return false;
  return value.find_first_not_of(value[prefix.size()], prefix.size()) == std::string_view::npos;
}

class Threads : public testing::TestWithParam<Mode> {};
INSTANTIATE_TEST_SUITE_P(Table, Threads, testing::Values(Mode::exclusive, Mode::shared),
                         [](const auto& about) {
                           return about.param == Mode::shared ? "shared" : "exclusive";
                         });

TEST_P(Threads, SeeOnlyWholeValuesOfTheirKey) {
  Geometry geometry = Geometry::plan(GetParam(), 100, 3);
  pool::PlainOptions options;
  options.index_bytes = geometry.index_bytes();
  auto memory = Mapping::anonymous(pool::PlainPool::bytes_for(options, 24));
  ASSERT_TRUE(memory);
  auto pool = pool::PlainPool::format(memory->span(), options);
  ASSERT_TRUE(pool);
  Table::format(pool->index(), geometry);

  std::atomic<int> torn{0}, failed{0};
  std::atomic<std::uint64_t> found{0};
  std::atomic<bool> stop{false};
  const int writers_count = GetParam() == Mode::shared ? 3 : 1, readers_count = 2;
  std::latch all_ready(writers_count + readers_count);  // a writer is done sooner than a thread has started
  auto write = [&](int seed) {
    auto table = Table::open(std::move(*pool->view(true)), geometry);
    std::mt19937_64 random(static_cast<std::uint64_t>(seed));
    all_ready.arrive_and_wait();
    for (int i = 0; i < 20'000; ++i) {
      int key = static_cast<int>(random() % keys);
      std::string name = "key" + std::to_string(key);
      std::string value = value_of(key, random());
      Code code{};
      switch (random() % 4) {
        case 0:
          if (auto done = table->insert(name, value); !done) code = done.error().code;
          break;
        case 1:
          if (auto done = table->erase(name); !done) code = done.error().code;
          break;
        default:
          if (auto done = table->put(name, value); !done) code = done.error().code;
      }
      if (code != Code{} && code != Code::exists && code != Code::not_found && code != Code::contended)
        ++failed;
    }
  };
  auto read = [&](int seed) {
    auto table = Table::open(std::move(*pool->view(false)), geometry);
    std::mt19937_64 random(static_cast<std::uint64_t>(seed));
    std::string value;
    all_ready.arrive_and_wait();
    // On a busy machine the writers may do all their work while this thread does not run: the last thousand
    // reads come after it.
    bool ended = false;
    for (int i = 0; !ended || i < 1000; ++i) {
      if (!ended && stop.load(std::memory_order_relaxed)) {
        ended = true;
        i = 0;
      }
      int key = static_cast<int>(random() % keys);
      auto got = table->get("key" + std::to_string(key), value);
      if (got) found.fetch_add(1, std::memory_order_relaxed);
      if (got && !whole(key, value)) ++torn;
      if (!got && got.error().code != Code::not_found && got.error().code != Code::contended) ++failed;
    }
  };
  std::vector<std::thread> writers, readers;
  for (int i = 0; i < writers_count; ++i) writers.emplace_back(write, i);
  for (int i = 0; i < readers_count; ++i) readers.emplace_back(read, 100 + i);
  for (auto& thread : writers) thread.join();
  stop = true;
  for (auto& thread : readers) thread.join();
  EXPECT_EQ(torn, 0);
  EXPECT_EQ(failed, 0);
  EXPECT_GT(found, 0u);
}

}  // namespace
}  // namespace bailey::table
