// Client after client comes, puts a few records and is killed in the middle of a put: what they leave fills
// nothing.
#include <deque>
#include <random>

#include "bailey/base/long_form.h"
#include "bailey/table/history_client.h"
#include "tools/bailey/janitor.h"
#include "tools/e2e/house.h"

namespace bailey::e2e {
namespace {

using pool::Step;

class Crowd : public House {
 protected:
  static constexpr unsigned at_once = 4;
  static constexpr int shared_keys = 50, own_keys = 4, own_names = 100;

  // A key that others have too, then a new one, and so on; killed in one of these puts.
  int put_and_die(unsigned number) const {
    std::mt19937 random(number);
    auto session = this->session("alice");
    if (!session) return told(session.error());
    auto table = session->open_table("orders", Access::read_write);
    if (!table) return told(table.error());
    static constexpr Step steps[] = {Step::slot_loaded, Step::record_written, Step::before_publish,
                                     Step::published};
    table::StopAt hook(steps[number % 4], SIGKILL, random() % (3 * own_keys));
    table->view().set_hook(&hook);
    for (int i = 0;; i = (i + 1) % own_keys) {
      const std::string value(100 + random() % 3000, static_cast<char>('a' + i));
      for (const std::string& key :
           {fmt::format("all{}", random() % shared_keys), fmt::format("own{}.{}", number % own_names, i)})
        if (auto put = table->put(key, value); !put) return told(put.error());
    }
  }
  static int told(const Error& error) {
    fmt::print(stderr, "client: {}\n", error.to_string());
    return 1;
  }

  // How many records of 4 KiB go in until there is no room; they are taken out again.
  unsigned room(const std::string& name) const {
    auto alice = session("alice").value();
    auto table = alice.open_table("orders", Access::read_write).value();
    const std::string value(4096, 'r');
    unsigned count = 0;
    for (;; ++count) {
      auto put = table.put(fmt::format("{}{}", name, count), value);
      if (put) continue;
      EXPECT_EQ(put.error().code, Code::quota) << put.error().to_string();
      break;
    }
    for (unsigned i = 0; i < count; ++i) EXPECT_TRUE(table.erase(fmt::format("{}{}", name, i)));
    return count;
  }
};

TEST_F(Crowd, OfAThousandClientsThatPutAndAreKilledNeverFillsTheTable) {
  const unsigned clients = long_form() ? 20'000 : 1000;
  serve(policy("shared", true, "16MiB"), tools::run_janitor, 300);
  const unsigned before = room("before");
  ASSERT_GT(before, 500u);
  const std::uint64_t start_ns = monotonic_ns();
  std::deque<std::unique_ptr<Process>> alive;
  for (unsigned number = 0; number < clients + at_once; ++number) {
    if (number < clients)
      alive.push_back(std::make_unique<Process>([this, number] { return put_and_die(number); }));
    if (alive.size() < at_once && number < clients) continue;
    ASSERT_EQ(alive.front()->wait(), 1000 + SIGKILL) << "client " << number;
    alive.pop_front();
    if (alive.empty()) break;
  }
  fmt::print("{} clients in {:.1f} s\n", clients, static_cast<double>(monotonic_ns() - start_ns) * 1e-9);

  // Every key that all had is there, and there is as much room as before.
  {
    auto alice = session("alice").value();
    auto table = alice.open_table("orders", Access::read_write).value();
    std::vector<table::Item> items;
    for (table::Cursor cursor; !cursor.done;) ASSERT_TRUE(table.scan(cursor, 1000, items));
    unsigned shared = 0;
    for (const table::Item& item : items) {
      shared += item.key.starts_with("all") ? 1 : 0;
      EXPECT_TRUE(
          std::all_of(item.value.begin(), item.value.end(), [&](char c) { return c == item.value[0]; }));
      ASSERT_TRUE(table.erase(item.key));
    }
    EXPECT_EQ(shared, static_cast<unsigned>(shared_keys));
    EXPECT_LE(items.size(), static_cast<std::size_t>(shared_keys + own_names * own_keys));
  }
  const unsigned after = room("after");
  fmt::print("room for {} records before, {} after\n", before, after);
  EXPECT_GE(after, before * 95 / 100);
}

}  // namespace
}  // namespace bailey::e2e
