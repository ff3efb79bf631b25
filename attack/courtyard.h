// A live broker with one object of each kind for attackers to try: files of two regions as their readers and
// writers were given them, and the processes themselves.
//
// Where the test is root, broker and session run under a uid of their own, so that root is an attacker like
// others; else under the test's.
#pragma once

#include <sys/ptrace.h>
#include <sys/stat.h>

#include <algorithm>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "attack/attacker.h"
#include "bailey/broker/bare_client.h"
#include "bailey/broker/in_child.h"
#include "bailey/crypto/key_file.h"
#include "bailey/session/session.h"

namespace bailey::attack {

class Courtyard {
 public:
  Courtyard() {
    make_folder();
    serve();
    take_exclusive();
    take_shared();
    start_session();
    catch_allocation();
  }
  Courtyard(const Courtyard&) = delete;
  Courtyard& operator=(const Courtyard&) = delete;
  ~Courtyard() { stop(); }
  // Whether the keeper ended as it should when it was asked to.
  bool stop() {
    session_.reset();
    if (!keeper_) return true;
    keeper_->kill(SIGTERM);
    const int status = keeper_->wait();
    keeper_.reset();
    return status == 0;
  }

  const std::vector<FileTarget>& files() const { return files_; }
  const std::vector<ProcessTarget>& processes() const { return processes_; }

 private:
  static void must(bool good, const std::string& what) {
    if (!good) throw std::runtime_error("no courtyard: " + what);
  }
  template <class T>
  static T must(Result<T> result) {
    must(result.has_value(), result ? "" : result.error().to_string());
    return std::move(*result);
  }

  void make_folder() {
    must(::mkdtemp(folder_.path.data()) != nullptr, "a folder");
    folder_.made = true;
    must(::chmod(folder_.path.c_str(), 0755) == 0 &&
             ::chown(folder_.path.c_str(), defended_uid(), static_cast<gid_t>(-1)) == 0,
         "its mode");
    for (const char* who : {"writer", "reader"}) {
      std::string file = folder_.path + "/" + who;
      must(crypto::write_new_pair(file));
      (who[0] == 'w' ? writer_key_ : reader_key_) = must(crypto::read_secret_key(file));
      must(::chown(file.c_str(), defended_uid(), static_cast<gid_t>(-1)) == 0, "the owner of a key");
    }
  }

  // In the broker's own process: as that user, and as open to others as processes are by default, so that
  // what keeps others out of it is what it does itself.
  void serve() {
    std::string text = "[pool]\nname = \"courtyard\"\nmedium = \"memory:256MiB\"\n";
    for (const auto& [who, key] : {std::pair("writer", &*writer_key_), std::pair("reader", &*reader_key_)})
      text += fmt::format("[principal.{}]\nidentity = [\"key:{}\"]\n", who,
                          crypto::public_key_text(key->public_key()));
    // The session has a region to itself: as a writer it would give an empty frozen segment back.
    for (auto [region, mode] :
         {std::pair("exclusive", "exclusive"), std::pair("shared", "shared"), std::pair("session", "shared")})
      text += broker::region_toml(region, mode) + broker::grant_toml("writer", region, "rw") +
              broker::grant_toml("reader", region, "r");
    std::ofstream(folder_.path + "/policy.toml") << text;

    broker::ServeOptions options;
    options.policy_file = folder_.path + "/policy.toml";
    options.socket_path = socket();
    options.audit_file = folder_.path + "/audit.log";
    broker::Served served(std::move(options), [] {
      if (!become(defended_uid())) ::_exit(97);
    });
    keeper_ = std::move(served.keeper);
    broker_ = served.broker;
    processes_.push_back({"broker", broker_});
    processes_.push_back({"keeper", keeper_->pid});
  }

  broker::Client client(const crypto::SecretKey& key) const {
    return must(broker::Client::connect(socket(), &key));
  }

  // How attackers find a file, and what they were given of it.
  void add(std::string name, const Fd& file, bool writers, bool given = true) {
    struct stat about;
    must(::fstat(file.get(), &about) == 0, name);
    files_.push_back({std::move(name),
                      given ? file.get() : -1,
                      writers,
                      static_cast<std::uint64_t>(about.st_size),
                      about.st_dev,
                      about.st_ino,
                      {broker_, keeper_->pid}});
  }
  const Fd& keep(Fd file) {
    kept_.push_back(std::make_unique<Fd>(std::move(file)));
    return *kept_.back();
  }
  // A reader's descriptor of a segment.
  Fd segment_of(broker::Client& reader, std::uint32_t grant, std::uint16_t segment) {
    auto given = must(reader.ask<protocol::Segments>(protocol::MapSegments{grant, {segment}}));
    must(given.rows.size() == 1, "a segment for the reader");
    return std::move(reader.fds.at(0));
  }

  void take_exclusive() {
    broker::Client& writer = clients_.emplace_back(client(*writer_key_));
    auto opened = must(writer.open("exclusive", true));
    auto segment = must(writer.create(opened.grant));
    broker::Client& reader = clients_.emplace_back(client(*reader_key_));
    auto reading = must(reader.open("exclusive", false));
    const Fd& given = keep(segment_of(reader, reading.grant, segment.segment));
    must(must(writer.ask<protocol::SegmentCreated>(protocol::CreateSegment{opened.grant, 100})).row.bytes > 0,
         "a segment that is not mapped");
    add("segment before its seal", keep(std::move(writer.fds.at(0))), false, false);
    add("open segment, reader's descriptor", given, false);
    add("open segment, writer's descriptor", writer.segment_file, false);
    add("exclusive index, reader's descriptor", reader.index_file, false);
    add("exclusive index, writer's descriptor", writer.index_file, false);
    add("control page", reader.page_file, false);
  }

