// Files and descriptors: every cell of the process rung's table, and what lies beside it.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <linux/udmabuf.h>

#include "attack/attack.h"
#include "attack/house.h"
#include "attack/matrix.h"

namespace bailey::attack {
namespace {

std::string dashed(std::string_view words) {
  std::string name;
  for (char c : words)
    if (c == ' ' || c == '/')
      name += name.empty() || name.back() == '-' ? "" : "-";
    else if (c != ',' && c != '\'')
      name += c;
  return name;
}

std::string mechanism_of(std::string_view attempt, std::string_view cell) {
  if (cell.starts_with("not stopped")) return "";
  if (attempt == "/proc/PID/fd" || attempt == "pidfd_getfd" || attempt == "ptrace" ||
      attempt == "/proc/PID/mem")
    return cell.starts_with("opens") ? "seals" : "processes are not dumpable";
  if (attempt == "reopen") return cell.starts_with("opens") ? "seals" : "mode 0600";
  return cell == "EPERM" ? "seals" : "a descriptor for reading alone";
}

// What an admin or another rung does against what the process rung lets through.
std::string known_of(std::string_view cell) {
  if (cell == by_same) return "a uid of its own for the broker";
  if (cell == by_root) return "encrypted, where root is of another machine; here nothing";
  if (cell == by_right) return "exclusive: the index of such a table is sealed too";
  return "";
}

template <class Target, std::size_t n>
void add_rows(Attacks& attacks, const std::array<const char*, n>& attempts,
              const std::vector<std::array<std::string_view, n + 2>>& rows,
              const std::vector<Target>& (Courtyard::*targets)() const) {
  for (const auto& row : rows)
    for (std::size_t at = 0; at < n; ++at) {
      const std::string_view cell = row[at + 2];
      if (cell == "–") continue;
      const std::string_view here = machine().here(attempts[at], cell);
      Attack attack;
      attack.name = fmt::format("files/{}/{}/{}", dashed(row[0]), dashed(row[1]), dashed(attempts[at]));
      attack.what = fmt::format("{} on: {}, as {}", attempts[at], row[0], row[1]);
      attack.rung = "process";
      attack.mechanism = mechanism_of(attempts[at], cell);
      attack.known = known_of(here);
      if (attack.known.empty()) attack.expected = {std::string(here)};
      attack.in_courtyard = true;
      attack.act = [=, object = row[0], who = row[1]](const Ground& ground) {
        if (std::string why = machine().cannot_be(who); !why.empty()) return Came::skipped(why);
        const auto& all = (ground.courtyard->*targets)();
        const auto target =
            std::ranges::find_if(all, [&](const Target& each) { return each.name == object; });
        if (target == all.end()) return Came::broken(fmt::format("there is no {}", object));
        const std::string seen = attempt_on(*target, at, attacker_of(who));
        if (seen.starts_with("not stopped")) return Came::through(seen);
        return Came::stopped(seen);
      };
      attacks.push_back(std::move(attack));
    }
}

Came of_call(bool done, std::string_view through) {
  return done ? Came::through(std::string(through)) : Came::stopped(::strerrorname_np(errno));
}

// A reader of a live region: what it was given, in the hands of a hostile process.
struct Reading {
  explicit Reading(const Ground& ground, const std::string& mode = "shared") : house(ground.folder) {
    house.serve(house.policy(mode));
    alice.emplace(house.client("alice"));
    hers = must(alice->open("orders", true));
    row = must(alice->create(hers.grant));
    bob.emplace(house.client("bob"));
    his = must(bob->open("orders", false));
    auto given = must(bob->ask<protocol::Segments>(protocol::MapSegments{his.grant, {row.segment}}));
    must(given.rows.size() == 1, "segment for the reader");
    segment = std::move(bob->fds.at(0));
  }
  House house;
  std::optional<broker::Client> alice, bob;
  protocol::Opened hers, his;
  protocol::SegmentRow row;
  Fd segment;  // the reader's
};

Came add_seals(const Ground& ground) {
  Reading reading(ground);
  std::vector<int> fds{reading.segment.get(), reading.bob->index_file.get(), reading.bob->page_file.get(),
                       reading.alice->segment_file.get(), reading.alice->index_file.get()};
  return in_hostile(attacker_of("same uid"), fds, [&] {
    for (int fd : fds)
      for (int seal : {F_SEAL_WRITE, F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_SHRINK, F_SEAL_SEAL})
        if (::fcntl(fd, F_ADD_SEALS, seal) == 0) return Came::through("a seal more");
    return Came::stopped(::strerrorname_np(errno));
  });
}

// Seals writes away before the broker does: the segment would be its grave.
Came seal_too_early(const Ground& ground) {
  House house(ground.folder);
  house.serve(house.policy("shared"));
  broker::Client alice = house.client("alice");
  auto opened = must(alice.open("orders", true));
  auto created = must(alice.ask<protocol::SegmentCreated>(protocol::CreateSegment{opened.grant, 100}));
  if (::fcntl(alice.fds.at(0).get(), F_ADD_SEALS, F_SEAL_SEAL) != 0)
    return Came::stopped(::strerrorname_np(errno));
  auto done = alice.ask<protocol::Done>(protocol::SegmentMapped{opened.grant, created.row.segment});
  return done ? Came::through("a segment without the broker's seals") : Came::stopped_by(done.error());
}

// A reader hands its descriptors to somebody without a grant, by a socket: what can that one do with them?
Came pass_on(const Ground& ground) {
  Reading reading(ground);
  return in_hostile(stranger(), {reading.segment.get()}, [&] {
    const int fd = reading.segment.get();
    void* at = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) return Came::through("writes");
    const int os = errno;
    at = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) return Came::stopped(::strerrorname_np(errno));
    return Came::through(fmt::format("reads what the other may read; writing: {}", ::strerrorname_np(os)));
  });
}

