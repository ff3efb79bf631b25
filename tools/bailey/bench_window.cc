// `bailey bench window`: what a window costs over a plain copy of the same bytes.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "bailey/base/clock.h"
#include "bailey/medium/access.h"
#include "bench/random.h"
#include "tools/bailey/command.h"
#include "tools/bailey/token.h"

namespace bailey::tools {
namespace {

struct Options {
  Reach reach;
  std::string region, token, mac = "once";
  bool write = false, random = false, json = false;
  unsigned rounds = 31;
};

constexpr std::array<std::size_t, 5> sizes{8, 64, 128, 256, 4096};
constexpr unsigned accesses = 20'000;  // of a stretch; few enough for the scheduler to miss most of them
// How many places the accesses go to, around and around. A few stay in the nearest cache, where the checks
// are dearest beside the copy; many are drawn at random over the region.
constexpr std::size_t near_places = 4, far_places = 1 << 14;
constexpr std::uint64_t near_stride = 4160;

double median(std::vector<double> numbers) {
  std::ranges::sort(numbers);
  return numbers[numbers.size() / 2];
}

// Nanoseconds of one access.
template <class Access>
double stretch(const std::vector<std::uint64_t>& places, unsigned count, Access&& access) {
  const std::uint64_t begun = monotonic_ns();
  for (unsigned i = 0; i < count; ++i) access(places[i & (places.size() - 1)]);
  return static_cast<double>(monotonic_ns() - begun) / count;
}

struct Row {
  const char* operation;
  std::size_t bytes;
  double copy_ns, window_ns, more_ns;
};

Status bench_window(const Options& options) {
  Session session = BAILEY_TRY(options.reach.connect());
  const std::optional<Token> token = BAILEY_TRY(read_token_if(options.token));
  const Token* with = token ? &*token : nullptr;
  const Access access = options.write ? Access::read_write : Access::read_only;
  const Raw raw = BAILEY_TRY(session.open_raw(options.region, access, with));
  // The same file once more, without windows.
  const session::Region bare = BAILEY_TRY(session.open_region(options.region, access, with));
  if (bare.view->closed())
    return fail(
        Code::unsupported, By::library,
        fmt::format("region {} has gates, and a plain copy of its bytes is not to be had", options.region),
        "measure on a region without \"pkey\"");
  const auto verify = options.mac == "each" ? Raw::Verify::each : Raw::Verify::once;
  Window window = BAILEY_TRY(raw.acquire(0, raw.bytes(), access, verify));
  const unsigned count = verify == Raw::Verify::each ? accesses / 20 : accesses;
  std::vector<std::uint64_t> places(options.random ? far_places : near_places);
  bench::Random random(1);
  for (std::size_t i = 0; i < places.size(); ++i)
    places[i] = options.random ? random.below((raw.bytes() - sizes.back()) / 64) * 64 : i * near_stride;
  std::array<std::byte, sizes.back()> buffer{};
  std::byte* const bytes = bare.view->index();
  bool failed = false;
  std::vector<Row> rows;
  for (const bool writes : {false, true}) {
    if (writes && !options.write) continue;
    for (const std::size_t size : sizes) {
      std::vector<double> copies, windows, more;
      for (unsigned round = 0; round < options.rounds; ++round) {
        // The compiler is told that the buffer is used and changed, so that no copy is left out.
        const auto touch = [&] { asm volatile("" : : "r"(buffer.data()) : "memory"); };
        copies.push_back(stretch(places, accesses, [&](std::uint64_t at) {
          if (writes)
            medium::copy_in_bytes(bytes + at, buffer.data(), size);
          else
            medium::copy_out_bytes(buffer.data(), bytes + at, size);
          touch();
        }));
        windows.push_back(stretch(places, count, [&](std::uint64_t at) {
          failed |=
              !(writes ? window.write(at, {buffer.data(), size}) : window.read(at, {buffer.data(), size}));
          touch();
        }));
        more.push_back(windows.back() - copies.back());
      }
      rows.push_back({writes ? "write" : "read", size, median(copies), median(windows), median(more)});
    }
  }
  if (failed) return fail(Code::io, By::library, "an access failed while it was measured");
  if (options.json) {
    nlohmann::json told = nlohmann::json::array();
    for (const Row& row : rows)
      told.push_back({{"operation", row.operation},
                      {"bytes", row.bytes},
                      {"copy_ns", row.copy_ns},
                      {"window_ns", row.window_ns},
                      {"more_ns", row.more_ns}});
    fmt::print("{}\n", told.dump(2));
    return {};
  }
  fmt::print("windows on region {}, token verified {}; ns, medians of {} rounds in turns\n", options.region,
             verify == Raw::Verify::each ? "at each access" : "once", options.rounds);
  fmt::print("{:10} {:>6} {:>10} {:>10} {:>10}\n", "", "bytes", "plain copy", "window", "more");
  for (const Row& row : rows)
    fmt::print("{:10} {:6} {:10.2f} {:10.2f} {:10.2f}\n", row.operation, row.bytes, row.copy_ns,
               row.window_ns, row.more_ns);
  return {};
}

}  // namespace

void add_bench_window(CLI::App& bench, int& status) {
  auto options = std::make_shared<Options>();
  CLI::App* command = bench.add_subcommand(
      "window",
      "Measures what a window onto a raw region costs over a plain copy of the same bytes.\n\n"
      "With --write it overwrites the region's beginning, which has to be of mode shared.\n"
      "Example:\n"
      "  bailey bench window --region frames --as keys/bob\n"
      "  bailey bench window --region frames --mac each --as keys/bob");
  command->add_option("--region", options->region, "the region")->required()->type_name("NAME");
  command
      ->add_option(
          "--mac", options->mac,
          "when the token is verified: once, when the window is opened (the default), or at each access")
      ->check(CLI::IsMember({"once", "each"}).description(""))
      ->type_name("WHEN");
  command->add_flag("--random", options->random,
                    "at random over the region; else it stays in the nearest cache");
  command->add_flag("--write", options->write, "measure writes too");
  command->add_option("--rounds", options->rounds, "how many rounds")
      ->capture_default_str()
      ->check(CLI::Range(1u, 100'000u).description(""))
      ->type_name("N");
  command->add_flag("--json", options->json, "print JSON");
  add_token_option(command, options->token);
  add_reach_options(command, options->reach);
  on_run(command, status, [options] { return told(bench_window(*options)); });
}

}  // namespace bailey::tools
