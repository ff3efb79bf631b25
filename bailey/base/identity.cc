#include "bailey/base/identity.h"

#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <mutex>

#include "bailey/base/fd.h"

namespace bailey {

void random_bytes(void* out, std::size_t count) {
  auto* at = static_cast<std::uint8_t*>(out);
  while (count > 0) {
    ssize_t got = ::getrandom(at, count, 0);
    if (got < 0 && errno == EINTR) continue;
    BAILEY_ASSERT(got > 0);
    at += got;
    count -= static_cast<std::size_t>(got);
  }
}

Result<std::array<std::uint8_t, 16>> boot_id() {
  std::string text = BAILEY_TRY(read_file("/proc/sys/kernel/random/boot_id"));
  std::array<std::uint8_t, 16> id{};
  std::size_t digits = 0;
  for (char c : text) {
    int value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (value < 0) continue;
    if (digits == 32) break;
    id[digits / 2] = static_cast<std::uint8_t>(id[digits / 2] << 4 | value);
    ++digits;
  }
  if (digits != 32) return fail(Code::corrupt, By::kernel, "boot_id is not 32 hexadecimal digits");
  return id;
}

Result<std::uint64_t> start_ticks_of(pid_t pid) {
  // Whether or not /proc is that of this pid namespace, "self" is who asks.
  auto stat = read_file(pid == ::getpid() ? "/proc/self/stat" : fmt::format("/proc/{}/stat", pid));
  if (!stat) return fail(Code::not_found, By::kernel, fmt::format("there is no process {}", pid));
  // The command's name is in parentheses and may hold anything: count fields after the last one.
  std::size_t at = stat->rfind(')');
  if (at == std::string::npos) return fail(Code::corrupt, By::kernel, "/proc/PID/stat has no name");
  at += 2;
  for (int field = 3; field < 22; ++field) {
    at = stat->find(' ', at);
    if (at == std::string::npos) return fail(Code::corrupt, By::kernel, "/proc/PID/stat is too short");
    ++at;
  }
  std::uint64_t ticks = 0;
  auto [end, error] = std::from_chars(stat->data() + at, stat->data() + stat->size(), ticks);
  if (error != std::errc()) return fail(Code::corrupt, By::kernel, "/proc/PID/stat has no start time");
  return ticks;
}

Result<ProcessIdentity> own_identity() {
  static std::mutex mutex;
  static pid_t drawn_by = 0;
  static ProcessIdentity identity;
  std::lock_guard lock(mutex);
  if (drawn_by != ::getpid()) {
    ProcessIdentity fresh;
    fresh.boot = BAILEY_TRY(boot_id());
    fresh.start_ticks = BAILEY_TRY(start_ticks_of(::getpid()));
    random_bytes(fresh.random.data(), fresh.random.size());
    identity = fresh;
    drawn_by = ::getpid();
  }
  return identity;
}

std::string ProcessIdentity::to_string() const {
  std::string text;
  for (auto byte : boot) text += fmt::format("{:02x}", byte);
  text += fmt::format("-{}-", start_ticks);
  for (auto byte : random) text += fmt::format("{:02x}", byte);
  return text;
}

}  // namespace bailey