Came ask_for_more(const Ground& ground) {
  House house(ground.folder);
  house.serve(house.policy("shared"));
  broker::Client bob = house.client("bob");
  auto opened = bob.ask<protocol::Opened>(protocol::OpenRegion{"orders", true});
  return opened ? Came::through("opened for writing") : Came::stopped_by(opened.error());
}

Came write_with_a_readers_grant(const Ground& ground) {
  Reading reading(ground);
  auto created = reading.bob->ask<protocol::SegmentCreated>(protocol::CreateSegment{reading.his.grant, 100});
  return created ? Came::through("a segment to write") : Came::stopped_by(created.error());
}

Came anothers_grant(const Ground& ground) {
  Reading reading(ground);
  auto created = reading.bob->ask<protocol::SegmentCreated>(protocol::CreateSegment{reading.hers.grant, 100});
  return created ? Came::through("a segment in another's name") : Came::stopped_by(created.error());
}

Came retire_anothers(const Ground& ground) {
  Reading reading(ground, "shared");
  auto retired =
      reading.bob->ask<protocol::Done>(protocol::RetireSegment{reading.hers.grant, reading.row.segment});
  return retired ? Came::through("a living writer's segment is gone") : Came::stopped_by(retired.error());
}

Came udmabuf(const Ground& ground, bool of_index) {
  const Fd device(::open("/dev/udmabuf", O_RDWR | O_CLOEXEC));
  if (!device) return Came::skipped(fmt::format("/dev/udmabuf: {}", ::strerrorname_np(errno)));
  Reading reading(ground);
  const int file = of_index ? reading.bob->index_file.get() : reading.segment.get();
  return in_hostile(attacker_of("same uid"), {file, device.get()}, [&] {
    udmabuf_create create{};
    create.memfd = static_cast<__u32>(file);
    create.size = 4096;
    const Fd buffer(::ioctl(device.get(), UDMABUF_CREATE, &create));
    if (!buffer) return Came::stopped(::strerrorname_np(errno));
    return of_call(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, buffer.get(), 0) != MAP_FAILED,
                   "a writable mapping of what is for reading");
  });
}

// ---- unprotected

