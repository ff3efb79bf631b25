// `bailey serve`: the keeper, which holds descriptors, and the broker proper, its child.
//
// The keeper makes what must outlive a broker: socket, control page, the broker's key, every file of the
// pool. It starts a broker and, whenever one dies, the next, which takes over pool, grants and living
// sessions. It gives up after `deaths_max` deaths in a row of brokers of which none served for `served_ns`:
// what kills each at once will kill the next. A broker that has served is worth another one: with the keeper
// a pool in memory goes. When the keeper dies, its children die with it.
//
// First of all it starts the allocator (medium/allocator.h), for which its process has to be dumpable, as
// programs are when they are started; then it makes itself non-dumpable.
//
// Process safety: one keeper a socket; a second one is refused, naming the first. For a single-threaded
// program: it forks and waits for its children. Blocks SIGTERM, SIGINT, SIGHUP and SIGCHLD while it runs.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "bailey/base/error.h"

namespace bailey::broker {

inline constexpr unsigned deaths_max = 5;
inline constexpr std::uint64_t served_ns = 1'000'000'000;

// What runs once the socket answers.
struct Running {
  std::string socket_path;
  std::string pool;
  std::string broker_key;  // base64, for clients that pin it
  std::string audit_path;
  pid_t keeper = 0;
  pid_t broker = 0;
};

struct ServeOptions {
  std::string policy_file;
  std::string socket_path;  // empty: protocol::default_socket_path()
  std::string key_file;     // secret key of the broker; empty: a new one, for this keeper's life
  std::string audit_file;   // empty: in the state folder, and gone with it where the pool is in memory

  // Called in the keeper, once, when the socket answers.
  std::function<void(const Running&)> ready;
  // Runs in a child process of the keeper: a session like any other, which compacts what dead writers left.
  // Started again when it ends, at most once a second; ended with the broker. Empty: none.
  std::function<int(const std::string& socket_path)> janitor;
};

// Until SIGTERM or SIGINT. Error: it could not start, or gave up.
Status serve_until_stopped(const ServeOptions& options);

}  // namespace bailey::broker
