#include "bailey/protocol/place.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <iterator>
#include <sstream>
#include <vector>

#include "bailey/base/fd.h"
#include "bailey/base/identity.h"

namespace bailey::protocol {
namespace {

// The inode number that names a namespace, or 0 where it may not be seen.
std::uint64_t namespace_of(const std::string& process, const char* kind) {
  struct stat about;
  return ::stat(fmt::format("/proc/{}/ns/{}", process, kind).c_str(), &about) == 0 ? about.st_ino : 0;
}

// The numbers behind "LABEL:" in a file of /proc.
std::vector<long> numbers_behind(const std::string& text, std::string_view label) {
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line)) {
    if (!line.starts_with(label)) continue;
    std::istringstream rest(line.substr(label.size()));
    return {std::istream_iterator<long>(rest), {}};
  }
  return {};
}

// A row of uid_map or gid_map: ids from `inside` on are those from `outside` on to whoever reads the file.
struct Extent {
  std::uint64_t inside = 0;
  std::uint64_t outside = 0;
  std::uint64_t count = 0;
};
std::vector<Extent> extents_of(const std::string& map) {
  std::vector<Extent> extents;
  std::istringstream rows(map);
  for (Extent row; rows >> row.inside >> row.outside >> row.count;) extents.push_back(row);
  return extents;
}
bool lies_within(std::uint64_t first, std::uint64_t count, std::uint64_t from, std::uint64_t size) {
  return first >= from && count <= size && first - from <= size - count;
}

// What `id`, as this user namespace counts it, is within the peer's user namespace; unknown where it has
// none.
std::uint32_t id_within(const std::string& peer, const char* map, std::uint32_t id) {
  auto theirs = read_file(fmt::format("/proc/{}/{}", peer, map));
  auto ours = read_file(fmt::format("/proc/self/{}", map));
  if (!theirs || !ours) return Place::unknown_id;
  // Of the reader's own namespace the kernel shows how it maps to the one above, not to itself; of the first
  // one, or one that maps everything as it is, either reading gives the same.
  if (*theirs == *ours) return id;
  for (const Extent& extent : extents_of(*theirs)) {
    if (!lies_within(id, 1, extent.outside, extent.count)) continue;
    // Only where a row begins is translated by the kernel. The rest of it follows in step where this
    // namespace has all of its ids in one row too; of a namespace above this one, which has more, it does
    // not.
    for (const Extent& own : extents_of(*ours))
      if (lies_within(extent.outside, extent.count, own.inside, own.count))
        return static_cast<std::uint32_t>(extent.inside + (id - extent.outside));
  }
  return Place::unknown_id;
}

bool is_dead(const Fd& pidfd) {
  pollfd poll{pidfd.get(), POLLIN, 0};
  return ::poll(&poll, 1, 0) != 0;
}

}  // namespace

Result<Place> own_place() {
  char self[32] = {};
  // Which pid this process has in the namespace of /proc, which may be an outer one.
  if (::readlink("/proc/self", self, sizeof self - 1) <= 0)
    return fail_os(errno, "could not look at this process in /proc", "mount /proc");
  Place place;
  place.pid_namespace = namespace_of("self", "pid");
  place.user_namespace = namespace_of("self", "user");
  if (place.pid_namespace == 0 || place.user_namespace == 0)
    return fail(Code::unsupported, By::kernel, "/proc/self/ns does not tell this process's namespaces",
                "mount /proc");
  place.pid = static_cast<std::uint32_t>(::getpid());
  place.uid = ::geteuid();
  place.gid = ::getegid();
  place.start_ticks = BAILEY_TRY(start_ticks_of(static_cast<pid_t>(std::atol(self))));
  return place;
}

Result<Seen> observe(const Connection& connection) {
  Credentials credentials = BAILEY_TRY(connection.peer_credentials());
  Fd pidfd = BAILEY_TRY(connection.peer_pidfd());
  std::string about = BAILEY_TRY(read_file(fmt::format("/proc/self/fdinfo/{}", pidfd.get())));
  std::vector<long> in_proc = numbers_behind(about, "Pid:");
  std::vector<long> nested = numbers_behind(about, "NSpid:");
  std::vector<long> own_nested = numbers_behind(BAILEY_TRY(read_file("/proc/self/status")), "NSpid:");

  Seen seen{.place = {}, .uid = credentials.uid, .gid = credentials.gid};
  if (!in_proc.empty() && in_proc[0] > 0 && !nested.empty()) {
    std::string peer = std::to_string(in_proc[0]);
    seen.place.pid = static_cast<std::uint32_t>(nested.back());
    // Both lists begin at the namespace of /proc, so that equal lengths are equal depths; and whoever this
    // namespace can see is in it or below.
    bool is_own = credentials.pid > 0 && nested.size() == own_nested.size();
    seen.place.pid_namespace = namespace_of(is_own ? "self" : peer, "pid");
    seen.place.user_namespace = namespace_of(peer, "user");
    if (auto ticks = start_ticks_of(static_cast<pid_t>(in_proc[0]))) seen.place.start_ticks = *ticks;
    seen.place.uid = id_within(peer, "uid_map", credentials.uid);
    seen.place.gid = id_within(peer, "gid_map", credentials.gid);
  }
  // It lived all the while, so that its pid was its own whenever /proc was read.
  if (is_dead(pidfd)) return fail(Code::not_found, By::kernel, "the process at the other end is gone");
  return seen;
}

Comparison compare(const Place& said, const Seen& seen, const Place& observer) {
  const Place& place = seen.place;
  auto differ = [](std::string_view what, std::uint64_t ours, std::uint64_t theirs) {
    return Comparison{.disagreement = fmt::format("it says {} {}, the kernel at the other end shows {}", what,
                                                  ours, theirs),
                      .pid = false,
                      .ids = false};
  };
  if (said.pid_namespace == 0 || said.user_namespace == 0 || said.pid == 0)
    return {.disagreement = "it does not say where it stands", .pid = false, .ids = false};
  Comparison comparison;

  if (place.pid_namespace != 0 && place.pid_namespace != said.pid_namespace)
    return differ("pid namespace", said.pid_namespace, place.pid_namespace);
  if (said.pid_namespace == observer.pid_namespace && place.pid == 0)
    return {.disagreement =
                fmt::format("it says pid {} in the same pid namespace, where nobody is seen", said.pid),
            .pid = false,
            .ids = false};
  if (place.pid != 0) {
    if (place.pid != said.pid) return differ("pid", said.pid, place.pid);
    comparison.pid = true;
  }
  if (place.start_ticks != 0 && place.start_ticks != said.start_ticks)
    return differ("start time", said.start_ticks, place.start_ticks);

  if (place.user_namespace != 0 && place.user_namespace != said.user_namespace)
    return differ("user namespace", said.user_namespace, place.user_namespace);
  bool same_users = said.user_namespace == observer.user_namespace;
  std::uint32_t uid = same_users ? seen.uid : place.uid;
  std::uint32_t gid = same_users ? seen.gid : place.gid;
  if (uid != Place::unknown_id && uid != said.uid) return differ("uid", said.uid, uid);
  if (gid != Place::unknown_id && gid != said.gid) return differ("gid", said.gid, gid);
  comparison.ids = uid != Place::unknown_id && gid != Place::unknown_id;
  return comparison;
}

}  // namespace bailey::protocol
