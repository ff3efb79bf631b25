// Processes: what the kernel lets one process do to another's memory, and to mappings of its own.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "attack/attack.h"
#include "attack/house.h"
#include "attack/matrix.h"

namespace bailey::attack {
namespace {

constexpr std::size_t page = 4096;

// ---- into others' memory

Came process_vm(pid_t pid, bool writes) {
  return in_hostile(attacker_of("same uid"), {}, [&] {
    char byte = 0;
    iovec here{&byte, 1};
    // The same place in all that were forked from here; and where nothing is there, the right is checked
    // before the address.
    iovec there{&environ, 1};
    if (writes) ::process_vm_readv(pid, &here, 1, &there, 1, 0);  // so that it is written as it was
    const ssize_t done = writes ? ::process_vm_writev(pid, &here, 1, &there, 1, 0)
                                : ::process_vm_readv(pid, &here, 1, &there, 1, 0);
    if (done == 1 || errno == EFAULT) return Came::through(writes ? "writes" : "reads");
    return Came::stopped(::strerrorname_np(errno));
  });
}
Came process_vm_of_all(const Ground& ground, bool writes) {
  for (const ProcessTarget& target : ground.courtyard->processes()) {
    Came came = process_vm(target.pid, writes);
    if (came.kind == Came::Kind::through) came.seen += " " + target.name;
    if (came.kind != Came::Kind::stopped || came.seen != "EPERM") return came;
  }
  return Came::stopped("EPERM");
}
Came process_vm_of_unprotected(bool writes) {
  if (machine().yama >= 1) return Came::skipped("processes of one uid don't attach to each other here");
  broker::Words ready;
  const broker::Process open([&] {
    const bool became = become(defended_uid());
    ready.say(became ? 'x' : '-');
    if (!became) return 97;
    for (;;) ::pause();
  });
  must(ready.hear() == 'x', "process");
  return process_vm(open.pid, writes);
}

// What a core dump of a session would hold: its memory, keys and all.
Came core_dump(const Ground& ground) {
  House house(ground.folder);
  house.serve(house.policy("shared"));
  broker::Process session([&] {
    rlimit all{RLIM_INFINITY, RLIM_INFINITY};
    ::setrlimit(RLIMIT_CORE, &all);
    if (::chdir(ground.folder.c_str()) != 0) return 1;
    Options options;
    options.socket_path = house.socket();
    options.key_file = house.key_file("alice");
    auto connected = Session::connect(options);
    if (!connected) return 2;
    ::abort();
  });
  int status = 0;
  while (::waitpid(session.pid, &status, 0) < 0 && errno == EINTR) {}
  session.pid = -1;
  if (!WIFSIGNALED(status)) return Came::broken("the session did not die");
  if (WCOREDUMP(status)) return Came::through("a core dump");
  return Came::stopped("no core dump");
}

// ---- with mappings of what one was given

// A reader's mapping of a living writer's segment.
struct Mapped {
  explicit Mapped(const Ground& ground) : house(ground.folder) {
    house.serve(house.policy("shared"));
    alice.emplace(house.client("alice"));
    const auto hers = must(alice->open("orders", true));
    row = must(alice->create(hers.grant));
    bob.emplace(house.client("bob"));
    const auto his = must(bob->open("orders", false));
    const auto given = must(bob->ask<protocol::Segments>(protocol::MapSegments{his.grant, {row.segment}}));
    must(given.rows.size() == 1, "segment for the reader");
    file = std::move(bob->fds.at(0));
  }
  House house;
  std::optional<broker::Client> alice, bob;
  protocol::SegmentRow row;
  Fd file;
};

// What a hostile process does with a mapping of a file, and its descriptor.
using Act = Came (*)(std::byte* at, std::size_t bytes, int fd);

constexpr std::uint64_t good = 0x5afe;
constexpr std::size_t place = 64;  // of that word, from the end

// Whether the writer's bytes are what they were counts, whatever the attacker says.
Came on_file(Act act, std::byte* writers, std::size_t bytes, int fd, int protection) {
  auto* const word = reinterpret_cast<volatile std::uint64_t*>(writers + bytes - place);
  *word = good;
  Came came = in_hostile(attacker_of("same uid"), {fd}, [&] {
    void* at = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) return Came::broken("it can't map what it was given");
    return act(static_cast<std::byte*>(at), bytes, fd);
  });
  if (*word != good) return Came::through("the writer's bytes changed");
  return came;
}
Came on_segment(Act act, const Ground& ground) {
  const Mapped mapped(ground);
  return on_file(act, mapped.alice->segment.data(), mapped.row.bytes, mapped.file.get(), PROT_READ);
}
Came on_unprotected(Act act) {
  constexpr std::size_t bytes = 64 << 10;
  const Fd file(::memfd_create("unprotected", MFD_CLOEXEC));
  must(file && ::ftruncate(file.get(), bytes) == 0, "file");
  void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  must(at != MAP_FAILED, "mapping");
  return on_file(act, static_cast<std::byte*>(at), bytes, file.get(), PROT_READ | PROT_WRITE);
}

void scribble(std::byte* at) { *reinterpret_cast<volatile std::byte*>(at) = std::byte{1}; }
Came refused() { return Came::stopped(::strerrorname_np(errno)); }

Came store(std::byte* at, std::size_t bytes, int) {
  scribble(at + bytes - place);
  return Came::through("a store");
}
// A second mapping of the same object, by size 0: it gains no right.
Came remap(std::byte* at, std::size_t bytes, int) {
  void* twice = ::mremap(at, 0, bytes, MREMAP_MAYMOVE);
  if (twice == MAP_FAILED || ::mprotect(twice, bytes, PROT_READ | PROT_WRITE) != 0) return refused();
  scribble(static_cast<std::byte*>(twice) + bytes - place);
  return Came::through("a second mapping that is writable");
}
// Beyond the end of a file there is nothing.
Came grow(std::byte* at, std::size_t bytes, int fd) {
  void* more = ::mremap(at, bytes, 2 * bytes, MREMAP_MAYMOVE);
  if (more == MAP_FAILED) return refused();
  const bool larger = ::ftruncate(fd, static_cast<off_t>(2 * bytes)) == 0;
  static_cast<void>(*reinterpret_cast<volatile std::byte*>(static_cast<std::byte*>(more) + bytes + place));
  return Came::through(larger ? "a larger file" : "bytes beyond the file");
}
Came second_mapping(std::byte*, std::size_t bytes, int fd) {
  void* again = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (again == MAP_FAILED) return refused();
  scribble(static_cast<std::byte*>(again) + bytes - place);
  return Came::through("a second mapping that is writable");
}
template <int advice>
Came advise(std::byte* at, std::size_t bytes, int) {
  if (::madvise(at, bytes, advice) != 0) return refused();
  if (*reinterpret_cast<volatile std::uint64_t*>(at + bytes - place) != good)
    return Came::through("the bytes are gone");
  return Came::stopped("nothing changed");
}
// The kernel writes past page protections here, but not past what a shared mapping may become.
Came mem_of_oneself(std::byte* at, std::size_t bytes, int) {
  const Fd memory(::open("/proc/self/mem", O_RDWR | O_CLOEXEC));
  if (!memory) return refused();
  const char byte = 1;
  const auto where = static_cast<off_t>(reinterpret_cast<std::uintptr_t>(at + bytes - place));
  return ::pwrite(memory.get(), &byte, 1, where) == 1 ? Came::through("a write through /proc/self/mem")
                                                      : refused();
}

// A child of a writer, which would write in its name.
Came of_a_child(std::byte* segment) {
  return in_hostile({"child", ::geteuid()}, {}, [&] {
    scribble(segment);
    return Came::through("a child wrote into its parent's segment");
  });
}
Came child_writes(const Ground& ground) {
  House house(ground.folder);
  house.serve(house.policy("shared"));
  broker::Client alice = house.client("alice");
  const auto opened = must(alice.open("orders", true));
  must(alice.create(opened.grant));
  return of_a_child(alice.segment.data());
}

}  // namespace

