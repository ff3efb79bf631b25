#include "bailey/medium/reserve.h"

#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/statfs.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <sstream>
#include <vector>

namespace bailey::medium {
namespace {

constexpr std::uint64_t unlimited = std::uint64_t{1} << 62;  // cgroup v1 says "no limit" by a number beyond

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end == text.data()) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> number_in(const std::string& path) {
  auto text = read_file(path);
  if (!text) return std::nullopt;
  return number(*text);
}

// The number after a line's first word, in files of "word number" lines.
std::optional<std::uint64_t> number_of(const std::string& text, std::string_view word) {
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line(text.data() + at, end - at);
    if (line.starts_with(word) && line.size() > word.size() && line[word.size()] == ' ')
      return number(line.substr(word.size()));
    at = end + 1;
  }
  return std::nullopt;
}

void take_less(Room& room, std::uint64_t bytes, std::string limit) {
  if (bytes >= room.bytes) return;
  room = {bytes, std::move(limit)};
}

// A mounted hierarchy of cgroups that can limit memory, and this process's place in it.
struct Hierarchy {
  bool v2 = false;
  std::string mount;  // where it is mounted
  std::string below;  // this process's cgroup, from the mount on: "" or "/a/b"
};

bool lists(std::string_view comma_separated, std::string_view word) {
  while (true) {
    std::size_t comma = comma_separated.find(',');
    if (comma_separated.substr(0, comma) == word) return true;
    if (comma == std::string_view::npos) return false;
    comma_separated.remove_prefix(comma + 1);
  }
}

// "7:memory:/a/b" for v1, "0::/a/b" for v2.
std::optional<std::string> own_cgroup(const std::string& text, bool v2) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::size_t first = line.find(':');
    std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::string controllers = line.substr(first + 1, second - first - 1);
    if (v2 ? controllers.empty() : lists(controllers, "memory")) return line.substr(second + 1);
  }
  return std::nullopt;
}

std::vector<Hierarchy> hierarchies(const std::string& root) {
  std::vector<Hierarchy> found;
  auto mounts = read_file(root + "/proc/self/mountinfo");
  auto own = read_file(root + "/proc/self/cgroup");
  if (!mounts || !own) return found;
  std::istringstream lines(*mounts);
  for (std::string line; std::getline(lines, line);) {
    // id parent major:minor root mount options [tags] - type source super-options
    std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream before(line.substr(0, dash)), after(line.substr(dash + 3));
    std::string skip, mount_root, mount, type, source, super;
    before >> skip >> skip >> skip >> mount_root >> mount;
    after >> type >> source >> super;
    bool v2 = type == "cgroup2";
    if (!v2 && (type != "cgroup" || !lists(super, "memory"))) continue;
    auto cgroup = own_cgroup(*own, v2);
    if (!cgroup) continue;
    std::string below = *cgroup == "/" ? "" : *cgroup;
    // In a container the mount may show a part of the tree only; what is outside of it can't be seen from
    // here.
    if (mount_root != "/") below = below.starts_with(mount_root) ? below.substr(mount_root.size()) : "";
    found.push_back({v2, mount, below});
  }
  return found;
}

// What one cgroup leaves: its limit less what it uses, where file pages that the kernel can drop don't count.
void limit_by_cgroup(Room& room, const std::string& folder, bool v2, const std::string& shown) {
  auto limit = number_in(folder + (v2 ? "/memory.max" : "/memory.limit_in_bytes"));
  if (!limit || *limit >= unlimited) return;
  auto used = number_in(folder + (v2 ? "/memory.current" : "/memory.usage_in_bytes"));
  if (!used) return;
  std::uint64_t droppable = 0;
  if (auto stat = read_file(folder + "/memory.stat"))
    droppable = number_of(*stat, v2 ? "inactive_file" : "total_inactive_file").value_or(0);
  std::uint64_t kept = *used - std::min(*used, droppable);
  take_less(room, *limit - std::min(*limit, kept), fmt::format("memory limit of the cgroup {}", shown));
}

