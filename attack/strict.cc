// `bailey exec --strict`: what code of a program that was begun so tries against guarded pages.
#include "bailey/guard/strict.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "attack/attack.h"
#include "attack/hostile_image.h"
#include "attack/house.h"
#include "bailey/guard/strict_attempts.h"
#include "bailey/guard/strict_run.h"

namespace bailey::attack {
namespace {

using guard::Ended;

void write_program(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
  must(::chmod(path.c_str(), 0755) == 0, "program " + path);
}
std::string hostile_program(const Ground& ground) {
  std::string path = ground.folder + "/hostile";
  write_program(path, as_text(hostile_image()));
  return path;
}

// What the program said of an attempt, or how it ended.
Came of_program(const Ended& ended, const std::string& attempt) {
  if (ended.signal() != 0) return Came::stopped(fmt::format("SIG{}", ::sigabbrev_np(ended.signal())));
  auto seen = guard::results(ended.out);
  if (ended.exit() == guard::exit_not_begun) return Came::broken(ended.err);
  if (!seen.contains(attempt)) return Came::broken(fmt::format("it says nothing (status {})", ended.exit()));
  return seen[attempt] == "done" ? Came::through("done") : Came::stopped(seen[attempt]);
}
Came attempt(const Ground& ground, const Attacker& attacker, const std::string& name, bool strict) {
  const std::string program = hostile_program(ground);
  return in_hostile(attacker, {},
                    [&] { return of_program(guard::run({program, name}, {.strict = strict}), name); });
}

// ---- code of files

// A library that the program loads and of which it never calls the function `jnl`: a copy, which the attacker
// may write.
struct Library {
  explicit Library(const Ground& ground) : path(ground.folder + "/libm.so.6") {
    void* const math = ::dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
    Dl_info about;
    must(math != nullptr && ::dladdr(::dlsym(math, "jnl"), &about) != 0, "libm");
    std::filesystem::copy_file(about.dli_fname, path);
    uncalled = static_cast<off_t>(static_cast<const char*>(about.dli_saddr) -
                                  static_cast<const char*>(about.dli_fbase));
    must(::chmod(path.c_str(), 0755) == 0 &&
             ::chown(path.c_str(), stranger().uid, static_cast<gid_t>(-1)) == 0,
         "library of the attacker's own");
  }
  guard::How how(bool strict) const {
    return {.strict = strict, .before = [this] { ::setenv("LD_PRELOAD", path.c_str(), 1); }};
  }
  std::string path;
  off_t uncalled = 0;  // where in the file
};

Came changed_file(const Ground& ground, bool strict) {
  const Library library(ground);
  const std::string program = hostile_program(ground), name = "changed-file";
  return in_hostile(stranger(), {},
                    [&] { return of_program(guard::run({program, name}, library.how(strict)), name); });
}

// The file becomes another and back, again and again, while programs begin with it: one that was looked
// through and one that is mapped.
Came map_and_scan_race(const Ground& ground, bool strict) {
  const Library library(ground);
  const std::string program = hostile_program(ground), name = "wrpkru";
  const std::string_view wrpkru("\x0f\x01\xef", 3);
  return in_hostile(stranger(), {}, [&]() -> Came {
    const Fd file(::open(library.path.c_str(), O_RDWR | O_CLOEXEC));
    void* const pages = ::mmap(nullptr, 2 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(),
                               library.uncalled / 4096 * 4096);
    if (!file || pages == MAP_FAILED) return Came::broken("the library can't be written");
    char* const code = static_cast<char*>(pages) + library.uncalled % 4096 + 16;
    const std::string before(code, wrpkru.size());
    const broker::Process flipper([&]() -> int {
      for (;;)
        for (const std::string_view bytes : {wrpkru, std::string_view(before)}) {
          std::memcpy(code, bytes.data(), bytes.size());
          ::usleep(static_cast<unsigned>(code[0]) % 50 * 20);
        }
    });
    unsigned begun = 0;
    for (int i = 0; i < 20; ++i) {
      const Ended ended = guard::run({program, name}, library.how(strict));
      if (ended.exit() == guard::exit_not_begun || ended.signal() != 0) continue;
      Came came = of_program(ended, name);
      if (came.kind != Came::Kind::stopped) return came;
      ++begun;
    }
    return Came::stopped(begun == 0 ? "never begun" : "none in what may run");
  });
}

// A program that has the instruction in its own code, over the border of two pages.
Came own_instruction(const Ground& ground, std::string_view instruction, bool strict) {
  std::string bytes(as_text(hostile_image()));
  const std::size_t padding = bytes.find(std::string(2 * 4096, '\x90'));
  must(padding != std::string::npos, "padding in the program");
  bytes.replace((padding + 4096 + 4095) / 4096 * 4096 - 1, instruction.size(), instruction);
  const std::string program = ground.folder + "/spoiled", name = "ordinary-mapping";
  write_program(program, bytes);
  return in_hostile(stranger(), {}, [&] {
    const Ended ended = guard::run({program, name}, {.strict = strict});
    if (ended.exit() == guard::exit_not_begun &&
        ended.err.find("spoiled has the bytes of") != std::string::npos)
      return Came::stopped("not begun");
    return of_program(ended, name);
  });
}

// Where the kernel or a container's own filter is before us.
bool others_refuse(const std::string& name, const Came& came) {
  return (name == "ptrace" || name.starts_with("process_vm")) && came.seen == "EPERM";
}

}  // namespace

void add_strict(Attacks& attacks) {
  auto add = [&](const std::string& name, std::string what, std::string mechanism,
                 std::vector<std::string> expected, std::function<Came(const Ground&)> act) {
    attacks.push_back({.name = "strict/" + name,
                       .what = std::move(what),
                       .rung = "pkey, strict",
                       .mechanism = std::move(mechanism),
                       .expected = std::move(expected),
                       .known = {},
                       .act = std::move(act)});
  };
  auto add_canary = [&](const std::string& name, std::function<Came(const Ground&)> act) {
    attacks.push_back({.name = "canary/strict/" + name,
                       .what = name + " in a program that was begun without --strict",
                       .rung = "none",
                       .mechanism = "nothing",
                       .expected = {},
                       .known = {},
                       .act = std::move(act)});
  };
  auto add_each = [&](const auto& tries, const std::string& what, const std::string& mechanism) {
    for (const guard::StrictAttempt& one : tries) {
      const std::string name = one.name;
      add(name, fmt::format("{}: {}", what, name), mechanism, {refusal_of(one)},
          [=](const Ground& ground) { return attempt(ground, stranger(), name, true); });
      if (one.unprotected != nullptr && std::string_view(one.unprotected) == "done")
        add_canary(name, [=](const Ground& ground) {
          Came came = attempt(ground, stranger(), name, false);
          return others_refuse(name, came) ? Came::skipped("refused by others here, too") : came;
        });
    }
  };
  add_each(guard::on_the_window, "re-tags, unmaps, replaces or empties guarded pages, or has a key come open",
           "filters of system calls by address");
  add_each(guard::other_doors, "has the kernel or another process read", "filters of system calls");
  add_each(guard::new_code, "brings code of its own", "none from the first constructor on");
  add_each(guard::moved_code, "moves pages of code beside each other, so that they make WRPKRU",
           "code is not moved");

  for (const char* name : {"32-bit", "x32"})
    add(name, fmt::format("a {} call, whose number and arguments are others", name), "killed", {"SIGSYS"},
        [=](const Ground& ground) { return attempt(ground, stranger(), name, true); });

  const std::string own_memory = "own-memory-by-path";
  add(own_memory, "opens /proc/self/mem", "processes are not dumpable", {"EACCES"},
      [=](const Ground& ground) { return attempt(ground, stranger(), own_memory, true); });
  add_canary(own_memory,
             [=](const Ground& ground) { return attempt(ground, stranger(), own_memory, false); });
  attacks.push_back({.name = "strict/own-memory-by-path-as-root",
                     .what = "opens /proc/self/mem, as root",
                     .rung = "pkey, strict",
                     .mechanism = "",
                     .expected = {},
                     .known = "a uid that is not root",
                     .act = [=](const Ground& ground) {
                       if (::geteuid() != 0) return Came::skipped("the suite is not run as root");
                       return attempt(ground, attacker_of("root"), own_memory, true);
                     }});

  const std::string a_copy = "what runs is a copy that was looked through";
  add("changed-file", "writes to the file of mapped code", a_copy, {"ESTALE"},
      [](const Ground& ground) { return changed_file(ground, true); });
  add_canary("changed-file", [](const Ground& ground) { return changed_file(ground, false); });
  add("map-and-scan-race", "a library's file gets WRPKRU while 20 programs begin with it", a_copy,
      {"none in what may run", "never begun"},
      [](const Ground& ground) { return map_and_scan_race(ground, true); });
  add_canary("map-and-scan-race", [](const Ground& ground) { return map_and_scan_race(ground, false); });
  for (const auto& [name, bytes] :
       {std::pair{"own-wrpkru", "\x0f\x01\xef"}, std::pair{"own-xrstor", "\x0f\xae\x2f"}}) {
    const std::string_view instruction(bytes, 3);
    add(name, "a program brings an instruction that opens keys, over the border of two pages",
        "code is looked through", {"not begun"},
        [=](const Ground& ground) { return own_instruction(ground, instruction, true); });
    add_canary(name, [=](const Ground& ground) { return own_instruction(ground, instruction, false); });
  }
}

}  // namespace bailey::attack
