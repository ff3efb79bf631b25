// Redis, by hiredis, over a Unix socket and over TCP on the loopback address; one request at a time, and
// pipelined by
// 32. The server is started for the benchmark, keeps nothing on disk, and is stopped with the store.
#include <fmt/format.h>
#include <hiredis/hiredis.h>

#include <array>
#include <atomic>
#include <cstring>

#include "bench/server.h"
#include "bench/store.h"

namespace bailey::bench {
namespace {

constexpr timeval patience = {5, 0};

struct Address {
  std::string socket;
  std::uint16_t port = 0;
  bool tcp = false;

  redisContext* connect() const {
    return tcp ? redisConnectWithTimeout("127.0.0.1", port, patience)
               : redisConnectUnixWithTimeout(socket.c_str(), patience);
  }
};

struct FreeContext {
  void operator()(redisContext* context) const { redisFree(context); }
};
struct FreeReply {
  void operator()(void* reply) const { freeReplyObject(reply); }
};
using Context = std::unique_ptr<redisContext, FreeContext>;

class RedisClient : public Client {
 public:
  explicit RedisClient(Context context) : context_(std::move(context)) {}

  std::ptrdiff_t get(std::string_view key, MutableBytes out) override {
    append({"GET", key});
    return copy(reply().get(), out);
  }
  bool get_many(std::span<Lookup> lookups) override {
    for (const Lookup& lookup : lookups) append({"GET", lookup.key});
    for (Lookup& lookup : lookups) {
      const Reply answer = reply();
      if (answer == nullptr) return false;
      const std::ptrdiff_t bytes = copy(answer.get(), lookup.out);
      lookup.ok = bytes >= 0;
      if (lookup.ok) lookup.found.bytes = static_cast<std::size_t>(bytes);
    }
    return true;
  }
  bool put(std::string_view key, std::string_view value) override {
    append({"SET", key, value});
    return accepted(reply().get());
  }
  bool insert(std::string_view key, std::string_view value) override {
    append({"SET", key, value, "NX"});
    return accepted(reply().get());
  }
  bool update(std::string_view key, std::string_view value) override {
    append({"SET", key, value, "XX"});
    return accepted(reply().get());
  }
  bool erase(std::string_view key) override {
    append({"DEL", key});
    const Reply answer = reply();
    return answer != nullptr && answer->type == REDIS_REPLY_INTEGER && answer->integer == 1;
  }
  bool put_many(std::span<Write> writes) override {
    for (const Write& write : writes) append({"SET", write.key, write.value});
    bool all = true;
    for (Write& write : writes) {
      write.ok = accepted(reply().get());
      all = all && write.ok;
    }
    return all;
  }

 private:
  using Reply = std::unique_ptr<redisReply, FreeReply>;

  void append(std::initializer_list<std::string_view> words) {
    std::array<const char*, 4> text;
    std::array<std::size_t, 4> bytes;
    int count = 0;
    for (std::string_view word : words) {
      text[static_cast<std::size_t>(count)] = word.data();
      bytes[static_cast<std::size_t>(count++)] = word.size();
    }
    redisAppendCommandArgv(context_.get(), count, text.data(), bytes.data());
  }
  Reply reply() {
    void* answer = nullptr;
    if (redisGetReply(context_.get(), &answer) != REDIS_OK)
      failed(fmt::format("Redis: {}", context_->errstr));
    return Reply(static_cast<redisReply*>(answer));
  }
  std::ptrdiff_t copy(const redisReply* answer, MutableBytes out) {
    if (answer == nullptr || answer->type != REDIS_REPLY_STRING ||
        static_cast<std::size_t>(answer->len) > out.size())
      return -1;
    std::memcpy(out.data(), answer->str, static_cast<std::size_t>(answer->len));
    return static_cast<std::ptrdiff_t>(answer->len);
  }
  bool accepted(const redisReply* answer) {
    if (answer == nullptr) return false;
    if (answer->type == REDIS_REPLY_ERROR) return failed(fmt::format("Redis: {}", answer->str));
    return answer->type == REDIS_REPLY_STATUS;
  }
  Context context_;
};

class RedisStore : public Store {
 public:
  RedisStore(Address address, Server server) : address_(std::move(address)), server_(std::move(server)) {}
  Result<std::unique_ptr<Client>> client(bool) override {
    Context context(address_.connect());
    if (context == nullptr || context->err != 0)
      return fail(Code::io, By::peer,
                  fmt::format("no connection to Redis: {}", context ? context->errstr : "no memory"));
    redisSetTimeout(context.get(), patience);
    return std::make_unique<RedisClient>(std::move(context));
  }

 private:
  Address address_;
  Server server_;
};

Result<std::unique_ptr<Store>> make(const StoreOptions& options, bool tcp) {
  static std::atomic<unsigned> made = 0;
  Address address;
  address.tcp = tcp;
  if (tcp) address.port = BAILEY_TRY(free_port());
  address.socket = fmt::format("{}/redis{}", options.scratch, made++);
  std::vector<std::string> command = {"redis-server",
                                      "--port",
                                      fmt::format("{}", address.port),
                                      "--bind",
                                      "127.0.0.1",
                                      "--save",
                                      "",
                                      "--appendonly",
                                      "no",
                                      "--dir",
                                      options.scratch,
                                      "--daemonize",
                                      "no"};
  if (!tcp) command.insert(command.end(), {"--unixsocket", address.socket, "--unixsocketperm", "600"});
  Server server = BAILEY_TRY(Server::start(command, [&] {
    const Context context(address.connect());
    return context != nullptr && context->err == 0;
  }));
  return std::make_unique<RedisStore>(std::move(address), std::move(server));
}

}  // namespace

void add_redis(std::vector<System>& systems) {
  for (const unsigned pipeline : {1u, 32u}) {
    for (const bool tcp : {false, true}) {
      const std::string how = pipeline == 1 ? "one at a time" : "pipelined by 32";
      systems.push_back({fmt::format("redis-{}{}", tcp ? "tcp" : "unix", pipeline == 1 ? "" : "-pipe32"),
                         fmt::format("Redis over {}, {}", tcp ? "TCP" : "a Unix socket", how),
                         fmt::format("redis-{}", tcp ? "tcp" : "unix"),
                         {Operation::get, Operation::set},
                         pipeline,
                         [tcp](const StoreOptions& options) { return make(options, tcp); }});
    }
  }
}

}  // namespace bailey::bench