void add_processes(Attacks& attacks) {
  auto add = [&](const std::string& name, std::string what, std::string mechanism,
                 std::vector<std::string> expected, std::function<Came(const Ground&)> act,
                 bool in_courtyard = false) {
    attacks.push_back({.name = "processes/" + name,
                       .what = std::move(what),
                       .rung = "process",
                       .mechanism = std::move(mechanism),
                       .expected = std::move(expected),
                       .known = {},
                       .in_courtyard = in_courtyard,
                       .act = std::move(act)});
  };
  auto add_canary = [&](const std::string& name, std::function<Came()> act) {
    attacks.push_back({.name = "canary/" + name,
                       .what = name + " where nothing protects",
                       .rung = "none",
                       .mechanism = "nothing",
                       .expected = {},
                       .known = {},
                       .act = [act = std::move(act)](const Ground&) { return act(); }});
  };
  for (const bool writes : {false, true}) {
    const std::string name = writes ? "process_vm_writev" : "process_vm_readv";
    add(
        name,
        writes ? "writes into their memory" : "reads the memory of broker, keeper, allocator and a session",
        "processes are not dumpable", {"EPERM"},
        [writes](const Ground& ground) { return process_vm_of_all(ground, writes); }, true);
    add_canary(name, [writes] { return process_vm_of_unprotected(writes); });
  }
  add("core-dump", "a session that dies leaves a core dump with its keys", "processes are not dumpable",
      {"no core dump"}, core_dump);

  auto add_on_file = [&](const std::string& name, std::string what, std::string mechanism,
                         std::vector<std::string> expected, Act act) {
    add(name, std::move(what), std::move(mechanism), std::move(expected),
        [act](const Ground& ground) { return on_segment(act, ground); });
    // Pages of a shared mapping are the file's, so that MADV_DONTNEED takes nothing anywhere.
    if (act != advise<MADV_DONTNEED>) add_canary(name, [act] { return on_unprotected(act); });
  };
  const std::string reading = "a descriptor for reading alone";
  add_on_file("store", "stores into a mapping for reading", "page protection", {"SIGSEGV"}, store);
  add_on_file("mremap-twice", "mremap of size 0 makes a second mapping, to be made writable", reading,
              {"EACCES"}, remap);
  add_on_file("mremap-grow", "a mapping and its file are made larger", "sealed size", {"SIGBUS"}, grow);
  add_on_file("second-mapping", "maps the object once more, writable", reading, {"EACCES"}, second_mapping);
  add_on_file("madvise-dontneed", "MADV_DONTNEED on what another wrote", "the file keeps its pages",
              {"nothing changed"}, advise<MADV_DONTNEED>);
  add_on_file("madvise-remove", "MADV_REMOVE punches a hole into what another wrote", reading, {"EACCES"},
              advise<MADV_REMOVE>);
  add_on_file("proc-self-mem", "writes through /proc/self/mem into a mapping for reading", reading, {"EIO"},
              mem_of_oneself);
  add("child-writes", "a forked child writes into its parent's segment", "MADV_DONTFORK", {"SIGSEGV"},
      child_writes);
  add_canary("child-writes", [] {
    void* at = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(at != MAP_FAILED, "mapping");
    return of_a_child(static_cast<std::byte*>(at));
  });
}

}  // namespace bailey::attack
