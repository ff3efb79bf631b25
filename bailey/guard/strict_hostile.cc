// Hostile code, to be run under `bailey exec --strict` and without it: strict_hostile ATTEMPT... tries each
// and prints "ATTEMPT RESULT", the result being "done" or the name of the errno.
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "bailey/guard/strict_layout.h"
#include "bailey/guard/window.h"

using namespace bailey::guard;

// Padding, for a copy of this program that is to have code of its own there.
asm(R"(
  .text
  .balign 4096
  .skip 3 * 4096, 0x90
)");
// Whole pages, of which the second would make WRPKRU if it lay before the last.
asm(R"(
  .text
  .balign 4096
hostile_code:
  .skip 4096 + 4095, 0xcc
  .byte 0x0f
  .skip 2 * 4096, 0xcc
  .byte 0x01, 0xef
  .skip 4094, 0xcc
)");
extern "C" [[gnu::visibility("hidden")]] char hostile_code[];

namespace {

constexpr std::size_t page = 4096;
constexpr std::ptrdiff_t uncalled_offset = 8;
constexpr int fixed = MAP_FIXED, fresh = MAP_FIXED_NOREPLACE, anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
constexpr int both = PROT_READ | PROT_WRITE;

void* at(std::uintptr_t address) { return reinterpret_cast<void*>(address); }
// Where the library has something, which holds `secret`.
char* const guarded = static_cast<char*>(at(window_base + 64 * page));
char* const unused = guarded + 64 * page;
constexpr char secret = 's';

long map(void* where, std::size_t bytes, int protection, int flags, int fd = -1) {
  return ::syscall(SYS_mmap, where, bytes, protection, flags, fd, 0L);
}
// Whatever a call's name in this C library: `more` bits in the register's upper half, which the kernel
// ignores.
constexpr long upper = 1L << 32;

long grave() { return map(guarded, page, PROT_NONE, fixed | MAP_SHARED, grave_fd); }

long plain_page() { return map(nullptr, page, both, anonymous); }

long attach_shared_memory(void* where, int flags, std::size_t bytes = page) {
  const int id = ::shmget(IPC_PRIVATE, bytes, 0700 | SHM_NORESERVE);
  if (id < 0) return id;
  const long got = ::syscall(SYS_shmat, id, where, flags);
  const int os = errno;
  ::shmctl(id, IPC_RMID, nullptr);
  errno = os;
  return got;
}

// The kernel did it, but not where it was asked to.
long elsewhere() {
  errno = EXDEV;
  return -1;
}

// From below whatever a filter that sees addresses alone could take for near the window, and off again.
long attach_shared_memory_from_far_below() {
  char* const from = static_cast<char*>(at(window_base / 2 - page));
  if (const long got = attach_shared_memory(from, SHM_REMAP, static_cast<std::size_t>(guarded + page - from));
      got == -1)
    return got;
  return *guarded == secret ? elsewhere() : ::syscall(SYS_shmdt, from);
}

// The child of a fork-like call must not go on as the program.
long forked(long child) {
  if (child == 0) ::_exit(0);
  if (child > 0) ::waitpid(static_cast<pid_t>(child), nullptr, __WALL);
  return child;
}
long share_memory_with_a_process(unsigned long more) {
  static char stack[16384];
  return forked(::clone([](void*) { return 0; }, stack + sizeof stack,
                        static_cast<int>(CLONE_VM | SIGCHLD | more), nullptr));
}

long begin_program(bool by_descriptor) {
  char* const arguments[]{const_cast<char*>("true"), nullptr};
  int report[2];
  if (::pipe2(report, O_CLOEXEC) != 0) return -1;
  const pid_t child = ::fork();
  if (child == 0) {
    if (by_descriptor)
      ::execveat(::open("/bin/true", O_PATH), "", arguments, nullptr, AT_EMPTY_PATH);
    else
      ::execve("/bin/true", arguments, nullptr);
    [[maybe_unused]] auto wrote = ::write(report[1], &errno, sizeof errno);
    ::_exit(1);
  }
  ::close(report[1]);
  int os = 0;
  const bool refused = ::read(report[0], &os, sizeof os) == sizeof os;
  ::close(report[0]);
  ::waitpid(child, nullptr, 0);
  errno = os;
  return refused ? -1 : 0;
}

long executable_file() {
  const int fd = ::open("/bin/true", O_RDONLY);
  const long got = map(nullptr, page, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd);
  const int os = errno;
  ::close(fd);
  errno = os;
  return got;
}

// ---- code that changes behind its mapping

// A function of a library that this program has and never calls.
const char* uncalled() { return static_cast<const char*>(::dlsym(RTLD_DEFAULT, "jnl")) + uncalled_offset; }

// Writes to the file that the function came from, and looks whether what would run changed.
long change_file_of_code() {
  Dl_info about;
  const char* const code = uncalled();
  if (::dladdr(code, &about) == 0) return -1;
  const int fd = ::open(about.dli_fname, O_RDWR);
  const auto at = static_cast<off_t>(code - static_cast<const char*>(about.dli_fbase));
  char byte;
  if (fd < 0 || ::pread(fd, &byte, 1, at) != 1) return -1;
  const char before = static_cast<volatile const char&>(*code);
  if (byte != before) {
    errno = EINVAL;
    return -1;
  }
  byte = static_cast<char>(~byte);
  if (::pwrite(fd, &byte, 1, at) != 1) return -1;
  if (static_cast<volatile const char&>(*code) != before) return 0;
  errno = ESTALE;
  return -1;
}

struct Code {
  std::uintptr_t begin, end;
};
// What may run, but for the kernel's own page that has one place in all processes.
std::vector<Code> all_code() {
  std::vector<Code> all;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    unsigned long from = 0, to = 0;
    char rights[5] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &from, &to, rights) != 3 || rights[2] != 'x' ||
        line.find("[vsyscall]") != std::string::npos)
      continue;
    all.push_back({from, to});
  }
  return all;
}

