#include "tools/demo/intruder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "bailey/base/bytes.h"
#include "bailey/base/clock.h"
#include "bailey/base/fd.h"
#include "bailey/crypto/key_file.h"
#include "bailey/protocol/codec.h"
#include "bailey/protocol/handshake.h"
#include "bailey/protocol/socket.h"

namespace bailey::demo {
namespace {

constexpr std::uint64_t patience_ns = 5'000'000'000;
constexpr std::size_t page_bytes = 4096;

// The protocol, spoken by hand.
class Line {
 public:
  static Result<Line> connect(const std::string& socket, const std::string& broker_key,
                              const crypto::SecretKey* key) {
    Line line;
    line.connection_ = BAILEY_TRY(protocol::connect(socket));
    protocol::SessionHandshake::Options options;
    options.key = key;
    options.broker_key = BAILEY_TRY(crypto::parse_public_key(broker_key));
    const auto handshake = BAILEY_TRY(protocol::SessionHandshake::start(line.connection_, socket, options));
    const auto challenge = BAILEY_TRY(line.ask<protocol::Challenge>(handshake.hello()));
    BAILEY_TRY(line.ask<protocol::Welcome>(BAILEY_TRY(handshake.answer(challenge))));
    return line;
  }

  template <class Answer>
  Result<Answer> ask(protocol::Body body) {
    const std::string bytes = BAILEY_TRY(protocol::encode(protocol::Request{++number_, std::move(body)}));
    const std::uint64_t deadline = monotonic_ns() + patience_ns;
    BAILEY_TRY(connection_.send(as_bytes(bytes), deadline));
    protocol::Received received = BAILEY_TRY(connection_.receive(deadline));
    protocol::Reply reply = BAILEY_TRY(protocol::decode_reply(as_bytes(received.payload)));
    if (auto* error = std::get_if<Error>(&reply.answer)) return std::unexpected(std::move(*error));
    auto* answer = std::get_if<Answer>(&reply.answer);
    if (answer == nullptr) return fail(Code::corrupt, By::peer, "the broker answered something else");
    fds = std::move(received.fds);
    return std::move(*answer);
  }

  std::vector<Fd> fds;  // that came with the last answer

 private:
  protocol::Connection connection_;
  std::uint64_t number_ = 0;
};

int map_writable(int fd) {
  void* at = ::mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return errno;
  ::munmap(at, page_bytes);
  return 0;
}

// Maps as it may, then asks for more.
int make_mapping_writable(int fd) {
  void* at = ::mmap(nullptr, page_bytes, PROT_READ, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return errno;
  const int os = ::mprotect(at, page_bytes, PROT_READ | PROT_WRITE) == 0 ? 0 : errno;
  ::munmap(at, page_bytes);
  return os;
}

int write_file(int fd) {
  // What is there is written back, so that a kernel that lets it through harms nobody.
  char byte = 0;
  if (::pread(fd, &byte, 1, 0) != 1) return errno;
  return ::pwrite(fd, &byte, 1, 0) == 1 ? 0 : errno;
}

// The same file once more, through /proc, writable; where the kernel lets it be opened, a seal has the last
// word.
int map_reopened(int fd, std::string& call) {
  call = "open(/proc/self/fd/N, O_RDWR)";
  const Fd again(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_RDWR | O_CLOEXEC));
  if (!again) return errno;
  call = "mmap of what open(/proc/self/fd/N, O_RDWR) gave";
  return map_writable(again.get());
}

}  // namespace

Result<std::vector<Attempt>> attack_as_reader(const std::string& socket, const std::string& broker_key,
                                              const std::string& key_file, const std::string& region) {
  std::optional<crypto::SecretKey> key;
  if (!key_file.empty()) key.emplace(BAILEY_TRY(crypto::read_secret_key(key_file)));
  Line line = BAILEY_TRY(Line::connect(socket, broker_key, key ? &*key : nullptr));
  const auto opened = BAILEY_TRY(line.ask<protocol::Opened>(protocol::OpenRegion{region, false}));
  if (line.fds.empty()) return fail(Code::corrupt, By::peer, "the broker gave no index");
  const Fd index = std::move(line.fds.front());
  const auto segments = BAILEY_TRY(line.ask<protocol::Segments>(protocol::MapSegments{opened.grant, {}}));
  if (line.fds.empty() || segments.rows.empty())
    return fail(Code::not_found, By::broker, fmt::format("region {} has no segment", region));
  const int segment = line.fds.front().get();

  std::vector<Attempt> attempts;
  attempts.push_back(
      Attempt::system_call("maps the index that he was given writable", "mmap", map_writable(index.get())));
  attempts.push_back(
      Attempt::system_call("maps alice's segment that he was given writable", "mmap", map_writable(segment)));
  attempts.push_back(Attempt::system_call("maps it for reading, then makes it writable", "mprotect",
                                          make_mapping_writable(segment)));
  attempts.push_back(Attempt::system_call("writes to its descriptor", "pwrite", write_file(segment)));
  std::string call;
  const int os = map_reopened(segment, call);
  attempts.push_back(Attempt::system_call("opens the file anew to map it writable", call, os));
  return attempts;
}

std::vector<Attempt> attack_from_outside(pid_t broker, pid_t client) {
  std::vector<Attempt> attempts;
  const Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, broker, 0)));
  // Some descriptor of the broker: 3 is as good as any, the right to ask is checked first.
  const Fd stolen(pidfd ? static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd.get(), 3, 0)) : -1);
  attempts.push_back(Attempt::system_call("takes a descriptor out of the broker",
                                          pidfd ? "pidfd_getfd" : "pidfd_open", stolen ? 0 : errno));
  char byte = 0;
  iovec here{&byte, 1};
  iovec there{reinterpret_cast<void*>(&environ), 1};
  const ssize_t got = ::process_vm_readv(client, &here, 1, &there, 1, 0);
  attempts.push_back(
      Attempt::system_call("reads the memory of alice's process", "process_vm_readv", got == 1 ? 0 : errno));
  return attempts;
}

}  // namespace bailey::demo
