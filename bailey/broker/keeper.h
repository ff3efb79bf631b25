// The keeper: holds what must outlive a broker, and starts the next one when a broker dies.
//
// It reads two kinds of things: its own broker's messages (hold.h) and signals. It speaks with no client,
// parses nothing that a client sent, and so has little to die of. Not thread-safe.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <optional>

#include "bailey/broker/broker.h"
#include "bailey/broker/serve.h"

namespace bailey::broker {

class Keeper {
 public:
  Keeper(const Setup& setup, const ServeOptions& options, Running running)
      : setup_(setup), options_(options), running_(std::move(running)) {}
  ~Keeper();

  // Until SIGTERM or SIGINT, or until brokers die too often.
  Status run();

 private:
  struct Child {
    pid_t pid = -1;
    Fd pidfd;
  };
  Status block_signals();
  Status start_broker();
  void start_janitor();
  void start_allocator();
  void forget_pool();
  Result<Child> fork_child(const std::function<int()>& body);
  void take_messages();
  void on_message(protocol::Received received);
  Status broker_died();
  void pass_hang_up();
  void stop_children();
  static void end(Child& child, int signal, int patience_ms);

  Setup setup_;
  const ServeOptions& options_;
  Running running_;
  Fd signals_;
  sigset_t before_{};
  Held held_;
  Child broker_;
  Child janitor_;
  std::uint64_t janitor_at_ns_ = 0;    // not sooner
  std::uint64_t allocator_at_ns_ = 0;  // likewise
  protocol::Connection line_;
  unsigned deaths_in_a_row_ = 0;
  bool told_ready_ = false;
  bool ready_ = false;  // the present broker is
  std::uint64_t ready_at_ns_ = 0;
  std::string failed_;
  // A hang-up that came, until a broker has read the policy file for it.
  bool hang_up_ = false;          // and no broker was asked yet
  bool hang_up_asked_ = false;    // and the present one was, and has not answered
  bool hang_up_retried_ = false;  // and one has died of it, or with it
};

}  // namespace bailey::broker