// Whether there is an instruction that opens all keys in what may run, but for gates (pkru.h).
long find_wrpkru() {
  for (const Code& one : all_code()) {
    const auto* code = reinterpret_cast<const volatile unsigned char*>(one.begin);
    for (std::size_t i = 0; i + 3 <= one.end - one.begin; ++i)
      if (code[i] == 0x0f && code[i + 1] == 0x01 && code[i + 2] == 0xef) return 0;
  }
  errno = ENOENT;
  return -1;
}

// A move of code, which stays code and is the same: does it make an instruction that opens keys?
char* const first_half = hostile_code + page;
char* const place_for_it = hostile_code + 3 * page;
char* const second_half = hostile_code + 4 * page;

long made_wrpkru(long moved) {
  if (moved == -1) return -1;
  return std::memcmp(second_half - 1, "\x0f\x01\xef", 3) == 0 ? 0 : elsewhere();
}
long move_code(void* from, std::size_t bytes, int flags, void* to) {
  return made_wrpkru(::syscall(SYS_mremap, from, bytes, bytes, MREMAP_MAYMOVE | flags, to));
}
long move_code_to_a_free_place() {
  ::munmap(place_for_it, page);
  return move_code(first_half, page, MREMAP_DONTUNMAP, place_for_it);
}
// With a page before it that is none of the code.
long move_code_from_below() {
  if (map(first_half - page, page, both, fixed | anonymous) == -1) return -1;
  return move_code(first_half - page, 2 * page, MREMAP_FIXED, place_for_it - page);
}

// Of ranges that begin or end at or beside borders of code: does the kernel refuse to move those that
// meet code (EPERM), and look at the others? A flag that it does not know keeps it from moving anything.
long moves_are_refused_for_code_alone() {
  constexpr int unknown_flag = 128;
  const std::vector<Code> all = all_code();
  std::vector<std::uintptr_t> places;
  for (const Code& one : all) {
    for (const std::uintptr_t border : {one.begin, one.end})
      for (const std::uintptr_t place : {border - page, border, border + page}) places.push_back(place);
    // A filter adds 32 bits at a time: from here there is something to carry.
    places.push_back((one.begin >> 32 << 32) - page);
  }
  for (const std::uintptr_t from : places)
    for (const std::uintptr_t to : places) {
      if (to <= from) continue;
      bool meets = false;
      for (const Code& one : all) meets |= from < one.end && to > one.begin;
      ::syscall(SYS_mremap, from, to - from, page, unknown_flag, 0);
      if (errno != (meets ? EPERM : EINVAL)) return -1;
    }
  return all.size() < 4 ? elsewhere() : 0;
}

