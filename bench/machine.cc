#include "bench/machine.h"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bailey/base/fd.h"

namespace bailey::bench {
namespace {

// The value of the first line `key : value` of a file of /proc; empty where there is none.
std::string proc_value(const std::string& path, std::string_view key) {
  const Result<std::string> text = read_file(path, 16 << 20);
  if (!text) return {};
  std::size_t at = 0;
  while (at < text->size()) {
    std::size_t end = text->find('\n', at);
    if (end == std::string::npos) end = text->size();
    const std::string_view line = std::string_view(*text).substr(at, end - at);
    at = end + 1;
    if (!line.starts_with(key)) continue;
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const std::size_t first = line.find_first_not_of(" \t", colon + 1);
    return first == std::string_view::npos ? std::string() : std::string(line.substr(first));
  }
  return {};
}

std::string build_kind() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return "sanitizers: figures mean nothing";
#elif !defined(__OPTIMIZE__)
  return "not optimised: figures mean nothing";
#else
  return "release";
#endif
}

}  // namespace

Machine this_machine(const std::string& medium_emulates) {
  Machine machine;
  machine.cpu = proc_value("/proc/cpuinfo", "model name");
  if (machine.cpu.empty()) machine.cpu = "unknown";
  machine.cores = static_cast<unsigned>(::sysconf(_SC_NPROCESSORS_ONLN));
  utsname about{};
  ::uname(&about);
  machine.kernel = fmt::format("{} {} {}", about.sysname, about.release, about.machine);
  machine.memory = proc_value("/proc/meminfo", "MemTotal");
  machine.compiler = __VERSION__;
  machine.build = build_kind();
  const std::string flags = " " + proc_value("/proc/cpuinfo", "flags") + " ";
  machine.hypervisor = flags.find(" hypervisor ") != std::string::npos ? "yes" : "none";
  const bool emulated_cpu =
      machine.cpu.find("QEMU") != std::string::npos || machine.cpu.find("TCG") != std::string::npos;
  machine.emulated = emulated_cpu ? "cpu" : "no";
  if (!medium_emulates.empty()) machine.emulated = emulated_cpu ? "cpu, " + medium_emulates : medium_emulates;
  return machine;
}

std::vector<std::string> Machine::lines() const {
  return {
      "cpu: " + cpu,
      fmt::format("cores: {}", cores),
      "kernel: " + kernel,
      "memory: " + memory,
      "compiler: " + compiler,
      "build: " + build,
      "hypervisor: " + hypervisor,
      "emulated: " + emulated,
  };
}

}  // namespace bailey::bench