  void take_shared() {
    broker::Client& writer = clients_.emplace_back(client(*writer_key_));
    auto opened = must(writer.open("shared", true));
    shared_writer_ = &writer;
    shared_grant_ = opened.grant;
    std::uint16_t segment = 0;
    {
      broker::Client gone = client(*writer_key_);
      segment = must(gone.create(must(gone.open("shared", true)).grant)).segment;
    }
    bool frozen = false;
    broker::wait_until([&] {
      auto members = must(writer.ask<protocol::Members>(protocol::GetMembers{opened.grant}));
      return frozen = std::ranges::find(members.frozen, segment) != members.frozen.end();
    });
    must(frozen, "a frozen segment");
    broker::Client& reader = clients_.emplace_back(client(*reader_key_));
    auto reading = must(reader.open("shared", false));
    add("frozen segment, reader's descriptor", keep(segment_of(reader, reading.grant, segment)), false);
    add("shared index, reader's descriptor", reader.index_file, false);
    add("shared index, writer's descriptor", writer.index_file, true);
  }

  void start_session() {
    broker::Words ready;
    session_ = std::make_unique<broker::Process>([&] {
      if (!become(defended_uid())) return 97;
      Options options;
      options.socket_path = socket();
      options.key_file = folder_.path + "/writer";
      auto session = Session::connect(options);
      if (!session) return 1;
      auto table = session->open_table("session", Access::read_write);
      if (!table || !table->put("key", "value")) return 2;
      ready.say();
      for (;;) ::pause();
    });
    must(ready.hear() == 'x', "the session is not ready after 20 s");
    processes_.push_back({"session", session_->pid});
  }

  // The one that waits for a request: alone, and asleep. The one that served the session may still be on its
  // way out, with its successor or before there is one. 0: not now.
  static pid_t waiting_worker(pid_t allocator) {
    pid_t found = 0;
    for (auto& entry : std::filesystem::directory_iterator("/proc")) {
      pid_t pid = std::atoi(entry.path().filename().c_str());
      if (pid <= 0) continue;
      std::ifstream status(entry.path() / "status");
      bool asleep = false;
      for (std::string line; std::getline(status, line);) {
        if (line.starts_with("State:")) asleep = line.find("S (sleeping)") != std::string::npos;
        if (line != fmt::format("PPid:\t{}", allocator)) continue;
        if (found != 0 || !asleep) return 0;
        found = pid;
      }
    }
    return found;
  }

  // A worker of the allocator, which takes a file's pages, stopped where it is most open to others of its
  // uid: where the kernel lets them attach, or, where it never does, before it takes the pages. Who may not
  // trace it has it as it waits for a request.
  void catch_allocation() {
    pid_t allocator = broker::child_of(keeper_->pid, broker_), pid = 0;
    must(allocator > 0, "an allocator");
    broker::wait_until([&] { return (pid = waiting_worker(allocator)) != 0; });
    must(pid > 0, "its worker");
    processes_.push_back({"allocator", allocator});
    processes_.push_back({"allocator's worker", pid});
    if (::ptrace(PTRACE_SEIZE, pid, nullptr, PTRACE_O_TRACESYSGOOD) != 0) return;
    must(::ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr) == 0, "a worker that is stopped");
    must(shared_writer_->send(protocol::CreateSegment{shared_grant_, 100}).has_value(), "a request");
    int status = 0;
    for (;;) {
      must(::waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status), "an allocation that goes on");
      struct stat about;
      must(::stat(fmt::format("/proc/{}/mem", pid).c_str(), &about) == 0, "the allocation");
      __ptrace_syscall_info at{};
      ::ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof at, &at);
      bool takes_pages = at.op == PTRACE_SYSCALL_INFO_ENTRY && at.entry.nr == SYS_fallocate;
      // The memory of a process that others of its uid may attach to belongs to its uid in /proc; else to
      // root.
      if (about.st_uid == defended_uid() || takes_pages) break;
      must(::ptrace(PTRACE_SYSCALL, pid, nullptr, nullptr) == 0, "an allocation that goes on");
    }
    must(::kill(pid, SIGSTOP) == 0 && ::ptrace(PTRACE_DETACH, pid, nullptr, nullptr) == 0,
         "an allocation that stops");
  }

  std::string socket() const { return folder_.path + "/broker.sock"; }

  // Goes last, and also where the constructor has thrown.
  struct Folder {
    ~Folder() {
      if (made) std::filesystem::remove_all(path);
    }
    std::string path = "/tmp/bailey-rung-XXXXXX";
    bool made = false;
  };
  Folder folder_;
  std::optional<crypto::SecretKey> writer_key_, reader_key_;
  std::unique_ptr<broker::Process> keeper_, session_;
  pid_t broker_ = 0;
  std::list<broker::Client> clients_;
  broker::Client* shared_writer_ = nullptr;
  std::uint32_t shared_grant_ = 0;
  std::vector<std::unique_ptr<Fd>> kept_;
  std::vector<FileTarget> files_;
  std::vector<ProcessTarget> processes_;
};

}  // namespace bailey::attack
