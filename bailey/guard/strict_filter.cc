#include "bailey/guard/strict_filter.h"

#include <asm/prctl.h>
#include <fmt/format.h>
#include <seccomp.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/shm.h>

#include <cerrno>
#include <initializer_list>
#include <memory>
#include <vector>

#include "bailey/guard/strict_layout.h"
#include "bailey/guard/window.h"

#ifndef MREMAP_FIXED
#define MREMAP_FIXED 2
#endif

namespace bailey::guard {
namespace {

using Conditions = std::vector<scmp_arg_cmp>;

// Not in the headers of every Linux that this is built on.
constexpr std::uint64_t arch_map_vdso_first = 0x2001, arch_map_vdso_last = 0x2003;
constexpr std::uint64_t arch_enable_tagged_addr = 0x4002, arch_force_tagged_sva = 0x4003;
constexpr std::uint64_t userfaultfd_new = 0xAA00;
constexpr std::uint64_t shm_exec = 0100000;

// The kernel takes 32 bits of such an argument, whatever the register's other half holds.
constexpr std::uint64_t low_half = 0xffff'ffff;

// A range of addresses begins below the window, and reaches it at most if it is as long as this; nothing of
// an ordinary process lies between `below` and the window. A filter can compare, and can't add.
constexpr std::uint64_t below = window_base / 2;
static_assert((below & (below - 1)) == 0 && (window_bytes & (window_bytes - 1)) == 0 &&
              window_base % window_bytes == 0);

scmp_arg_cmp is(unsigned arg, std::uint64_t mask, std::uint64_t value) {
  return {arg, SCMP_CMP_MASKED_EQ, mask, value};
}
scmp_arg_cmp compare(unsigned arg, scmp_compare how, std::uint64_t value) { return {arg, how, value, 0}; }
scmp_arg_cmp in_window(unsigned arg) { return is(arg, ~(std::uint64_t{window_bytes} - 1), window_base); }

// One filter in the making. Rules that can't be added are remembered and told at the end.
class Filter {
 public:
  Filter() : context_(seccomp_init(SCMP_ACT_ALLOW)) {
    // 32-bit entry and x32: other numbers, and arguments that the rules don't know.
    if (context_ != nullptr)
      wrong_ = seccomp_attr_set(context_.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  }

  void add(std::uint32_t action, int call, const Conditions& conditions) {
    if (context_ == nullptr || wrong_ != 0) return;
    wrong_ = seccomp_rule_add_array(context_.get(), action, call, static_cast<unsigned>(conditions.size()),
                                    conditions.data());
  }
  void refuse(int call, const Conditions& conditions = {}) { add(SCMP_ACT_ERRNO(EPERM), call, conditions); }

  // [address, address + length) meets the window, but for what begins inside it.
  void refuse_reaching_in(int call, unsigned address, unsigned length, const Conditions& more = {}) {
    auto with = [&](Conditions conditions) {
      conditions.insert(conditions.end(), more.begin(), more.end());
      refuse(call, conditions);
    };
    with({is(address, ~(below - 1), below)});
    with({compare(address, SCMP_CMP_LT, below), compare(length, SCMP_CMP_GT, below)});
  }
  // [address, address + length) meets the window.
  void refuse_meeting(int call, unsigned address, unsigned length, const Conditions& more = {}) {
    refuse_reaching_in(call, address, length, more);
    Conditions inside{in_window(address)};
    inside.insert(inside.end(), more.begin(), more.end());
    refuse(call, inside);
  }

  Status load() {
    if (context_ != nullptr && wrong_ == 0) wrong_ = seccomp_load(context_.get());
    return told();
  }
  // Of a loaded filter with a rule SCMP_ACT_NOTIFY; the caller's.
  int asking() const { return seccomp_notify_fd(context_.get()); }
  Status export_to(int fd) {
    if (context_ != nullptr && wrong_ == 0) wrong_ = seccomp_export_bpf(context_.get(), fd);
    return told();
  }

 private:
  struct Release {
    void operator()(scmp_filter_ctx context) const { seccomp_release(context); }
  };

  Status told() const {
    if (context_ != nullptr && wrong_ == 0) return {};
    return std::unexpected(Error{Code::unsupported, By::kernel, context_ == nullptr ? ENOMEM : -wrong_,
                                 "could not make a filter of system calls (seccomp)",
                                 "a kernel from 5.5 on with seccomp filters is needed"});
  }

  std::unique_ptr<void, Release> context_;
  int wrong_ = 0;
};

// The window. What lies in it stays as it is and where it is: new pages come only where none are, closed or
// with a key; places that are given up become graves.
void hold_the_window(Filter& filter) {
  constexpr std::uint64_t how = MAP_FIXED | MAP_FIXED_NOREPLACE;
  filter.refuse_reaching_in(SCMP_SYS(mmap), 0, 1);
  for (std::uint64_t flags : {std::uint64_t{0}, how})
    filter.refuse(SCMP_SYS(mmap), {in_window(0), is(3, how, flags)});
  filter.refuse(SCMP_SYS(mmap), {in_window(0), is(2, PROT_EXEC, PROT_EXEC)});
  // Replacing: by the grave alone, inaccessible.
  filter.refuse(SCMP_SYS(mmap), {in_window(0), is(3, how | MAP_ANONYMOUS, MAP_FIXED | MAP_ANONYMOUS)});
  filter.refuse(SCMP_SYS(mmap), {in_window(0), is(3, how, MAP_FIXED), compare(2, SCMP_CMP_NE, PROT_NONE)});
  filter.refuse(SCMP_SYS(mmap), {in_window(0), is(3, how, MAP_FIXED), compare(4, SCMP_CMP_NE, grave_fd)});

  filter.refuse_meeting(SCMP_SYS(munmap), 0, 1);
  filter.refuse_meeting(SCMP_SYS(mprotect), 0, 1);
  filter.refuse_meeting(SCMP_SYS(munlock), 0, 1);
  filter.refuse(SCMP_SYS(munlockall));
  filter.refuse(SCMP_SYS(remap_file_pages));

  filter.refuse_meeting(SCMP_SYS(mremap), 0, 1);
  filter.refuse(SCMP_SYS(mremap), {compare(2, SCMP_CMP_GT, below)});
  // Whatever the flags: more than one of them makes the kernel look at it.
  filter.refuse_meeting(SCMP_SYS(mremap), 4, 2);

  // How long a segment is the filter does not see. So shmdt has nothing in the window that it could unmap.
  filter.refuse(SCMP_SYS(shmat), {compare(1, SCMP_CMP_NE, 0)});

  // What keeps pages from children and core dumps is welcome; all else drops, fills or opens them.
  static_assert(MADV_DONTFORK == 10 && MADV_DONTDUMP == 16 && MADV_WIPEONFORK == 18);
  filter.refuse_reaching_in(SCMP_SYS(madvise), 0, 1);
  filter.refuse(SCMP_SYS(madvise), {in_window(0), compare(2, SCMP_CMP_LT, MADV_DONTFORK)});
  for (int advice : {11, 12, 13, 14, 15, 17})
    filter.refuse(SCMP_SYS(madvise), {in_window(0), is(2, low_half, static_cast<std::uint64_t>(advice))});
  filter.refuse(SCMP_SYS(madvise), {in_window(0), compare(2, SCMP_CMP_GT, MADV_WIPEONFORK)});
  filter.refuse(SCMP_SYS(process_madvise));

  // A key, and never the key 0, which is open to all; -1 leaves the key and changes the rest.
  filter.refuse_reaching_in(SCMP_SYS(pkey_mprotect), 0, 1);
  filter.refuse(SCMP_SYS(pkey_mprotect), {in_window(0), is(2, PROT_EXEC, PROT_EXEC)});
  for (std::uint64_t key : {std::uint64_t{0}, low_half})
    filter.refuse(SCMP_SYS(pkey_mprotect), {in_window(0), is(3, low_half, key)});
  // The kernel gives the caller the rights to a new key that it asks for.
  filter.refuse(SCMP_SYS(pkey_alloc), {is(1, PKEY_DISABLE_ACCESS, 0)});
  // Pages keep a key that is freed, and the kernel gives it out again for others.
  filter.refuse(SCMP_SYS(pkey_free));

  filter.refuse(SCMP_SYS(close), {is(0, low_half, grave_fd)});
  filter.refuse(SCMP_SYS(dup2), {is(1, low_half, grave_fd)});
  filter.refuse(SCMP_SYS(dup3), {is(1, low_half, grave_fd)});
  filter.refuse(SCMP_SYS(close_range), {compare(1, SCMP_CMP_GE, grave_fd)});
}

// Kernel paths that reach memory without asking PKRU, and those that make addresses or calls mean something
// else than the filter read.
void refuse_other_doors(Filter& filter) {
  for (int call : {SCMP_SYS(ptrace),
                   SCMP_SYS(process_vm_readv),
                   SCMP_SYS(process_vm_writev),
                   SCMP_SYS(kcmp),
                   SCMP_SYS(pidfd_getfd),
                   SCMP_SYS(io_uring_setup),
                   SCMP_SYS(io_uring_enter),
                   SCMP_SYS(io_uring_register),
                   SCMP_SYS(userfaultfd),
                   SCMP_SYS(modify_ldt),
                   SCMP_SYS(uselib),
                   SCMP_SYS(bpf),
                   SCMP_SYS(perf_event_open),
                   SCMP_SYS(open_by_handle_at),
                   SCMP_SYS(kexec_load),
                   SCMP_SYS(kexec_file_load),
                   SCMP_SYS(init_module),
                   SCMP_SYS(finit_module),
                   SCMP_SYS(iopl),
                   SCMP_SYS(ioperm),
                   SCMP_SYS(vfork)})
    filter.refuse(call);
  filter.refuse(SCMP_SYS(ioctl), {is(1, low_half, userfaultfd_new)});
  // Asking is not changing.
  filter.refuse(SCMP_SYS(personality), {compare(0, SCMP_CMP_NE, low_half)});

  for (std::uint64_t option = arch_map_vdso_first; option <= arch_map_vdso_last; ++option)
    filter.refuse(SCMP_SYS(arch_prctl), {is(0, low_half, option)});
  // Address tags: the kernel would take them off after the filter has looked.
  filter.refuse(SCMP_SYS(arch_prctl), {is(0, low_half, arch_enable_tagged_addr)});
  filter.refuse(SCMP_SYS(arch_prctl), {is(0, low_half, arch_force_tagged_sva)});

  filter.refuse(SCMP_SYS(prctl), {is(0, low_half, PR_SET_DUMPABLE), compare(1, SCMP_CMP_NE, 0)});
  for (int option : {PR_SET_MM, PR_SET_SYSCALL_USER_DISPATCH, PR_SET_PTRACER})
    filter.refuse(SCMP_SYS(prctl), {is(0, low_half, static_cast<std::uint64_t>(option))});

  // A thread, or a copy: nobody who shares memory and is neither. clone3 has its flags in memory, where no
  // filter sees them; without it libc takes clone.
  filter.refuse(SCMP_SYS(clone), {is(0, CLONE_VM | CLONE_THREAD, CLONE_VM)});
  filter.refuse(SCMP_SYS(clone), {is(0, CLONE_NEWUSER, CLONE_NEWUSER)});
  filter.refuse(SCMP_SYS(unshare), {is(0, CLONE_NEWUSER, CLONE_NEWUSER)});
  filter.add(SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), {});
}

// Nothing is writable and executable, at no time.
void hold_write_xor_execute(Filter& filter) {
  constexpr std::uint64_t both = PROT_WRITE | PROT_EXEC;
  for (int call : {SCMP_SYS(mmap), SCMP_SYS(mprotect), SCMP_SYS(pkey_mprotect)})
    filter.refuse(call, {is(2, both, both)});
  filter.refuse(SCMP_SYS(shmat), {is(2, shm_exec, shm_exec)});
}

}  // namespace

Status refuse_ways_around() {
  Filter filter;
  hold_the_window(filter);
  refuse_other_doors(filter);
  hold_write_xor_execute(filter);
  return filter.load();
}

Result<Fd> ask_about_executable_mappings() {
  Filter filter;
  filter.add(SCMP_ACT_NOTIFY, SCMP_SYS(mmap), {is(2, PROT_EXEC, PROT_EXEC)});
  BAILEY_TRY(filter.load());
  return Fd(filter.asking());
}

Result<Fd> lock_filter() {
  Filter filter;
  for (int call : {SCMP_SYS(mmap), SCMP_SYS(mprotect), SCMP_SYS(pkey_mprotect)})
    filter.refuse(call, {is(2, PROT_EXEC, PROT_EXEC)});
  for (int call : {SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(seccomp)}) filter.refuse(call);
  filter.refuse(SCMP_SYS(prctl), {is(0, low_half, PR_SET_SECCOMP)});
  Fd file(::memfd_create("bailey-lock", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return fail_os(errno, "memfd_create");
  BAILEY_TRY(filter.export_to(file.get()));
  return file;
}

}  // namespace bailey::guard