// Mappings of a program's own grow where they are or elsewhere.
long grow_memory() {
  constexpr std::size_t before = 1 << 20, after = 64 << 20;
  char* const was = reinterpret_cast<char*>(map(nullptr, before, both, anonymous));
  std::memset(was, 'm', before);
  char* const grown = static_cast<char*>(::mremap(was, before, after, MREMAP_MAYMOVE));
  if (grown == MAP_FAILED) return -1;
  grown[after - 1] = 'm';
  return grown[0] == 'm' && grown[before - 1] == 'm' ? 0 : elsewhere();
}
// So large that libc has it as a mapping.
long grow_allocation() {
  constexpr std::size_t before = 1 << 20, after = 64 << 20;
  char* const was = static_cast<char*>(std::malloc(before));
  std::memset(was, 'a', before);
  char* const grown = static_cast<char*>(std::realloc(was, after));
  if (grown == nullptr) return -1;
  grown[after - 1] = 'a';
  const bool same = grown[0] == 'a' && grown[before - 1] == 'a';
  std::free(grown);
  return same ? 0 : elsewhere();
}

long x32_call() { return ::syscall(0x40000000 | SYS_getpid); }
long call_of_32_bit() {
  long result;
  asm volatile("int $0x80" : "=a"(result) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
  return result;
}

const std::map<std::string, std::function<long()>> attempts{
    // The window: pages that are there.
    {"mprotect", [] { return ::syscall(SYS_mprotect, guarded, page, both); }},
    {"mprotect-from-below", [] { return ::syscall(SYS_mprotect, at(window_base - page), 66 * page, both); }},
    {"mprotect-from-far-below",
     [] { return ::syscall(SYS_mprotect, at(page), window_base + 65 * page, both); }},
    {"munmap", [] { return ::syscall(SYS_munmap, guarded, page); }},
    {"munmap-from-below", [] { return ::syscall(SYS_munmap, at(window_base - page), 66 * page); }},
    {"mmap-over", [] { return map(guarded, page, both, fixed | anonymous); }},
    {"mmap-over-inaccessible", [] { return map(guarded, page, PROT_NONE, fixed | anonymous); }},
    {"mmap-over-from-below", [] { return map(at(window_base - page), 66 * page, both, fixed | anonymous); }},
    {"mmap-both-flags", [] { return map(unused, page, both, fixed | fresh | anonymous); }},
    {"mmap-hint", [] { return map(unused, page, both, anonymous); }},
    {"mmap-code", [] { return map(unused, page, PROT_READ | PROT_EXEC, fresh | anonymous); }},
    {"mmap-another-file-over",
     [] { return map(guarded, page, PROT_NONE, fixed | MAP_SHARED, ::memfd_create("x", 0)); }},
    {"grave-readable", [] { return map(guarded, page, PROT_READ, fixed | MAP_SHARED, grave_fd); }},
    {"grave-anonymous", [] { return map(guarded, page, PROT_NONE, fixed | anonymous, grave_fd); }},
    {"mremap-away", [] { return ::syscall(SYS_mremap, guarded, page, page, MREMAP_MAYMOVE, 0); }},
    {"mremap-duplicate", [] { return ::syscall(SYS_mremap, guarded, 0, page, MREMAP_MAYMOVE, 0); }},
    {"mremap-over",
     [] { return ::syscall(SYS_mremap, plain_page(), page, page, MREMAP_MAYMOVE | MREMAP_FIXED, guarded); }},
    {"mremap-over-from-below",
     [] {
       return ::syscall(SYS_mremap, map(nullptr, 66 * page, both, anonymous), 66 * page, 66 * page,
                        MREMAP_MAYMOVE | MREMAP_FIXED, at(window_base - page));
     }},
    {"mremap-hint",
     [] {
       const long got =
           ::syscall(SYS_mremap, plain_page(), page, page, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, unused);
       return got == -1 || at(static_cast<std::uintptr_t>(got)) == unused ? got : elsewhere();
     }},
    {"madvise-dontneed", [] { return ::syscall(SYS_madvise, guarded, page, MADV_DONTNEED); }},
    {"madvise-free", [] { return ::syscall(SYS_madvise, guarded, page, MADV_FREE); }},
    {"madvise-remove", [] { return ::syscall(SYS_madvise, guarded, page, MADV_REMOVE); }},
    {"madvise-dofork", [] { return ::syscall(SYS_madvise, guarded, page, MADV_DOFORK); }},
    {"madvise-dodump", [] { return ::syscall(SYS_madvise, guarded, page, MADV_DODUMP); }},
    {"madvise-keeponfork", [] { return ::syscall(SYS_madvise, guarded, page, MADV_KEEPONFORK); }},
    {"madvise-mergeable", [] { return ::syscall(SYS_madvise, guarded, page, MADV_MERGEABLE); }},
    {"madvise-from-below",
     [] { return ::syscall(SYS_madvise, at(window_base - page), 66 * page, MADV_DONTNEED); }},
    {"process_madvise",
     [] {
       iovec range{guarded, page};
       return ::syscall(SYS_process_madvise, ::syscall(SYS_pidfd_open, ::getpid(), 0), &range, 1, MADV_COLD,
                        0);
     }},
    {"munlock", [] { return ::syscall(SYS_munlock, guarded, page); }},
    {"munlockall", [] { return ::syscall(SYS_munlockall); }},
    {"remap_file_pages", [] { return ::syscall(SYS_remap_file_pages, guarded, page, 0, 0, 0); }},
    {"shmat-over", [] { return attach_shared_memory(guarded, SHM_REMAP); }},
    {"shmat-over-from-far-below", attach_shared_memory_from_far_below},
    // Keys.
    {"pkey_mprotect-without-a-key", [] { return ::syscall(SYS_pkey_mprotect, guarded, page, both, -1); }},
    {"pkey_mprotect-upper-half",
     [] { return ::syscall(SYS_pkey_mprotect, guarded, page, both, upper | 0xffffffff); }},
    {"pkey_mprotect-key-0", [] { return ::syscall(SYS_pkey_mprotect, guarded, page, both, 0); }},
    {"pkey_mprotect-code", [] { return ::syscall(SYS_pkey_mprotect, guarded, page, PROT_EXEC, 1); }},
    {"pkey_mprotect-from-below",
     [] { return ::syscall(SYS_pkey_mprotect, at(window_base - page), 66 * page, both, 1); }},
    {"pkey_alloc-open", [] { return ::syscall(SYS_pkey_alloc, 0, 0); }},
    {"pkey_alloc-readable", [] { return ::syscall(SYS_pkey_alloc, 0, PKEY_DISABLE_WRITE); }},
    {"pkey_free", [] { return ::syscall(SYS_pkey_free, ::syscall(SYS_pkey_alloc, 0, PKEY_DISABLE_ACCESS)); }},
    // The grave's descriptor.
    {"close-grave", [] { return ::syscall(SYS_close, grave_fd); }},
    {"close-grave-upper-half", [] { return ::syscall(SYS_close, upper | grave_fd); }},
    {"dup2-grave", [] { return ::syscall(SYS_dup2, 1, grave_fd); }},
    {"dup3-grave", [] { return ::syscall(SYS_dup3, 1, grave_fd, 0); }},
    {"close_range-grave", [] { return ::syscall(SYS_close_range, grave_fd - 1, ~0u, 0); }},
    // Other doors.
    {"ptrace", [] { return ::syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0); }},
    {"process_vm_readv",
     [] {
       char byte;
       iovec to{&byte, 1}, from{guarded, 1};
       return ::syscall(SYS_process_vm_readv, ::getpid(), &to, 1, &from, 1, 0L);
     }},
    {"process_vm_writev",
     [] {
       char byte = 'x';
       iovec from{&byte, 1}, to{guarded, 1};
       return ::syscall(SYS_process_vm_writev, ::getpid(), &from, 1, &to, 1, 0L);
     }},
    {"kcmp", [] { return ::syscall(SYS_kcmp, ::getpid(), ::getpid(), 1, 0, 0); }},
    {"pidfd_getfd",
     [] { return ::syscall(SYS_pidfd_getfd, ::syscall(SYS_pidfd_open, ::getpid(), 0), 1, 0); }},
    {"io_uring_setup",
     [] {
       char parameters[120]{};
       return ::syscall(SYS_io_uring_setup, 1, parameters);
     }},
    {"userfaultfd", [] { return ::syscall(SYS_userfaultfd, O_CLOEXEC | 1); }},
    {"userfaultfd-device", [] { return ::syscall(SYS_ioctl, 1, upper | 0xAA00, 0); }},
    {"modify_ldt",
     [] {
       char entries[64];
       return ::syscall(SYS_modify_ldt, 0, entries, sizeof entries);
     }},
    {"bpf", [] { return ::syscall(SYS_bpf, 0, nullptr, 0); }},
    {"perf_event_open", [] { return ::syscall(SYS_perf_event_open, nullptr, 0, -1, -1, 0); }},
    {"open_by_handle_at", [] { return ::syscall(SYS_open_by_handle_at, AT_FDCWD, nullptr, O_RDONLY); }},
    {"personality", [] { return ::syscall(SYS_personality, READ_IMPLIES_EXEC); }},
    {"tagged-addresses", [] { return ::syscall(SYS_arch_prctl, 0x4002, 6); }},
    {"map-vdso", [] { return ::syscall(SYS_arch_prctl, 0x2003, 0x10000); }},
    {"dumpable", [] { return ::syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0); }},
    {"dumpable-upper-half", [] { return ::syscall(SYS_prctl, upper | PR_SET_DUMPABLE, 1, 0, 0, 0); }},
    {"prctl-mm", [] { return ::syscall(SYS_prctl, PR_SET_MM, PR_SET_MM_BRK, 0, 0, 0); }},
    {"dispatch",
     [] { return ::syscall(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0); }},
    {"ptracer", [] { return ::syscall(SYS_prctl, PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0); }},
    {"clone-memory", [] { return share_memory_with_a_process(0); }},
    {"clone-memory-and-wait", [] { return share_memory_with_a_process(CLONE_VFORK); }},
    {"clone-user-namespace",
     [] { return forked(::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)); }},
    {"clone3", [] { return ::syscall(SYS_clone3, nullptr, 0); }},
    {"own-memory-by-path", [] { return static_cast<long>(::open("/proc/self/mem", O_RDWR)); }},
    // New code.
    {"writable-code", [] { return map(nullptr, page, PROT_READ | PROT_WRITE | PROT_EXEC, anonymous); }},
    {"anonymous-code", [] { return map(nullptr, page, PROT_READ | PROT_EXEC, anonymous); }},
    {"file-code", executable_file},
    {"make-code", [] { return ::syscall(SYS_mprotect, plain_page(), page, PROT_READ | PROT_EXEC); }},
    {"pkey-make-code",
     [] { return ::syscall(SYS_pkey_mprotect, plain_page(), page, PROT_READ | PROT_EXEC, -1); }},
    {"shm-code", [] { return attach_shared_memory(nullptr, SHM_EXEC); }},
    {"execve", [] { return begin_program(false); }},
    {"execveat", [] { return begin_program(true); }},
    {"seccomp", [] { return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, nullptr); }},
    {"prctl-seccomp", [] { return ::syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 0, 0, 0); }},
    {"code-beside-code", [] { return move_code(first_half, page, MREMAP_FIXED, place_for_it); }},
    {"code-beside-code-by-hint", move_code_to_a_free_place},
    {"code-beside-code-from-below", move_code_from_below},
    {"changed-file", change_file_of_code},
    {"wrpkru", find_wrpkru},
    // Killed.
    {"32-bit", call_of_32_bit},
    {"x32", x32_call},
    {"unshare-user-namespace", [] { return ::syscall(SYS_unshare, CLONE_NEWUSER); }},
    // What the library itself does.
    {"library-map", [] { return map(unused + page, page, PROT_NONE, fresh | anonymous); }},
    {"library-map-where-something-is", [] { return map(guarded, page, PROT_NONE, fresh | anonymous); }},
    {"library-key", [] { return ::syscall(SYS_pkey_alloc, 0, PKEY_DISABLE_ACCESS); }},
    {"library-tag", [] { return ::syscall(SYS_pkey_mprotect, guarded, page, both, 1); }},
    {"library-dontfork", [] { return ::syscall(SYS_madvise, guarded, page, MADV_DONTFORK); }},
    {"library-dontdump", [] { return ::syscall(SYS_madvise, guarded, page, MADV_DONTDUMP); }},
    {"library-wipeonfork", [] { return ::syscall(SYS_madvise, guarded, page, MADV_WIPEONFORK); }},
    {"library-bury", grave},
    {"touch-what-is-buried", [] { return static_cast<long>(static_cast<volatile char&>(*guarded)); }},
    {"ordinary-mapping", [] { return ::syscall(SYS_mprotect, plain_page(), page, PROT_READ); }},
    {"moves-are-refused-for-code-alone", moves_are_refused_for_code_alone},
    {"grow-memory", grow_memory},
    {"grow-allocation", grow_allocation},
    {"dumpable-off", [] { return ::syscall(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0); }},
};

}  // namespace

int main(int count, char** arguments) {
  if (map(guarded, page, both, fresh | anonymous) != reinterpret_cast<long>(guarded)) return 2;
  *guarded = secret;
  for (int i = 1; i < count; ++i) {
    const auto attempt = attempts.find(arguments[i]);
    if (attempt == attempts.end()) return 3;
    errno = 0;
    const long result = attempt->second();
    std::printf("%s %s\n", arguments[i], result == -1 ? ::strerrorname_np(errno) : "done");
    std::fflush(stdout);
  }
  return 0;
}
