// `bailey region read` and `bailey region write`: the bytes of a raw region, through a window.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "bailey/base/fd.h"
#include "tools/bailey/command.h"
#include "tools/bailey/token.h"

namespace bailey::tools {
namespace {

constexpr std::size_t piece_bytes = 65536;

struct Options {
  Reach reach;
  std::string region, token, file;
  std::uint64_t offset = 0;
  std::optional<std::uint64_t> length;
};

Result<Raw> open(Session& session, const Options& options, Access access) {
  const std::optional<Token> token = BAILEY_TRY(read_token_if(options.token));
  return session.open_raw(options.region, access, token ? &*token : nullptr);
}

Status read(const Options& options) {
  Session session = BAILEY_TRY(options.reach.connect());
  const Raw raw = BAILEY_TRY(open(session, options, Access::read_only));
  const std::uint64_t rest = raw.bytes() - std::min(raw.bytes(), options.offset);
  Window window = BAILEY_TRY(raw.acquire(options.offset, options.length.value_or(rest), Access::read_only));
  std::vector<std::byte> piece(piece_bytes);
  for (std::uint64_t at = 0; at < window.bytes();) {
    const MutableBytes part(piece.data(), std::min<std::uint64_t>(piece.size(), window.bytes() - at));
    BAILEY_TRY(window.read(at, part));
    if (std::fwrite(part.data(), 1, part.size(), stdout) != part.size())
      return fail_os(errno, "could not write to standard output");
    at += part.size();
  }
  if (std::fflush(stdout) != 0) return fail_os(errno, "could not write to standard output");
  return {};
}

// What is more than the region has room for is refused before a byte of it is written.
Status write(const Options& options) {
  Session session = BAILEY_TRY(options.reach.connect());
  const Raw raw = BAILEY_TRY(open(session, options, Access::read_write));
  const std::uint64_t room = raw.bytes() - std::min(raw.bytes(), options.offset);
  Fd file;
  if (!options.file.empty()) {
    file = Fd(::open(options.file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return fail_os(errno, fmt::format("could not open {}", options.file));
  }
  std::vector<std::byte> bytes;
  for (;;) {
    const std::size_t had = bytes.size();
    bytes.resize(had + piece_bytes);
    const ssize_t got = ::read(file ? file.get() : STDIN_FILENO, bytes.data() + had, piece_bytes);
    if (got < 0 && errno != EINTR)
      return fail_os(errno,
                     fmt::format("could not read {}", file ? options.file : std::string("standard input")));
    bytes.resize(had + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (bytes.size() > room)
      return fail(Code::too_large, By::library,
                  fmt::format("there are more than the {} bytes that region {} has from {} on", room,
                              options.region, options.offset));
    if (got == 0) break;
  }
  if (bytes.empty()) return {};
  Window window = BAILEY_TRY(raw.acquire(options.offset, bytes.size(), Access::read_write));
  return window.write(0, bytes);
}

CLI::App* add_one(CLI::App& region, const char* name, const char* about,
                  const std::shared_ptr<Options>& options) {
  CLI::App* command = region.add_subcommand(name, about);
  command->add_option("REGION", options->region, "its name")->required();
  command->add_option("--offset", options->offset, "from this byte on (0)")->type_name("BYTES");
  add_token_option(command, options->token);
  add_reach_options(command, options->reach);
  return command;
}

}  // namespace

void add_region_bytes(CLI::App& region, int& status) {
  auto options = std::make_shared<Options>();
  CLI::App* command = add_one(region, "read",
                              "Writes bytes of a raw region to standard output.\n\n"
                              "What another writes meanwhile may come old and new, mixed.\n"
                              "Example:\n"
                              "  bailey region read frames --offset 4096 --length 64 | xxd",
                              options);
  command->add_option("--length", options->length, "so many of them (all)")->type_name("BYTES");
  on_run(command, status, [options] { return told(read(*options)); });

  options = std::make_shared<Options>();
  command = add_one(region, "write",
                    "Writes standard input, or a file, into a raw region.\n\n"
                    "Example:\n"
                    "  bailey region write frames --offset 4096 --file picture.raw --as keys/alice",
                    options);
  command->add_option("--file", options->file, "the whole of this file, in place of standard input")
      ->type_name("FILE");
  CLI::App* const made = command;
  on_run(command, status, [options, made] {
    if (options->token == "-" && options->file.empty()) {
      fmt::print(stderr, "bailey: standard input can't be both the token and the bytes\n{}", made->help());
      return static_cast<int>(exit_usage);
    }
    return told(write(*options));
  });
}

}  // namespace bailey::tools
