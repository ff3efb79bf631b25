#include "bailey/guard/strict.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string_view>

#include "bailey/base/fd.h"
#include "bailey/guard/program_file.h"
#include "bailey/guard/strict_agent_image.h"
#include "bailey/guard/strict_filter.h"
#include "bailey/guard/strict_layout.h"
#include "bailey/guard/usher.h"

namespace bailey::guard {
namespace {

constexpr unsigned long personality_asked = 0xffff'ffff;

std::unexpected<Error> refused(std::string why, std::string to_do) {
  return fail(Code::unsupported, By::library, std::move(why), std::move(to_do));
}

// As execvp(3) finds it.
Result<std::string> find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  const char* variable = std::getenv("PATH");
  std::string_view left = variable != nullptr ? variable : "/usr/local/bin:/usr/bin:/bin";
  for (;;) {
    const std::size_t colon = left.find(':');
    const std::string_view folder = left.substr(0, colon);
    std::string path = fmt::format("{}/{}", folder.empty() ? "." : folder, name);
    struct stat status;
    if (::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && ::access(path.c_str(), X_OK) == 0)
      return path;
    if (colon == std::string_view::npos)
      return fail(Code::not_found, By::library,
                  fmt::format("there is no program {} in the folders of PATH", name));
    left.remove_prefix(colon + 1);
  }
}

Result<ProgramFile> read_file(const std::string& path) {
  Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status;
  if (!file || ::fstat(file.get(), &status) != 0)
    return fail_os(errno, fmt::format("could not read {}", path));
  if (!S_ISREG(status.st_mode) || status.st_size == 0)
    return refused(fmt::format("{} is no program", path), {});
  const auto bytes = static_cast<std::size_t>(status.st_size);
  void* mapped = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (mapped == MAP_FAILED) return fail_os(errno, fmt::format("could not read {}", path));
  auto program = read_program_file({static_cast<const std::byte*>(mapped), bytes});
  ::munmap(mapped, bytes);
  if (!program) program.error().message = fmt::format("{}: {}", path, program.error().message);
  return program;
}

bool same_file(const std::string& one, const std::string& other) {
  struct stat a, b;
  return ::stat(one.c_str(), &a) == 0 && ::stat(other.c_str(), &b) == 0 && a.st_dev == b.st_dev &&
         a.st_ino == b.st_ino;
}

// Whether its ld.so is the one that we know to load the agent first.
Status check_program(const std::string& path) {
  const ProgramFile program = BAILEY_TRY(read_file(path));
  const ProgramFile ours = BAILEY_TRY(read_file("/proc/self/exe"));
  if (program.interpreter.empty() || !program.needs_library)
    return refused(fmt::format("{} is statically linked: nothing would look through its code", path),
                   "link it with the system's libc");
  if (!same_file(program.interpreter, ours.interpreter))
    return refused(
        fmt::format("{} is begun by {}, bailey by {}: only with that one the code is looked through", path,
                    program.interpreter, ours.interpreter),
        "link it with the system's libc");
  return {};
}

Status check_surroundings() {
  if (::getauxval(AT_SECURE) != 0)
    return refused("bailey runs with rights of its file (setuid, or file capabilities)",
                   "run it without these");
  if (std::getenv("LD_AUDIT") != nullptr)
    return refused("LD_AUDIT is set, and only one audit module can be the first", "unset it");
  for (int fd = strict_fd_min; fd < strict_fd_end; ++fd)
    if (::fcntl(fd, F_GETFD) >= 0)
      return refused(fmt::format("the descriptor {} is open here; {} to {} are used", fd, strict_fd_min,
                                 strict_fd_end - 1),
                     "close it before");
  return {};
}

Status set_limits() {
  rlimit open_files;
  if (::getrlimit(RLIMIT_NOFILE, &open_files) != 0) return fail_os(errno, "getrlimit");
  if (open_files.rlim_cur < strict_fd_end) {
    open_files.rlim_cur = strict_fd_end;
    if (::setrlimit(RLIMIT_NOFILE, &open_files) != 0)
      return fail_os(errno, fmt::format("a process must be allowed {} descriptors", strict_fd_end),
                     "ulimit -n");
  }
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return fail_os(errno, "could not forbid core dumps");
  // Inherited READ_IMPLIES_EXEC would make all that is readable executable.
  const int inherited = ::personality(personality_asked);
  if (inherited < 0 || ::personality(static_cast<unsigned long>(inherited & ~READ_IMPLIES_EXEC)) < 0)
    return fail_os(errno, "personality");
  return {};
}

Result<Fd> sealed_file(const char* name, std::span<const std::byte> bytes) {
  Fd file(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return fail_os(errno, "memfd_create");
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(file.get(), bytes.data(), bytes.size());
    if (wrote < 0) return fail_os(errno, "could not fill a memory file");
    bytes = bytes.subspan(static_cast<std::size_t>(wrote));
  }
  return file;
}
Status seal(const Fd& file) {
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0)
    return fail_os(errno, "could not seal a memory file");
  return {};
}

