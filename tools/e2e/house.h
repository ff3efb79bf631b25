// A whole Bailey for tests: keeper and broker in processes of their own, key pairs for three principals,
// sessions.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "bailey/base/clock.h"
#include "bailey/broker/serve.h"
#include "bailey/crypto/key_file.h"
#include "bailey/session/session.h"

namespace bailey::e2e {

inline constexpr std::uint64_t second = 1'000'000'000;

// A child process that runs `work`; killed when the object goes.
class Child {
 public:
  explicit Child(const std::function<int()>& work) {
    std::fflush(nullptr);
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::alarm(60);
    int code = 99;
    try {
      code = work();
    } catch (const std::exception& thrown) {
      fmt::print(stderr, "child: {}\n", thrown.what());
    }
    ::_exit(code);
  }
  Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, 0)) {}
  Child& operator=(Child&&) = delete;
  ~Child() { kill(); }
  pid_t pid() const { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }
  // Its exit code, or 1000 + the signal that ended it.
  int wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, 0), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  void kill() {
    if (pid_ <= 0) return;
    signal(SIGKILL);
    wait();
  }

 private:
  pid_t pid_;
};

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
      keeper_->signal(SIGTERM);
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
        "[region.orders]\nkind = \"table\"\nmode = \"{}\"\nsize = \"{}\"\nrecords = 20000\nprotect = "
        "[\"process\"]\n",
        mode, size);
    text += "[[grant]]\nprincipal = \"alice\"\nregion = \"orders\"\nrights = \"rw\"\n";
    if (with_bob) text += "[[grant]]\nprincipal = \"bob\"\nregion = \"orders\"\nrights = \"r\"\n";
    return text;
  }
  void serve(const std::string& text) {
    std::ofstream(folder_ + "/policy.toml") << text;
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    keeper_ = std::make_unique<Child>([&] {
      broker::ServeOptions options;
      options.policy_file = folder_ + "/policy.toml";
      options.socket_path = socket();
      options.audit_file = folder_ + "/audit.log";
      options.ready = [&](const broker::Running& running) {
        if (::write(ready[1], &running.broker, sizeof running.broker) < 0) ::_exit(98);
      };
      return broker::serve(options);
    });
    ::close(ready[1]);
    pollfd told{ready[0], POLLIN, 0};
    ASSERT_EQ(::poll(&told, 1, 20'000), 1) << "the broker does not come up";
    ASSERT_EQ(::read(ready[0], &broker_, sizeof broker_), static_cast<ssize_t>(sizeof broker_));
    ::close(ready[0]);
  }

  Result<Session> session(const std::string& who, unsigned timeout_ms = 3000) const {
    Options options;
    options.socket_path = socket();
    if (!who.empty()) options.key_file = key_file(who);
    options.timeout_ms = timeout_ms;
    options.allow_dump = true;  // for the leak check of the sanitizer
    return Session::connect(options);
  }

  std::string folder_;
  std::map<std::string, std::string> keys_;
  std::unique_ptr<Child> keeper_;
  pid_t broker_ = 0;
};

}  // namespace bailey::e2e
