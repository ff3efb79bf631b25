// The allocator of a living broker: who outlives whom, and what it knows.
#include <algorithm>
#include <charconv>

#include "bailey/broker/test_support.h"
#include "bailey/crypto/key_file.h"

namespace bailey::broker {
namespace {

class AllocatorDeathTest : public BrokerTest {
 protected:
  void serve_carts(const std::string& key_file = {}) {
    std::string text = "[pool]\nname = \"courtyard\"\nmedium = \"memory:256MiB\"\n";
    text += fmt::format("[principal.alice]\nidentity = [\"user:{}\"]\n", ::geteuid());
    text += region_toml("carts", "shared") + grant_toml("alice", "carts", "rw");
    serve(text, {}, {}, key_file);
    allocator_ = child_of(keeper_->pid, broker_);
    ASSERT_GT(allocator_, 0);
  }
  // Another than before.
  pid_t next_allocator() const {
    pid_t next = 0;
    wait_until([&] {
      next = child_of(keeper_->pid, broker_);
      return next != 0 && next != allocator_;
    });
    return next;
  }
  pid_t allocator_ = 0;
};

Fd watch(pid_t pid) { return Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))); }
bool is_dead(const Fd& pidfd) {
  pollfd dead{pidfd.get(), POLLIN, 0};
  return ::poll(&dead, 1, 10'000) == 1;
}

// Whether these bytes stand anywhere in the writable memory of a process.
bool knows(pid_t pid, std::string_view bytes) {
  Fd memory(::open(fmt::format("/proc/{}/mem", pid).c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(memory) << pid;
  std::ifstream maps(fmt::format("/proc/{}/maps", pid));
  for (std::string line; std::getline(maps, line);) {
    std::uint64_t from = 0, to = 0;
    const char* end = line.data() + line.size();
    const char* dash = std::from_chars(line.data(), end, from, 16).ptr;
    const char* rights = std::from_chars(dash + 1, end, to, 16).ptr + 1;
    // What is larger is a sanitizer's.
    if (rights[0] != 'r' || rights[1] != 'w' || to - from > 1 << 30) continue;
    std::string part(to - from, 0);
    if (::pread(memory.get(), part.data(), part.size(), static_cast<off_t>(from)) > 0 &&
        part.find(bytes) != part.npos)
      return true;
  }
  return false;
}

TEST_F(AllocatorDeathTest, OneThatIsKilledIsReplacedAndRequestsWaitForTheNext) {
  serve_carts();
  Client alice = client();
  auto opened = alice.open("carts", true);
  ASSERT_TRUE(opened && alice.create(opened->grant));
  ASSERT_EQ(::kill(allocator_, SIGKILL), 0);
  auto created = alice.create(opened->grant);
  ASSERT_TRUE(created) << created.error().to_string();
  pid_t next = next_allocator();
  EXPECT_NE(next, 0);
  ASSERT_EQ(::kill(next, SIGKILL), 0) << "and again";
  EXPECT_TRUE(alice.create(opened->grant));
  EXPECT_EQ((*alice.status())["broker"]["pid"], broker_) << "the broker did not die of it";
}

TEST_F(AllocatorDeathTest, ItServesTheNextBroker) {
  serve_carts();
  {
    Client alice = client();
    ASSERT_TRUE(alice.open("carts", true));
  }
  ::kill(broker_, SIGKILL);
  Result<Client> again = fail(Code::unavailable);
  wait_until([&] { return (again = Client::connect(socket_)).has_value(); });
  ASSERT_TRUE(again);
  auto opened = again->open("carts", true);
  ASSERT_TRUE(opened && again->create(opened->grant));
  broker_ = (*again->status())["broker"]["pid"].get<pid_t>();
  EXPECT_EQ(child_of(keeper_->pid, broker_), allocator_);
}

TEST_F(AllocatorDeathTest, ItDiesWithTheKeeperAndEndsWithIt) {
  serve_carts();
  Fd allocator = watch(allocator_);
  keeper_->kill(SIGKILL);
  EXPECT_TRUE(is_dead(allocator));
  keeper_->wait();
  serve_carts();
  allocator = watch(allocator_);
  keeper_->kill(SIGTERM);
  EXPECT_EQ(keeper_->wait(), 0);
  EXPECT_TRUE(is_dead(allocator));
}

// One that is started late is a fork of a keeper that knows all there is.
TEST_F(AllocatorDeathTest, NoneKnowsTheBrokersKeyOrHasAFileOfThePool) {
  if (::geteuid() != 0) GTEST_SKIP() << "the memory of a non-dumpable process is seen by root alone";
  std::string key_file = folder_ + "/broker.key";
  // Not in the process that they are forked from.
  ASSERT_EQ(Process([&] { return crypto::write_new_pair(key_file) ? 0 : 1; }).wait(), 0);
  serve_carts(key_file);
  std::string seed;
  {
    auto secret = crypto::read_secret_key(key_file)->seed();
    ASSERT_TRUE(secret);
    auto bytes = secret->span();
    seed.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  Client alice = client();
  auto opened = alice.open("carts", true);
  ASSERT_TRUE(opened && alice.create(opened->grant));
  EXPECT_TRUE(knows(keeper_->pid, seed)) << "the search finds nothing";
  auto look = [&](pid_t pid) {
    EXPECT_FALSE(knows(pid, seed));
    std::vector<std::string> kept;
    wait_until([&] {
      kept.clear();
      for (auto& entry : std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", pid)))
        kept.push_back(std::filesystem::read_symlink(entry.path()));
      return kept.size() <= 6;
    });
    EXPECT_TRUE(std::ranges::none_of(kept, [](auto& name) { return name.starts_with("/memfd:"); }))
        << ::testing::PrintToString(kept);
    std::ifstream maps(fmt::format("/proc/{}/maps", pid));
    for (std::string line; std::getline(maps, line);) EXPECT_EQ(line.find("/memfd:"), line.npos) << line;
  };
  look(allocator_);
  ASSERT_EQ(::kill(allocator_, SIGKILL), 0);
  ASSERT_TRUE(alice.create(opened->grant));
  look(next_allocator());
}

}  // namespace
}  // namespace bailey::broker
