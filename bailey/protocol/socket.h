// Datagrams with descriptors over a Unix socket (SOCK_SEQPACKET, SCM_RIGHTS).
//
// One datagram is one message. Everything is non-blocking and close-on-exec. No call raises SIGPIPE.
//
// Thread safety: an object is for one thread at a time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"
#include "bailey/base/fd.h"
#include "bailey/protocol/messages.h"

namespace bailey::protocol {

// Of the process that connected (seen by the listener) or that listens (seen by whoever connected), at that
// moment, in terms of the reader's own namespaces: pid 0 is a process that its pid namespace can't see, ids
// that its user namespace lacks are the overflow id (65534).
struct Credentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  bool operator==(const Credentials&) const = default;
};

struct Received {
  std::string payload;  // 1..message_bytes_max bytes
  std::vector<Fd> fds;
};

class Connection {
 public:
  Connection() = default;
  // Takes a connected SOCK_SEQPACKET socket, which is made non-blocking by whoever made it.
  explicit Connection(Fd fd) : fd_(std::move(fd)) {}
  // Two ends of a private one, for a parent and its child, and for tests.
  static Result<std::pair<Connection, Connection>> pair();

  // For poll and epoll. -1 when closed.
  int fd() const { return fd_.get(); }
  explicit operator bool() const { return static_cast<bool>(fd_); }
  void close() { fd_.reset(); }

  // Sends now, or says false where the other end's queue is full (wait for POLLOUT, or cut it off).
  // `fds` stay the caller's. Errors: closed (the other end is gone); too_large; quota (too many descriptors
  // under way that their receivers have not taken); io.
  Result<bool> try_send(Bytes payload, std::span<const int> fds = {});
  // Receives what is there, or nothing. At most `fds_limit` descriptors: where 0, as for whoever expects
  // none, the kernel is not even asked to install any. Errors: closed (end of stream); corrupt (the datagram
  // was larger or carried more than allowed; whatever descriptors did arrive are closed); quota (this
  // process's own descriptor limit cut the list short; also closed); io. After an error the connection is to
  // be closed: its messages can't be matched any more.
  Result<std::optional<Received>> try_receive(std::size_t fds_limit = fds_max);

  // The same, waiting until `deadline_ns` of monotonic_ns(). Error timed_out.
  Status send(Bytes payload, std::uint64_t deadline_ns, std::span<const int> fds = {});
  Result<Received> receive(std::uint64_t deadline_ns, std::size_t fds_limit = fds_max);

  // Who the other end is, by the kernel's word.
  Result<Credentials> peer_credentials() const;
  // Its supplementary groups when it connected.
  Result<std::vector<gid_t>> peer_groups() const;
  // Readable (POLLIN) once the peer process is dead. From the socket itself (SO_PEERPIDFD, Linux 6.5),
  // which can't be mistaken; on older kernels from the pid, where the caller must compare start times
  // (BrokerHandshake does) since the pid may have been reused. Error not_found where the process is gone or
  // can't be seen from here.
  Result<Fd> peer_pidfd() const;

 private:
  Fd fd_;
};

// Where a broker hears. Holds a lock (PATH.lock) for as long as any process has this object or a forked copy,
// so that two brokers never serve one path and a dead one's socket is replaced without a race.
//
// The process that made it removes socket, lock file and (where it made it, and it is empty) the folder when
// the object goes; a forked copy closes its descriptors and removes nothing.
class Listener {
 public:
  struct Options {
    mode_t socket_mode = 0666;  // who may connect; who may do what is the policy's matter
    mode_t folder_mode = 0755;  // where the folder is made
  };

  // Errors: too_large (path longer than a socket address holds; both numbers are named); busy (a live broker
  // has it; its pid is named); denied (the folder belongs to somebody else, or others may write in it);
  // exists (something that is not a socket is there); io.
  static Result<Listener> bind(const std::string& path, const Options& options);
  static Result<Listener> bind(const std::string& path) { return bind(path, Options{}); }
  // Error busy, as bind() says it, where somebody listens there. For who has things to make before it binds.
  static Status nobody_at(const std::string& path);

  Listener(Listener&& other) noexcept;
  Listener& operator=(Listener&& other) noexcept;
  ~Listener();

  // For poll and epoll.
  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }
  // The listening process, which is what clients see as the other end: a forked copy says the same.
  const Place& place() const { return place_; }

  // The next one that connected, or nothing. Error io: EMFILE and the like; what waits goes on waiting.
  Result<std::optional<Connection>> try_accept();

 private:
  Listener() = default;
  void remove();

  Fd fd_;
  Fd lock_;
  std::string path_;
  std::string made_folder_;  // empty where the folder was there
  Place place_;
  pid_t owner_ = 0;
};

// Connects, waiting at most `timeout_ns` for a broker that is slow to accept. Errors: unavailable (nobody
// listens there), denied (the file's mode), too_large (path), timed_out, io.
Result<Connection> connect(const std::string& path, std::uint64_t timeout_ns = 2'000'000'000);

// $BAILEY_SOCKET; else for root /run/bailey/broker.sock; else $XDG_RUNTIME_DIR/bailey/broker.sock; else
// /tmp/bailey-UID/broker.sock. An empty variable counts as unset; a relative one is taken as it is.
std::string default_socket_path();
// The same for whoever does not have that variable.
std::string usual_socket_path();

}  // namespace bailey::protocol
