// What strict_hostile tries of what `bailey exec --strict` refuses: for its test, and for the attack suite.
#pragma once

#include <string_view>

namespace bailey::guard {

struct StrictAttempt {
  const char* name;
  // What it comes to where nothing stops it; null: not told, since it meets another refusal.
  const char* unprotected = nullptr;
};

inline constexpr StrictAttempt on_the_window[]{{"mprotect", "done"},
                                               {"mprotect-from-below", "ENOMEM"},
                                               {"mprotect-from-far-below"},
                                               {"munmap", "done"},
                                               {"munmap-from-below"},
                                               {"mmap-over", "done"},
                                               {"mmap-over-inaccessible", "done"},
                                               {"mmap-over-from-below", "done"},
                                               {"mmap-both-flags"},
                                               {"mmap-hint", "done"},
                                               {"mmap-code", "done"},
                                               {"mmap-another-file-over", "done"},
                                               {"grave-readable"},
                                               {"grave-anonymous"},
                                               {"mremap-away", "done"},
                                               {"mremap-duplicate"},
                                               {"mremap-over", "done"},
                                               {"mremap-over-from-below"},
                                               {"mremap-hint", "done"},
                                               {"madvise-dontneed", "done"},
                                               {"madvise-free", "done"},
                                               {"madvise-remove"},
                                               {"madvise-dofork", "done"},
                                               {"madvise-dodump", "done"},
                                               {"madvise-keeponfork"},
                                               {"madvise-mergeable"},
                                               {"madvise-from-below"},
                                               {"process_madvise"},
                                               {"munlock", "done"},
                                               {"munlockall", "done"},
                                               {"remap_file_pages"},
                                               {"shmat-over", "done"},
                                               {"shmat-over-from-far-below", "done"},
                                               {"pkey_mprotect-without-a-key", "done"},
                                               {"pkey_mprotect-upper-half"},
                                               {"pkey_mprotect-key-0"},
                                               {"pkey_mprotect-code"},
                                               {"pkey_mprotect-from-below"},
                                               {"pkey_alloc-open"},
                                               {"pkey_alloc-readable"},
                                               {"pkey_free"},
                                               {"close-grave"},
                                               {"close-grave-upper-half"},
                                               {"dup2-grave"},
                                               {"dup3-grave"},
                                               {"close_range-grave"}};
inline constexpr StrictAttempt other_doors[]{{"ptrace", "done"},
                                             {"process_vm_readv", "done"},
                                             {"process_vm_writev", "done"},
                                             {"kcmp"},
                                             {"pidfd_getfd"},
                                             {"io_uring_setup"},
                                             {"userfaultfd"},
                                             {"userfaultfd-device"},
                                             {"modify_ldt"},
                                             {"bpf"},
                                             {"perf_event_open"},
                                             {"open_by_handle_at"},
                                             {"personality", "done"},
                                             {"tagged-addresses"},
                                             {"map-vdso"},
                                             {"dumpable", "done"},
                                             {"dumpable-upper-half"},
                                             {"prctl-mm"},
                                             {"dispatch"},
                                             {"ptracer"},
                                             {"clone-memory", "done"},
                                             {"clone-memory-and-wait", "done"},
                                             {"clone-user-namespace"},
                                             {"unshare-user-namespace"},
                                             {"clone3", "EINVAL"}};
inline constexpr StrictAttempt new_code[]{
    {"writable-code", "done"},  {"anonymous-code", "done"}, {"file-code", "done"}, {"make-code", "done"},
    {"pkey-make-code", "done"}, {"shm-code", "done"},       {"execve", "done"},    {"execveat", "done"},
    {"seccomp", "EFAULT"},      {"prctl-seccomp", "EFAULT"}};
// From below: kernels from 6.17 on do it.
inline constexpr StrictAttempt moved_code[]{
    {"code-beside-code", "done"}, {"code-beside-code-by-hint", "done"}, {"code-beside-code-from-below"}};

// With what --strict refuses it. C libraries know what to do where the kernel has no clone3.
inline constexpr const char* refusal_of(const StrictAttempt& attempt) {
  return std::string_view(attempt.name) == "clone3" ? "ENOSYS" : "EPERM";
}

}  // namespace bailey::guard
