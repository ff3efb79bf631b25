#include "bench/server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "bailey/base/clock.h"
#include "bailey/base/fd.h"

namespace bailey::bench {
namespace {

constexpr long tmpfs_magic = 0x01021994;
constexpr std::uint64_t start_ns_max = 10'000'000'000;
constexpr std::uint64_t stop_ns_max = 300'000'000;  // nothing of theirs is worth a longer wait
constexpr unsigned poll_us = 2000;

bool usable_tmpfs(const char* folder) {
  struct statfs about;
  return ::statfs(folder, &about) == 0 && about.f_type == tmpfs_magic && ::access(folder, W_OK | X_OK) == 0;
}

}  // namespace

Result<Scratch> Scratch::make() {
  const char* chosen = std::getenv("TMPDIR");
  if (chosen == nullptr || *chosen == 0) chosen = "/tmp";
  if (usable_tmpfs("/dev/shm")) chosen = "/dev/shm";
  std::string path = fmt::format("{}/{}XXXXXX", chosen, scratch_prefix);
  if (::mkdtemp(path.data()) == nullptr)
    return fail_os(errno, fmt::format("could not make a folder in {}", chosen));
  return Scratch(std::move(path), ::getpid());
}

Scratch::~Scratch() {
  if (path_.empty() || pid_ != ::getpid()) return;
  std::error_code ignored;  // nothing better can be done about it at the end
  std::filesystem::remove_all(path_, ignored);
}

Result<std::string> find_program(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::string_view rest = path == nullptr ? "/usr/bin:/bin" : path;
  while (!rest.empty()) {
    const std::size_t colon = rest.find(':');
    const std::string candidate = fmt::format("{}/{}", rest.substr(0, colon), program);
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    rest = colon == std::string_view::npos ? std::string_view{} : rest.substr(colon + 1);
  }
  return fail(Code::unsupported, By::library, fmt::format("there is no program {} on this machine", program),
              fmt::format("install {}, or leave it out", program));
}

Result<Server> Server::start(const std::vector<std::string>& command, const std::function<bool()>& answers) {
  const std::string program = BAILEY_TRY(find_program(command.at(0)));
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const pid_t owner = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return fail_os(errno, "could not start a process for " + command[0]);
  if (pid == 0) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != owner) ::_exit(127);  // the parent died before the line above
    for (int ours : {SIGINT, SIGTERM, SIGHUP}) ::signal(ours, SIG_DFL);
    const int null = ::open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3 && null >= 0; ++fd) ::dup2(null, fd);
    ::execv(program.c_str(), arguments.data());
    ::_exit(127);
  }
  Server server(pid, owner);
  const std::uint64_t deadline = monotonic_ns() + start_ns_max;
  while (!answers()) {
    if (::waitpid(pid, nullptr, WNOHANG) == pid) {
      server.pid_ = -1;
      return fail(Code::io, By::library, fmt::format("{} ended as soon as it was started", command[0]));
    }
    if (monotonic_ns() > deadline)
      return fail(Code::timed_out, By::library,
                  fmt::format("{} was started and does not answer", command[0]));
    ::usleep(poll_us);
  }
  return server;
}

Server::~Server() {
  if (pid_ < 0 || owner_ != ::getpid()) return;
  ::kill(pid_, SIGTERM);
  const std::uint64_t deadline = monotonic_ns() + stop_ns_max;
  while (::waitpid(pid_, nullptr, WNOHANG) == 0) {
    if (monotonic_ns() > deadline) ::kill(pid_, SIGKILL);
    ::usleep(poll_us);
  }
}

Result<std::uint16_t> free_port() {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail_os(errno, "could not make a socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof address;
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), bytes) != 0 ||
      ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &bytes) != 0)
    return fail_os(errno, "could not find a free port on the loopback address");
  return ntohs(address.sin_port);
}

}  // namespace bailey::bench
