// A broker in a child process, and raw clients that speak the protocol, for the tests.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "bailey/broker/bare_client.h"
#include "bailey/broker/in_child.h"
#include "bailey/medium/file.h"

namespace bailey::broker {

inline constexpr std::uint64_t mib = 1 << 20;

// A broker on a socket of its own; the tests run as one uid, which the policy calls alice.
class BrokerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/bailey-broker-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    ASSERT_EQ(::chmod(name, 0755), 0);
    socket_ = folder_ + "/broker.sock";
    policy_file_ = folder_ + "/policy.toml";
  }
  void TearDown() override {
    keeper_.reset();
    std::filesystem::remove_all(folder_);
  }

  void write_policy(const std::string& text) const { std::ofstream(policy_file_) << text; }
  // Starts it and waits until it is ready; `before` runs in the keeper first.
  void serve(const std::string& policy, const std::function<void()>& before = {},
             std::function<int(const std::string&)> janitor = {}, const std::string& key_file = {}) {
    write_policy(policy);
    ServeOptions options;
    options.policy_file = policy_file_;
    options.socket_path = socket_;
    options.audit_file = folder_ + "/audit.log";
    options.key_file = key_file;
    options.janitor = std::move(janitor);
    Served served(std::move(options), before);
    keeper_ = std::move(served.keeper);
    broker_ = served.broker;
    ready_ns_ = served.ready_ns;
  }
  // The error that a broker which can't start says on standard error, and its exit status.
  std::pair<int, std::string> serve_and_fail(const std::string& socket,
                                             const std::function<void()>& before = {}) const {
    int said[2];
    EXPECT_EQ(::pipe2(said, O_CLOEXEC), 0);
    Process keeper([&] {
      ::dup2(said[1], STDERR_FILENO);
      if (before) before();
      ServeOptions options;
      options.policy_file = policy_file_;
      options.socket_path = socket;
      return serve_and_tell(options);
    });
    ::close(said[1]);
    std::string text;
    char bytes[4096];
    for (ssize_t got; (got = ::read(said[0], bytes, sizeof bytes)) > 0;)
      text.append(bytes, static_cast<std::size_t>(got));
    ::close(said[0]);
    return {keeper.wait(), text};
  }

  Client client() const {
    auto connected = Client::connect(socket_);
    if (!connected) throw std::runtime_error(connected.error().to_string());
    return std::move(*connected);
  }
  // The file as a new writer would see it: 0, or errno.
  static int map_writable(int fd, std::size_t bytes) {
    auto mapping = Mapping::of_file(fd, bytes, Access::read_write);
    return mapping ? 0 : mapping.error().os;
  }

  std::string folder_, socket_, policy_file_;
  std::unique_ptr<Process> keeper_;
  pid_t broker_ = 0;
  std::uint64_t ready_ns_ = 0;
};

}  // namespace bailey::broker
