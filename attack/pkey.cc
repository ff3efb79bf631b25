// The rung `pkey`: what code of the process itself tries against pages that only gates open. Each runs on a
// processor with protection keys; pku_guest_test has one.
#include <cpuid.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>

#include <array>
#include <csignal>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "attack/attack.h"
#include "attack/house.h"
#include "bailey/guard/probe.h"

namespace bailey::attack {
namespace {

using guard::Gate;
using guard::Probe;
using guard::Room;

constexpr std::size_t page = 4096;

std::string fault_name(int code) {
  switch (code) {
    case SEGV_PKUERR:
      return "SEGV_PKUERR";
    case SEGV_ACCERR:
      return "SEGV_ACCERR";
    case SEGV_MAPERR:
      return "SEGV_MAPERR";
    default:
      return fmt::format("a fault of code {}", code);
  }
}
Came touch(void* at) {
  const int load = Probe::load(at), store = Probe::store(at);
  if (load == 0 || store == 0) return Came::through(load == 0 ? "it reads" : "it writes");
  return Came::stopped(fault_name(load));
}
Came of_errno() { return Came::stopped(::strerrorname_np(errno)); }

// ---- pages of a session

struct Guarded {
  explicit Guarded(const Ground& ground) : house(ground.folder) {
    house.protect = R"("process", "pkey")";
    house.serve(house.policy("shared"));
    alice.emplace(house.session("alice"));
    table.emplace(must(alice->open_table("orders", bailey::Access::read_write)));
    must(table->put("key", "value").has_value(), "put");
    for (unsigned id = 1; id < 65536 && segment == nullptr; ++id)
      segment = table->view().extent(static_cast<pool::SegmentId>(id)).base;
    must(segment != nullptr, "segment that is mapped");
  }
  House house;
  std::optional<Session> alice;
  std::optional<table::Table> table;
  std::byte* segment = nullptr;
};

Came stray(const Ground& ground) {
  Guarded guarded(ground);
  Came index = touch(guarded.table->view().index());
  return index.kind == Came::Kind::through ? index : touch(guarded.segment);
}
Came core_dump(const Ground& ground) {
  Guarded guarded(ground);
  for (const void* at :
       {static_cast<const void*>(guarded.table->view().index()), static_cast<const void*>(guarded.segment)})
    if (guard::mapping_flags(at).find(" dd ") == std::string::npos)
      return Came::through("the pages are in a core file");
  return Came::stopped("left out");
}
// The operation would read and write there with its gate open.
Came arguments_in_guarded_pages(const Ground& ground) {
  Guarded guarded(ground);
  auto* const at = reinterpret_cast<const char*>(guarded.segment);
  auto put = guarded.table->put("other", std::string_view(at, 64));
  if (put) return Came::through("a value out of guarded pages");
  std::size_t needed = 0;
  auto got = guarded.table->get("key", MutableBytes(guarded.segment, 64), &needed);
  if (got) return Came::through("a value into guarded pages");
  return Came::stopped_by(got.error());
}
Came punch_a_hole(const Ground& ground) {
  Guarded guarded(ground);
  return ::madvise(guarded.segment, page, MADV_REMOVE) == 0 ? Came::through("a hole") : of_errno();
}
// Who has the session's key may ask for the files again, and map them where no key is.
Came asks_again(const Ground& ground) {
  Guarded guarded(ground);
  broker::Client again = guarded.house.client("alice");
  must(again.open("orders", false));
  return Probe::load(again.index.data()) == 0 ? Came::through("it reads") : Came::stopped("it reads nothing");
}

// ---- pages of a key

Came retag(Room& room) {
  const int key = ::pkey_alloc(0, 0);
  if (key < 0 || ::pkey_mprotect(room.pages.data(), page, PROT_READ | PROT_WRITE, key) != 0)
    return of_errno();
  return touch(room.pages.data());
}
Came unprotect(Room& room) {
  if (::mprotect(room.pages.data(), page, PROT_READ | PROT_WRITE) != 0) return of_errno();
  return touch(room.pages.data());
}
Came move_away(Room& room) {
  void* at = ::mremap(room.pages.data(), page, page, MREMAP_MAYMOVE | MREMAP_FIXED,
                      ::mmap(nullptr, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  return at == MAP_FAILED ? of_errno() : touch(at);
}
Came map_twice(Room& room) {
  void* at = ::mremap(room.pages.data(), 0, page, MREMAP_MAYMOVE);
  return at == MAP_FAILED ? of_errno() : touch(at);
}
Came map_by_path(Room& room) {
  const auto from = reinterpret_cast<std::uintptr_t>(room.pages.data());
  const std::string path = fmt::format("/proc/self/map_files/{:x}-{:x}", from, from + page);
  const Fd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!file) return of_errno();
  void* at = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  return at == MAP_FAILED ? of_errno() : touch(at);
}
Came has_the_kernel_read(Room& room) {
  char byte = 0;
  iovec here{&byte, 1}, there{room.pages.data(), 1};
  return ::process_vm_readv(::getpid(), &here, 1, &there, 1, 0) == 1 && byte == 'x'
             ? Came::through("it reads")
             : of_errno();
}
Came has_the_kernel_write(Room& room) {
  char byte = 'y';
  iovec here{&byte, 1}, there{room.pages.data(), 1};
  return ::process_vm_writev(::getpid(), &here, 1, &there, 1, 0) == 1 ? Came::through("it writes")
                                                                      : of_errno();
}
Came own_memory_by_path(Room& room) {
  const Fd memory(::open("/proc/self/mem", O_RDWR | O_CLOEXEC));
  char byte = 0;
  const auto at = static_cast<off_t>(reinterpret_cast<std::uintptr_t>(room.pages.data()));
  return memory && ::pread(memory.get(), &byte, 1, at) == 1 ? Came::through("it reads") : of_errno();
}
Came discards(Room& room) {
  if (::madvise(room.pages.data(), page, MADV_DONTNEED) != 0) return of_errno();
  Gate gate(*room.pin);
  return room.byte() == 'x' ? Came::stopped("nothing changed") : Came::through("the bytes are gone");
}
Came in_a_child(Room& room) {
  const int status = guard::in_child([&] {
    const Came came = touch(room.pages.data());
    ::_exit(came.kind == Came::Kind::through ? 1 : 0);
  });
  return status == 0 ? Came::stopped("it has none of the pages") : Came::through("a child touches them");
}

// xor eax, eax; xor ecx, ecx; xor edx, edx; wrpkru; ret. Not as it stands: this program's own code is to have
// no such instruction but those of gates.
constexpr std::uint8_t disguise = 0x5a;
constexpr std::array<std::uint8_t, 10> opens_all{
    0x31 ^ disguise, 0xc0 ^ disguise, 0x31 ^ disguise, 0xc9 ^ disguise, 0x31 ^ disguise,
    0xd2 ^ disguise, 0x0f ^ disguise, 0x01 ^ disguise, 0xef ^ disguise, 0xc3 ^ disguise};
Came opens_them_itself(Room& room) {
  auto* const code = static_cast<volatile std::uint8_t*>(
      ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (code == MAP_FAILED) return of_errno();
  for (std::size_t i = 0; i < opens_all.size(); ++i)
    code[i] = static_cast<std::uint8_t>(opens_all[i] ^ disguise);
  void* const entry = const_cast<std::uint8_t*>(code);
  if (::mprotect(entry, page, PROT_READ | PROT_EXEC) != 0) return of_errno();
  asm volatile("call *%0" : : "r"(entry) : "rax", "rcx", "rdx", "memory", "cc");
  return touch(room.pages.data());
}
// The keys are given back under the library's feet, and taken again, open.
Came frees_the_key(Room& room) {
  for (int key = 1; key < 16; ++key) ::pkey_free(key);
  for (int key = 1; key < 16; ++key)
    if (::pkey_alloc(0, 0) < 0) break;
  return touch(room.pages.data());
}

// The frame of a signal, out of which the kernel loads the register.
std::size_t offset_of_pkru() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned state_of_pkru = 9;
  __cpuid_count(0xd, state_of_pkru, eax, ebx, ecx, edx);
  return ebx;
}
void forge_frame(int, siginfo_t*, void* context) {
  auto* const state = reinterpret_cast<std::byte*>(static_cast<ucontext_t*>(context)->uc_mcontext.fpregs);
  constexpr std::size_t header = 512;  // of XSAVE: which states are there
  std::uint64_t there;
  std::memcpy(&there, state + header, sizeof there);
  there |= 1u << 9;
  std::memcpy(state + header, &there, sizeof there);
  std::memset(state + offset_of_pkru(), 0, sizeof(std::uint32_t));
}
Came forges_a_frame(Room& room) {
  struct sigaction forging{};
  forging.sa_sigaction = forge_frame;
  forging.sa_flags = SA_SIGINFO;
  ::sigaction(SIGUSR1, &forging, nullptr);
  ::raise(SIGUSR1);
  return touch(room.pages.data());
}

// ---- while a gate is open, and out of it

Room* handlers_room = nullptr;
Came handlers_came;
Came in_a_handler(Room& room) {
  handlers_room = &room;
  std::signal(SIGUSR1, [](int) { handlers_came = touch(handlers_room->pages.data()); });
  Gate gate(*room.pin);
  ::raise(SIGUSR1);
  return room.byte() == 'x' ? handlers_came : Came::through("the page changed");
}
Came after_an_exception(Room& room) {
  try {
    Gate gate(*room.pin);
    if (room.byte() == 'x') throw std::runtime_error("out");
  } catch (const std::runtime_error&) {
    return touch(room.pages.data());
  }
  return Came::broken("nothing was thrown");
}
Came in_another_thread(Room& room) {
  Came came;
  std::atomic<bool> go = false;
  std::thread other([&] {
    while (!go) std::this_thread::yield();
    came = touch(room.pages.data());
  });
  {
    Gate gate(*room.pin);
    go = true;
    other.join();
  }
  return came;
}
Came in_a_thread_born_inside(Room& room) {
  Came came;
  Gate gate(*room.pin);
  std::thread([&] { came = touch(room.pages.data()); }).join();
  return came;
}
[[gnu::noinline]] void jump_out(Room& room, jmp_buf& back) {
  Gate gate(*room.pin);
  ::longjmp(back, 1);
}
Came after_a_jump(Room& room) {
  jmp_buf back;
  if (::setjmp(back) == 0) jump_out(room, back);
  return touch(room.pages.data());
}
Came at_the_gate_after_a_jump(Room& room) {
  jmp_buf back;
  volatile bool jumped = false;
  if (::setjmp(back) == 0) jump_out(room, back);
  if (jumped) return Came::through("a second gate");
  jumped = true;
  jump_out(room, back);
  return Came::broken("it did not jump");
}
// Every instruction of ours that writes the register, with a value that opens all.
Came enters_in_the_middle(Room&) {
  const auto writes = guard::writes_of_pkru();
  for (const unsigned char* write : writes) {
    const int status = guard::in_child([write] {
      Room own("child");
      { Gate gate(*own.pin); }
      asm volatile("xor %%eax, %%eax; xor %%ecx, %%ecx; xor %%edx, %%edx; jmp *%0" : : "b"(write) : "memory");
    });
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
      return Came::through(fmt::format("one of {} is gone through (status {:x})", writes.size(), status));
  }
  return writes.empty() ? Came::broken("no such instruction") : Came::stopped("SIGABRT");
}

// ---- a filter that answers for the kernel, from before there is a key

bool answer_with_0(int call) {
  sock_filter code[]{
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, static_cast<__u32>(call)},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  };
  sock_fprog program{std::size(code), code};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}
Came under_a_filter(int call) {
  if (!answer_with_0(call)) return Came::broken("a filter can't be set");
  auto key = guard::Key::named("filtered");
  if (!key) return Came::stopped_by(key.error());
  const Fd file(::memfd_create("filtered", MFD_CLOEXEC));
  must(file && ::ftruncate(file.get(), page) == 0, "file");
  auto pages = guard::map_guarded(*key, file.get(), page, bailey::Access::read_write);
  return pages ? touch(pages->data()) : Came::stopped_by(pages.error());
}

Came needs_keys(const std::function<Came()>& act) {
  // In a process of its own: to look takes keys, and filters are to come before.
  const int status = guard::in_child([] { ::_exit(guard::available() ? 0 : 1); });
  if (status == 0) return act();
  return Came::skipped("no protection keys (PKU) here: pku_guest_test runs it in a guest that has them");
}

}  // namespace

void add_pkey(Attacks& attacks) {
  auto add = [&](const std::string& name, std::string what, std::string mechanism, std::string expected,
                 std::function<Came(const Ground&)> act, std::string known = {}) {
    attacks.push_back({.name = "pkey/" + name,
                       .what = std::move(what),
                       .rung = "pkey",
                       .mechanism = std::move(mechanism),
                       .expected = {std::move(expected)},
                       .known = std::move(known),
                       .act = [act = std::move(act)](const Ground& ground) {
                         return needs_keys([&] { return act(ground); });
                       }});
  };
  auto in_room = [](Came (*act)(Room&)) {
    return [act](const Ground&) {
      return in_hostile(stranger(), {}, [&] {
        Room room("attacked");
        return act(room);
      });
    };
  };
  auto add_known = [&](const std::string& name, std::string what, std::string known, Came (*act)(Room&)) {
    add(name, std::move(what), "", "", in_room(act), std::move(known));
  };
  const std::string pkuerr = "SEGV_PKUERR", closed = "the pages' key is closed",
                    keeps = "pages keep their key", strict = "bailey exec --strict";
  add("stray", "loads and stores in the pages of a session that has a table open", closed, pkuerr, stray);
  add("core-dump", "a session that dies leaves its pages in a core file", "MADV_DONTDUMP", "left out",
      core_dump);
  add("arguments", "a value of an operation lies in guarded pages", "refused before the gate opens",
      "denied, by the library", arguments_in_guarded_pages);
  add("madvise-remove", "MADV_REMOVE punches a hole into a session's segment", "seals", "EPERM",
      punch_a_hole);
  add("asks-again", "asks the broker for the same files once more", "", "", asks_again,
      "nothing: the right is the principal's");

  add("mprotect", "mprotect of guarded pages", keeps, pkuerr, in_room(unprotect));
  add("mremap", "guarded pages are moved elsewhere", keeps, pkuerr, in_room(move_away));
  add("mremap-twice", "mremap of size 0 makes a second mapping", keeps, pkuerr, in_room(map_twice));
  add("map-by-path", "the object is opened by /proc/self/map_files and mapped once more",
      "the kernel wants a capability", "EPERM", in_room(map_by_path));
  add("madvise-dontneed", "MADV_DONTNEED on guarded pages", "the file keeps its pages", "nothing changed",
      in_room(discards));
  add("fork", "a forked child loads and stores there", "MADV_DONTFORK", "it has none of the pages",
      in_room(in_a_child));
  add("signal-handler", "a handler in the middle of a gate", "the kernel closes all keys for it", pkuerr,
      in_room(in_a_handler));
  add("exception", "an exception out of a gate", "the gate's destructor", pkuerr,
      in_room(after_an_exception));
  add("another-thread", "another thread while a gate is open", "the register is the thread's own", pkuerr,
      in_room(in_another_thread));
  add("longjmp", "a jump out of a gate, and the next gate", "the next gate notices", "SIGABRT",
      in_room(at_the_gate_after_a_jump));
  add("entry-in-the-middle", "a jump to the instruction that writes the register",
      "what was written is read back", "SIGABRT", in_room(enters_in_the_middle));
  for (const auto& [name, call, expected] :
       {std::tuple{"filter-pkey_alloc", SYS_pkey_alloc, "unsupported, by the kernel"},
        std::tuple{"filter-pkey_mprotect", SYS_pkey_mprotect, "SEGV_ACCERR"}})
    add(name, fmt::format("a filter of system calls says that {} worked", name + 7),
        "closed until it is open", expected, [number = static_cast<int>(call)](const Ground&) {
          return in_hostile(stranger(), {}, [&] { return under_a_filter(number); });
        });

  add_known("longjmp-until-the-next", "a jump out of a gate, until the next gate",
            "the next gate, which ends the process", after_a_jump);
  add_known("thread-born-inside", "a thread that is born in a gate",
            "nothing: but nothing of the library starts one there", in_a_thread_born_inside);
  add_known("wrpkru", "code of its own opens all keys", strict, opens_them_itself);
  add_known("pkey_mprotect", "re-tags the pages with a key that is open", strict, retag);
  add_known("pkey_free", "frees the library's keys and takes them again, open", strict, frees_the_key);
  add_known("process_vm_readv", "has the kernel read", strict, has_the_kernel_read);
  add_known("process_vm_writev", "has the kernel write", strict, has_the_kernel_write);
  add_known("proc-self-mem", "reads /proc/self/mem", strict, own_memory_by_path);
  add_known("sigreturn", "forges the frame of a signal, out of which the kernel loads the register",
            "nothing: a filter of system calls sees no frame", forges_a_frame);
  attacks.push_back({.name = "canary/pkey/stray",
                     .what = "loads and stores in pages without a key",
                     .rung = "none",
                     .mechanism = "nothing",
                     .expected = {},
                     .known = {},
                     .act = [](const Ground&) {
                       void* at =
                           ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
                       must(at != MAP_FAILED, "page");
                       return touch(at);
                     }});
}

}  // namespace bailey::attack
