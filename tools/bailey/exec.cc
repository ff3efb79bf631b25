// `bailey exec --strict`: a program in which guarded memory can't be re-tagged, remapped or read around.
#include <fmt/format.h>

#include <cstdio>

#include "bailey/guard/processor.h"
#include "bailey/guard/strict.h"
#include "bailey/guard/strict_layout.h"
#include "tools/bailey/command.h"

namespace bailey::tools {

void add_exec(CLI::App& app, int& status) {
  auto arguments = std::make_shared<std::vector<std::string>>();
  auto preload = std::make_shared<std::vector<std::string>>();
  auto strict = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand(
      "exec",
      "Begins a program whose own code, hijacked or not, can't get around protection keys, as far as the "
      "kernel can\n"
      "be told. For programs that use regions under the protection \"pkey\".\n\n"
      "In the program, from before its first own instruction:\n"
      "  - no system call that re-tags, remaps, drops or fills what lies in the window of guarded memory;\n"
      "  - no ptrace, process_vm_*, io_uring, userfaultfd, 32-bit calls; not dumpable, no core dump;\n"
      "  - nothing writable and executable; code is looked through for WRPKRU and XRSTOR, and copied, before "
      "the\n"
      "    first constructor runs. From there on:\n"
      "  - no new code: what a program loads later (dlopen, plugins) is refused unless --preload names it;\n"
      "  - no other program: execve, posix_spawn and system are refused (fork and threads are not).\n\n"
      "The program must be linked dynamically with the system's libc. What is not stopped, forged signal "
      "frames for\n"
      "one, is in docs/threat-model.md. Without --strict there is nothing to do: call the program itself.\n"
      "Exit status: that of PROGRAM; 125 where it was refused, or ld.so's 127 where that could not load "
      "it.\n\n"
      "Example:\n"
      "  bailey exec --strict -- ./server --port 6379\n"
      "  bailey exec --strict --preload /usr/lib/plugin.so -- ./server");
  command->add_flag("--strict", *strict, "hold the program to this")->required();
  command
      ->add_option(
          "--preload", *preload,
          "the file of a library that PROGRAM, and not bailey, is begun with (LD_PRELOAD); repeatable")
      ->allow_extra_args(false)
      ->type_name("FILE");
  command->add_option("PROGRAM", *arguments, "the program, found in PATH, and its arguments")
      ->required()
      ->type_name("ARG...");
  command->positionals_at_end();
  on_run(command, status, [arguments, preload, strict] {
    if (const Status keys = guard::processor_has_keys(); !keys)
      fmt::print(
          stderr,
          "bailey exec: {}: no region is guarded here; what the filter refuses it refuses all the same\n",
          keys.error().message);
    told(guard::exec_strictly(*arguments, *preload));
    return guard::exit_not_begun;
  });
}

}  // namespace bailey::tools