struct Bare {
  Bare() : file(::memfd_create("unprotected", MFD_CLOEXEC | MFD_ALLOW_SEALING)) {
    must(file && ::ftruncate(file.get(), bytes) == 0 && ::fchmod(file.get(), 0666) == 0, "file");
    reader = Fd(::open(fmt::format("/proc/self/fd/{}", file.get()).c_str(), O_RDONLY | O_CLOEXEC));
    open.emplace([&] {
      const bool became = become(defended_uid());
      ready.say(became ? 'x' : '-');
      if (!became) return 97;
      for (;;) ::pause();
    });
    must(ready.hear() == 'x', "process");
    struct stat about;
    must(::fstat(file.get(), &about) == 0, "file");
    target = {"unprotected", reader.get(), false, bytes, about.st_dev, about.st_ino, {open->pid}};
  }
  static constexpr std::uint64_t bytes = 64 << 10;
  Fd file, reader;
  broker::Words ready;
  std::optional<broker::Process> open;
  FileTarget target;
};

void add_canaries(Attacks& attacks) {
  auto add = [&](std::string_view attempt, std::function<std::string(Bare&)> act) {
    attacks.push_back({.name = "canary/" + dashed(attempt),
                       .what = fmt::format("{} on a file and a process that nothing protects", attempt),
                       .rung = "none",
                       .mechanism = "nothing",
                       .expected = {},
                       .known = {},
                       .act = [=](const Ground&) {
                         const bool attaches =
                             attempt == "pidfd_getfd" || attempt == "ptrace" || attempt == "/proc/PID/mem";
                         if (attaches && !machine().same_uid_attaches())
                           return Came::skipped("processes of one uid don't attach to each other here");
                         Bare bare;
                         const std::string seen = act(bare);
                         return seen.starts_with("not stopped") ? Came::through(seen) : Came::stopped(seen);
                       }});
  };
  for (std::size_t at = 0; at < file_attempts.size(); ++at)
    add(file_attempts[at], [at](Bare& bare) { return attempt_on(bare.target, at, attacker_of("same uid")); });
  for (std::size_t at = 2; at < process_attempts.size(); ++at)
    add(process_attempts[at], [at](Bare& bare) {
      return attempt_on(ProcessTarget{"open", bare.open->pid}, at, attacker_of("same uid"));
    });
}

}  // namespace

void add_files(Attacks& attacks) {
  add_canaries(attacks);
  add_rows(attacks, file_attempts, file_rows, &Courtyard::files);
  add_rows(attacks, process_attempts, process_rows, &Courtyard::processes);
  auto add = [&](std::string name, std::string what, std::string mechanism, std::vector<std::string> expected,
                 std::function<Came(const Ground&)> act, std::string known = {}) {
    attacks.push_back({.name = "files/" + name,
                       .what = std::move(what),
                       .rung = "process",
                       .mechanism = std::move(mechanism),
                       .expected = std::move(expected),
                       .known = std::move(known),
                       .act = std::move(act)});
  };
  add("add-seals", "a holder adds seals of its own to all that it was given", "F_SEAL_SEAL", {"EPERM"},
      add_seals);
  add("seal-too-early", "a writer seals its segment before the broker does", "what is sealed is looked at",
      {"corrupt, by the kernel"}, seal_too_early);
  add("ask-for-more", "a reader asks for the region for writing", "the broker decides",
      {"denied, by the broker"}, ask_for_more);
  add("write-with-a-readers-grant", "a reader asks for a segment to write", "the broker decides",
      {"denied, by the broker"}, write_with_a_readers_grant);
  add("anothers-grant", "a session asks by the number of another's grant", "grants belong to a session",
      {"revoked, by the broker"}, anothers_grant);
  add("retire-anothers", "a session gives back a living writer's segment", "grants belong to a session",
      {"revoked, by the broker"}, retire_anothers);
  add("udmabuf", "a segment is mapped writable through a DMA buffer",
      "the kernel wants no F_SEAL_FUTURE_WRITE", {},
      [](const Ground& ground) { return udmabuf(ground, false); });
  add(
      "udmabuf-of-a-shared-index", "the index of a shared table likewise, by a reader", "", {},
      [](const Ground& ground) { return udmabuf(ground, true); },
      "exclusive, whose index is sealed; or nobody who may open /dev/udmabuf");
  add("pass-on", "a reader passes its descriptors on to somebody without a grant", "", {}, pass_on,
      "nothing: a reader can pass on what it reads, with or without descriptors");
}

}  // namespace bailey::attack