void limit_by_cgroups(Room& room, const std::string& root) {
  for (const Hierarchy& hierarchy : hierarchies(root)) {
    std::string below = hierarchy.below;
    while (true) {
      limit_by_cgroup(room, root + hierarchy.mount + below, hierarchy.v2, below.empty() ? "/" : below);
      std::size_t slash = below.rfind('/');
      if (slash == std::string::npos) break;
      below.resize(slash);
    }
  }
}

Result<Room> memory_room(const Place& place, const std::string& root) {
  auto meminfo = BAILEY_TRY(read_file(root + "/proc/meminfo"));
  auto available = number_of(meminfo, "MemAvailable:");
  if (!available)
    return fail(Code::unsupported, By::kernel, "/proc/meminfo has no MemAvailable", "mount /proc");
  Room room{*available * 1024, "MemAvailable"};
  if (place.numa) {
    std::string path = fmt::format("{}/sys/devices/system/node/node{}/meminfo", root, *place.numa);
    auto node = read_file(path);
    if (!node)
      return fail(Code::unsupported, By::kernel,
                  fmt::format("this machine has no memory node {}", *place.numa),
                  "see /sys/devices/system/node for those that it has");
    auto free = number_of(*node, fmt::format("Node {} MemFree:", *place.numa));
    auto file = number_of(*node, fmt::format("Node {} Inactive(file):", *place.numa));
    if (free)
      take_less(room, (*free + file.value_or(0)) * 1024, fmt::format("memory of node {}", *place.numa));
  }
  limit_by_cgroups(room, root);
  room.bytes -= std::min(room.bytes, headroom_bytes);
  return room;
}

Result<Room> huge_room(const Place& place, const std::string& root) {
  std::string folder =
      place.numa
          ? fmt::format("{}/sys/devices/system/node/node{}/hugepages/hugepages-2048kB", root, *place.numa)
          : root + "/sys/kernel/mm/hugepages/hugepages-2048kB";
  auto free = number_in(folder + "/free_hugepages");
  if (!free)
    return fail(Code::unsupported, By::kernel, "this kernel has no huge pages of 2 MiB",
                "use a medium of memory: instead");
  // Reserved by others' mappings, not yet touched; known for the machine as a whole.
  std::uint64_t reserved = number_in(folder + "/resv_hugepages").value_or(0);
  return Room{(*free - std::min(*free, reserved)) * huge_page_bytes, "free huge pages"};
}

Result<Room> file_room(const Place& place, const std::string& root) {
  struct statfs about;
  if (::statfs(place.folder.c_str(), &about) != 0)
    return fail_os(errno, fmt::format("could not ask {} for its free space", place.folder));
  Room room{static_cast<std::uint64_t>(about.f_bavail) * static_cast<std::uint64_t>(about.f_bsize),
            fmt::format("free space of {}", place.folder)};
  if (about.f_type == TMPFS_MAGIC) {
    Room memory = BAILEY_TRY(memory_room({}, root));
    take_less(room, memory.bytes, memory.limit);
  }
  return room;
}

}  // namespace

Result<Room> room_at(const Place& place, const std::string& root) {
  switch (place.kind) {
    case Kind::memory:
      return memory_room(place, root);
    case Kind::hugepages:
      return huge_room(place, root);
    case Kind::file:
      break;
  }
  return file_room(place, root);
}

Status room_for(const Place& place, std::uint64_t bytes, std::uint64_t promised, const std::string& what) {
  Room room = BAILEY_TRY(room_at(place));
  std::uint64_t left = room.bytes - std::min(room.bytes, promised);
  if (bytes <= left) return {};
  return fail(Code::no_space, By::broker,
              fmt::format("{} needs {} bytes; {} leaves {}, {} are missing", what, bytes, room.limit, left,
                          bytes - left),
              "free memory, raise the limit, or make the region smaller");
}

}  // namespace bailey::medium