// The program has it under this number.
Status leave(const Fd& file, int number) {
  if (::dup2(file.get(), number) != number) return fail_os(errno, "dup2");
  return {};
}

// What LD_PRELOAD says of them, and has said before.
Result<std::string> preloaded(const std::vector<std::string>& files) {
  std::string names;
  for (const std::string& file : files) {
    BAILEY_TRY(read_file(file));
    // ld.so looks for a name without a slash in folders of its own.
    const std::string name = std::filesystem::absolute(file).string();
    if (name.find_first_of(": ") != std::string::npos)
      return refused(fmt::format("{} can't be preloaded: ':' and ' ' end a name in LD_PRELOAD", name),
                     "name it by a path without them");
    names += names.empty() ? name : ":" + name;
  }
  const char* before = std::getenv("LD_PRELOAD");
  if (before != nullptr && *before != 0) names += fmt::format(":{}", before);
  return names;
}

// Where there is an audit module ld.so lays out the storage of threads before it knows the program's
// libraries: those whose code has it at a fixed place (the model "initial-exec", as jemalloc's) are to fit
// into what it keeps for libraries that are loaded late, which is half a KiB. Each thread's stack has it.
std::string tunables_with_room() {
  constexpr std::string_view name = "glibc.rtld.optional_static_tls";
  const char* variable = std::getenv("GLIBC_TUNABLES");
  std::string tunables = variable != nullptr ? variable : "";
  if (tunables.find(name) != std::string::npos) return tunables;
  if (!tunables.empty()) tunables += ":";
  return fmt::format("{}{}={}", tunables, name, 8192);
}

Status set_environment(const std::string& preload) {
  // Everything bound at the start: the code of lazy binding is taken out (scan.h).
  if (::setenv("LD_AUDIT", fmt::format("/proc/self/fd/{}", agent_fd).c_str(), 1) != 0 ||
      ::setenv("LD_BIND_NOW", "1", 1) != 0 ||
      ::setenv("GLIBC_TUNABLES", tunables_with_room().c_str(), 1) != 0 ||
      (!preload.empty() && ::setenv("LD_PRELOAD", preload.c_str(), 1) != 0))
    return fail_os(errno, "setenv");
  return {};
}

Status prepare(const std::string& path, const std::vector<std::string>& preload) {
  BAILEY_TRY(check_surroundings());
  BAILEY_TRY(check_program(path));
  const std::string libraries = preload.empty() ? std::string() : BAILEY_TRY(preloaded(preload));
  BAILEY_TRY(set_limits());
  const Fd agent = BAILEY_TRY(sealed_file("bailey-agent", strict_agent_image()));
  const Fd grave = BAILEY_TRY(sealed_file("bailey-grave", {}));
  const Fd lock = BAILEY_TRY(lock_filter());
  for (const Fd* file : {&agent, &grave, &lock}) BAILEY_TRY(seal(*file));
  const Fd usher = BAILEY_TRY(call_usher(agent.get()));
  BAILEY_TRY(leave(agent, agent_fd));
  BAILEY_TRY(leave(lock, lock_filter_fd));
  BAILEY_TRY(leave(usher, usher_fd));
  BAILEY_TRY(leave(grave, grave_fd));
  BAILEY_TRY(set_environment(libraries));
  BAILEY_TRY(refuse_ways_around());
  return give_listener(usher, BAILEY_TRY(ask_about_executable_mappings()));
}

}  // namespace

Error exec_strictly(const std::vector<std::string>& arguments, const std::vector<std::string>& preload) {
  const auto path = find_program(arguments.front());
  if (!path) return path.error();
  if (auto ready = prepare(*path, preload); !ready) return std::move(ready).error();
  std::vector<char*> pointers;
  for (const std::string& one : arguments) pointers.push_back(const_cast<char*>(one.c_str()));
  pointers.push_back(nullptr);
  ::execve(path->c_str(), pointers.data(), environ);
  return fail_os(errno, fmt::format("could not begin {}", *path)).error();
}

}  // namespace bailey::guard
