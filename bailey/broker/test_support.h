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

#include "bailey/abi/control.h"
#include "bailey/base/clock.h"
#include "bailey/broker/serve.h"
#include "bailey/medium/file.h"
#include "bailey/protocol/codec.h"
#include "bailey/protocol/handshake.h"

namespace bailey::broker {

inline constexpr std::uint64_t mib = 1 << 20;
inline std::uint64_t in_10_s() { return monotonic_ns() + 10'000'000'000; }

// One client: a connection that has shown who it is.
class Client {
 public:
  // An error of either side.
  static Result<Client> connect(const std::string& path, const crypto::SecretKey* key = nullptr) {
    return connect_with(path, {.key = key, .broker_key = {}, .resume = {}});
  }
  Result<Client> resume(const std::string& path) const {
    protocol::SessionHandshake::Options options;
    options.resume = protocol::SessionHandshake::Resume{welcome.session, welcome.resume_secret};
    return connect_with(path, options);
  }
  static Result<Client> connect_with(const std::string& path,
                                     const protocol::SessionHandshake::Options& options) {
    Client client;
    client.connection = BAILEY_TRY(protocol::connect(path));
    auto handshake = BAILEY_TRY(protocol::SessionHandshake::start(client.connection, path, options));
    auto challenge = BAILEY_TRY(client.ask<protocol::Challenge>(handshake.hello()));
    auto prove = BAILEY_TRY(handshake.answer(challenge));
    client.welcome = BAILEY_TRY(client.ask<protocol::Welcome>(prove));
    client.page_file = std::move(client.fds.at(0));
    client.page =
        BAILEY_TRY(Mapping::of_file(client.page_file.get(), client.welcome.control_bytes, Access::read_only));
    return client;
  }

  Status send(protocol::Body body) {
    auto bytes = BAILEY_TRY(protocol::encode(protocol::Request{++number, std::move(body)}));
    return connection.send(as_bytes(bytes), in_10_s());
  }
  template <class T>
  Result<T> receive(std::uint64_t deadline_ns = in_10_s()) {
    auto received = BAILEY_TRY(connection.receive(deadline_ns));
    auto reply = BAILEY_TRY(protocol::decode_reply(as_bytes(received.payload)));
    fds = std::move(received.fds);
    EXPECT_EQ(fds.size(), protocol::fds_of(reply.answer));
    if (auto* error = std::get_if<Error>(&reply.answer)) return std::unexpected(std::move(*error));
    EXPECT_EQ(reply.number, number);
    if (auto* answer = std::get_if<T>(&reply.answer)) return std::move(*answer);
    return fail(Code::corrupt, By::library, fmt::format("an answer {} came", protocol::name(reply.answer)));
  }
  template <class T>
  Result<T> ask(protocol::Body body) {
    BAILEY_TRY(send(std::move(body)));
    return receive<T>();
  }

  // Opens, and where an index is to be confirmed, maps, copies and confirms it as a session does.
  Result<protocol::Opened> open(const std::string& region, bool writable) {
    auto opened = BAILEY_TRY(ask<protocol::Opened>(protocol::OpenRegion{region, writable}));
    index_file = std::move(fds.at(0));
    index = BAILEY_TRY(Mapping::of_file(index_file.get(), opened.index_bytes,
                                        writable ? Access::read_write : Access::read_only));
    heard[opened.grant] = opened.grant_value;
    if (!writable) return opened;
    if (opened.copy_index_from) {
      Mapping old = BAILEY_TRY(Mapping::of_file(fds.at(1).get(), opened.index_bytes, Access::read_only));
      std::memcpy(index.data(), old.data(), old.size());
    }
    auto ready = BAILEY_TRY(ask<protocol::IndexReady>(protocol::IndexMapped{opened.grant}));
    heard[opened.grant] = opened.grant_value = ready.grant_value;
    return opened;
  }
  // Asks what is new; says what came with the answer before.
  Result<protocol::Attention> attend(std::uint32_t grant) {
    BAILEY_TRY(send(protocol::Attend{grant, heard[grant]}));
    return attended(grant);
  }
  Result<protocol::Attention> attended(std::uint32_t grant) {
    auto attention = BAILEY_TRY(receive<protocol::Attention>());
    heard[grant] = attention.grant_value;
    return attention;
  }
  // A new segment, mapped and confirmed. The descriptor it came with is in `segment_file`.
  Result<protocol::SegmentRow> create(std::uint32_t grant, std::uint64_t record_bytes = 100) {
    auto created = BAILEY_TRY(ask<protocol::SegmentCreated>(protocol::CreateSegment{grant, record_bytes}));
    segment_file = std::move(fds.at(0));
    segment = BAILEY_TRY(Mapping::of_file(segment_file.get(), created.row.bytes, Access::read_write));
    BAILEY_TRY(ask<protocol::Done>(protocol::SegmentMapped{grant, created.row.segment}));
    return created.row;
  }
  Result<nlohmann::json> status() {
    auto text = BAILEY_TRY(ask<protocol::Text>(protocol::GetStatus{}));
    return nlohmann::json::parse(text.text);
  }

  const bailey_control* control() const { return reinterpret_cast<const bailey_control*>(page.data()); }
  std::uint64_t word(std::uint32_t grant) const {
    return __atomic_load_n(&control()->grants[grant].value, __ATOMIC_ACQUIRE);
  }
  std::uint64_t membership(std::uint32_t region) const {
    return __atomic_load_n(&control()->regions[region].membership, __ATOMIC_ACQUIRE);
  }

  protocol::Connection connection;
  protocol::Welcome welcome;
  Fd page_file;
  Mapping page;
  std::vector<Fd> fds;                           // of the last answer
  std::map<std::uint32_t, std::uint64_t> heard;  // grant values, by grant
  std::uint64_t number = 0;
  Fd index_file, segment_file;
  Mapping index, segment;
};

// Waits until `done` or 10 s are over; how long it took, in ns.
inline std::uint64_t wait_until(const std::function<bool()>& done) {
  std::uint64_t start = monotonic_ns();
  while (!done() && monotonic_ns() - start < 10'000'000'000) ::usleep(200);
  return monotonic_ns() - start;
}

// A child process: runs `work` and says its exit status. Killed when it goes, unless it ended; ends by itself
// where nobody does.
class Process {
 public:
  explicit Process(const std::function<int()>& work, unsigned seconds_most = 100) {
    std::fflush(nullptr);
    pid = ::fork();
    if (pid != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::alarm(seconds_most);
    int status = 99;
    try {
      status = work();
    } catch (const std::exception& thrown) {
      fmt::print(stderr, "child: {}\n", thrown.what());
    }
    ::_exit(status);
  }
  Process(Process&& other) noexcept : pid(std::exchange(other.pid, -1)) {}
  ~Process() {
    if (pid <= 0) return;
    kill(SIGKILL);
    wait();
  }
  void kill(int signal) const { ::kill(pid, signal); }
  // The exit status, or 1000 + signal.
  int wait() {
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    pid = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  pid_t pid;
};

// A child of this process that is not that one; 0: there is none. A keeper without a janitor has its broker
// and its allocator, which has a worker.
inline pid_t child_of(pid_t parent, pid_t but) {
  for (auto& entry : std::filesystem::directory_iterator("/proc")) {
    pid_t pid = std::atoi(entry.path().filename().c_str());
    std::ifstream status(entry.path() / "status");
    for (std::string line; pid > 0 && pid != but && std::getline(status, line);)
      if (line == fmt::format("PPid:\t{}", parent)) return pid;
  }
  return 0;
}

// A pipe on which one side says words to the other.
struct Words {
  Words() { EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0); }
  ~Words() {
    ::close(ends[0]);
    ::close(ends[1]);
  }
  void say(char word = 'x') const { EXPECT_EQ(::write(ends[1], &word, 1), 1); }
  // 0 where nothing comes within 20 s.
  char hear() const {
    pollfd ready{ends[0], POLLIN, 0};
    char word = 0;
    if (::poll(&ready, 1, 20'000) != 1 || ::read(ends[0], &word, 1) != 1) return 0;
    return word;
  }
  int ends[2];
};

// A keeper's main: 0 where it was stopped, else 1, and the error on standard error.
inline int serve_and_tell(const ServeOptions& options) {
  const Status served = serve_until_stopped(options);
  if (!served) fmt::print(stderr, "{}\n", served.error().to_string());
  return served ? 0 : 1;
}

// A keeper and its broker in processes of their own. `before` runs in the keeper first. Throws where it is
// not ready after 20 s.
struct Served {
  explicit Served(ServeOptions options, const std::function<void()>& before = {},
                  unsigned seconds_most = 100) {
    Words ready;
    const std::uint64_t start = monotonic_ns();
    keeper = std::make_unique<Process>(
        [&] {
          if (before) before();
          options.ready = [&](const Running& running) {
            if (::write(ready.ends[1], &running.broker, sizeof running.broker) < 0) ::_exit(98);
          };
          return serve_and_tell(options);
        },
        seconds_most);
    ::close(std::exchange(ready.ends[1], -1));  // so that its end is heard
    pollfd told{ready.ends[0], POLLIN, 0};
    if (::poll(&told, 1, 20'000) != 1) throw std::runtime_error("the broker is not ready after 20 s");
    if (::read(ready.ends[0], &broker, sizeof broker) != static_cast<ssize_t>(sizeof broker))
      throw std::runtime_error("the broker did not come up");
    ready_ns = monotonic_ns() - start;
  }
  std::unique_ptr<Process> keeper;
  pid_t broker = 0;  // the first one
  std::uint64_t ready_ns = 0;
};

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

inline std::string region_toml(const std::string& name, const std::string& mode,
                               const std::string& size = "16MiB", const std::string& more = "") {
  return fmt::format(
      "[region.{}]\nkind = \"table\"\nmode = \"{}\"\nsize = \"{}\"\nprotect = [\"process\"]\n{}\n", name,
      mode, size, more);
}
inline std::string grant_toml(const std::string& principal, const std::string& region,
                              const std::string& rights, const std::string& more = "") {
  return fmt::format("[[grant]]\nprincipal = \"{}\"\nregion = \"{}\"\nrights = \"{}\"\n{}\n", principal,
                     region, rights, more);
}

}  // namespace bailey::broker
