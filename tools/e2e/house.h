// A whole Bailey for tests: keeper and broker in processes of their own, key pairs for three principals,
// sessions.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "bailey/broker/test_support.h"
#include "bailey/crypto/key_file.h"
#include "bailey/session/session.h"

namespace bailey::e2e {

inline constexpr std::uint64_t second = 1'000'000'000;

using broker::Process;

// Numbers that children and the test see, and wait for.
class Board {
 public:
  Board() : page_(Mapping::anonymous(4096).value()) {}
  void set(unsigned at, std::uint64_t value) const { __atomic_store_n(word(at), value, __ATOMIC_SEQ_CST); }
  void add(unsigned at, std::uint64_t value = 1) const {
    __atomic_fetch_add(word(at), value, __ATOMIC_SEQ_CST);
  }
  std::uint64_t get(unsigned at) const { return __atomic_load_n(word(at), __ATOMIC_SEQ_CST); }
  // Whether the number came to be at least `least` within ten seconds.
  bool reaches(unsigned at, std::uint64_t least) const {
    for (std::uint64_t until = monotonic_ns() + 10 * second; get(at) < least;) {
      if (monotonic_ns() > until) return false;
      ::usleep(200);
    }
    return true;
  }

 private:
  std::uint64_t* word(unsigned at) const { return reinterpret_cast<std::uint64_t*>(page_.data()) + at; }
  Mapping page_;
};

class House : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/bailey-e2e-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    ASSERT_EQ(::chmod(name, 0755), 0);
    for (const char* who : {"alice", "bob", "mallory"})
      keys_[who] = crypto::public_key_text(crypto::write_new_pair(key_file(who)).value());
  }
  void TearDown() override {
    if (keeper_) {
      keeper_->kill(SIGTERM);
      EXPECT_EQ(keeper_->wait(), 0) << "the keeper ends when it is asked to";
    }
    std::filesystem::remove_all(folder_);
  }

  std::string key_file(const std::string& who) const { return folder_ + "/" + who; }
  std::string socket() const { return folder_ + "/broker.sock"; }

  // One region "orders"; alice may write it, bob read it, mallory nothing.
  std::string policy(const std::string& mode, bool with_bob = true, const std::string& size = "32MiB") const {
    std::string text = "[pool]\nname = \"e2e\"\nmedium = \"memory:256MiB\"\n";
    for (const auto& [who, key] : keys_)
      text += fmt::format("[principal.{}]\nidentity = [\"key:{}\"]\n", who, key);
    text += fmt::format(
        "[region.orders]\nkind = \"table\"\nmode = \"{}\"\nsize = \"{}\"\nrecords = 20000\nprotect = [{}]\n",
        mode, size, protect_);
    text += "[[grant]]\nprincipal = \"alice\"\nregion = \"orders\"\nrights = \"rw\"\n";
    if (with_bob) text += "[[grant]]\nprincipal = \"bob\"\nregion = \"orders\"\nrights = \"r\"\n";
    return text;
  }
  void serve(const std::string& text, std::function<int(const std::string&)> janitor = {},
             unsigned seconds_most = 100) {
    std::ofstream(folder_ + "/policy.toml") << text;
    broker::ServeOptions options;
    options.policy_file = folder_ + "/policy.toml";
    options.socket_path = socket();
    options.audit_file = folder_ + "/audit.log";
    options.janitor = std::move(janitor);
    broker::Served served(std::move(options), {}, seconds_most);
    keeper_ = std::move(served.keeper);
    broker_ = served.broker;
  }

  Result<Session> session(const std::string& who, unsigned timeout_ms = 3000) const {
    Options options;
    options.socket_path = socket();
    if (!who.empty()) options.key_file = key_file(who);
    options.timeout_ms = timeout_ms;
    options.allow_dump = true;  // for the leak check of the sanitizer
    return Session::connect(options);
  }

  // What the region asks for: what tests show of one rung holds under more of them too.
  static std::string protect_of_environment() {
    const char* rungs = std::getenv("BAILEY_TEST_PROTECT");
    return rungs != nullptr ? rungs : "\"process\"";
  }

  std::string protect_ = protect_of_environment();
  std::string folder_;
  std::map<std::string, std::string> keys_;
  std::unique_ptr<Process> keeper_;
  pid_t broker_ = 0;
};

}  // namespace bailey::e2e
