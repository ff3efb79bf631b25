// Windows onto plain bytes: code of a process that was handed a narrowed token, or a window, and wants more.
//
// It keeps to windows, which is all that they hold: the last attack does not.
#include <algorithm>
#include <cstring>
#include <vector>

#include "attack/attack.h"
#include "attack/house.h"
#include "bailey/capability/token.h"
#include "bailey/session/session.h"

namespace bailey::attack {
namespace {

using capability::Range;
using capability::Rights;

constexpr std::uint64_t begin = 8192, bytes = 4096;  // of what was handed over
constexpr const char* secret = "what lies beside it";

// mallory may write all of "frames"; what is attacked is what code of her own process was not handed.
Came in_her_process(const Ground& ground, const std::function<Came(Session&, const Raw&)>& act) {
  House house(ground.folder);
  house.serve(house.principals() + "[region.frames]\nkind = \"raw\"\nmode = \"shared\"\nsize = \"4MiB\"\n" +
              broker::grant_toml("mallory", "frames", "rw"));
  const Attacker mallory = stranger();
  must(::chown(house.key_file("mallory").c_str(), mallory.uid, static_cast<gid_t>(-1)) == 0, "key of hers");
  return in_hostile(mallory, {}, [&]() -> Came {
    Session session = house.session("mallory");
    const Raw raw = must(session.open_raw("frames", bailey::Access::read_write));
    Window all = must(raw.acquire(0, raw.bytes(), bailey::Access::read_write));
    must(all.write(begin + bytes, as_bytes(secret)));
    return act(session, raw);
  });
}

// Every range that is not within [begin, begin + bytes), by a byte and by as much as 64 bits hold.
std::vector<Range> beyond(std::uint64_t region_bytes) {
  constexpr std::uint64_t most = ~std::uint64_t{0};
  return {{begin, bytes + 1},
          {begin - 1, 1},
          {begin - 1, bytes},
          {begin + bytes, 1},
          {begin + bytes - 1, 2},
          {0, region_bytes},
          {region_bytes - 1, 1},
          {region_bytes, 1},
          {begin, most},
          {begin, most - begin + 1},
          {most, 1},
          {most - begin, begin + 1}};
}

Came wider_than_the_token(const Ground& ground) {
  return in_her_process(ground, [](Session&, const Raw& raw) -> Came {
    const Token token =
        must(must(raw.token().narrow(Range{begin, bytes})).narrow(Rights{bailey::Access::read_only}));
    must(raw.acquire(token));
    // What narrows is all that can be done to it: asked back, it stays what it is.
    const Token wider =
        must(must(token.narrow(Range{0, raw.bytes()})).narrow(Rights{bailey::Access::read_write}));
    for (const Token& tried : {token, wider}) {
      for (const Range& range : beyond(raw.bytes()))
        if (raw.acquire(tried, std::span(&range, 1), bailey::Access::read_only))
          return Came::through(fmt::format("{} bytes from {} on", range.length, range.offset));
      const Range within{begin, bytes};
      if (raw.acquire(tried, std::span(&within, 1), bailey::Access::read_write))
        return Came::through("a window to write through");
    }
    return Came::stopped("each is refused");
  });
}

Came out_of_the_window(const Ground& ground) {
  return in_her_process(ground, [](Session&, const Raw& raw) -> Came {
    Window window = must(raw.acquire(begin, bytes, bailey::Access::read_only));
    std::vector<std::byte> out(raw.bytes());
    // Offsets count from the window's beginning, and 64 bits wrap around to what lies before it.
    for (const Range& range : beyond(raw.bytes())) {
      const std::uint64_t offset = range.offset - begin;
      const std::size_t count = std::min<std::uint64_t>(range.length, out.size());
      if (offset + count <= bytes && offset <= bytes) continue;
      if (window.read(offset, MutableBytes(out).first(count)) ||
          window.compare(offset, Bytes(out).first(count)))
        return Came::through(fmt::format("{} bytes from {} on", count, offset));
    }
    if (window.write(0, Bytes(out).first(1))) return Came::through("written through one for reading");
    return Came::stopped("each is refused");
  });
}

Came after_it_was_revoked(const Ground& ground) {
  return in_her_process(ground, [](Session&, const Raw& raw) -> Came {
    Window window = must(raw.acquire(begin, bytes, bailey::Access::read_write)), kept = window;
    must(kept.write(0, as_bytes("x")));
    window.revoke();
    std::byte byte;
    auto read = kept.read(0, {&byte, 1});
    auto written = kept.write(0, {&byte, 1});
    if (read || written) return Came::through("a copy of it that was kept");
    return Came::stopped_by(read.error());
  });
}

Came around_them(const Ground& ground) {
  return in_her_process(ground, [](Session& session, const Raw& raw) -> Came {
    must(raw.acquire(begin, bytes, bailey::Access::read_only));
    // Whatever finds the mapping: here it is asked for.
    const session::Region region = must(session.open_region("frames", bailey::Access::read_only));
    const bool seen = std::memcmp(region.view->index() + begin + bytes, secret, std::strlen(secret)) == 0;
    return seen ? Came::through("the bytes beside it") : Came::broken("nothing was there");
  });
}

Came with_a_wider_token(const Ground& ground) {
  return in_her_process(ground, [](Session&, const Raw& raw) -> Came {
    for (const Range& range : beyond(raw.bytes()))
      if (raw.acquire(raw.token(), std::span(&range, 1), bailey::Access::read_only))
        return Came::through("bytes beside it");
    return Came::stopped("each is refused");
  });
}

}  // namespace

void add_windows(Attacks& attacks) {
  const auto add = [&](std::string name, std::string what, std::string mechanism, std::string expected,
                       std::function<Came(const Ground&)> act) {
    attacks.push_back({.name = "windows/" + name,
                       .what = std::move(what),
                       .rung = "process",
                       .mechanism = std::move(mechanism),
                       .expected = {std::move(expected)},
                       .known = {},
                       .act = std::move(act)});
  };
  add("wider-than-the-token", "a token narrowed to a part, used for a byte more, and narrowed back",
      "verified when a window is acquired", "each is refused", wider_than_the_token);
  add("out-of-the-window", "accesses that leave a window by a byte, and by 64 bits",
      "each access looks at its bounds", "each is refused", out_of_the_window);
  add("after-its-revocation", "a copy of a window, kept over its revocation", "copies share a word",
      "revoked, by the library", after_it_was_revoked);
  attacks.push_back({.name = "windows/around",
                     .what = "the bytes beside a window, by a pointer",
                     .rung = "process",
                     .mechanism = "",
                     .expected = {},
                     .known = "pkey",
                     .act = around_them});
  attacks.push_back({.name = "canary/windows-wide-token",
                     .what = "a part that the token allows",
                     .rung = "none",
                     .mechanism = "nothing",
                     .expected = {},
                     .known = {},
                     .act = with_a_wider_token});
}

}  // namespace bailey::attack
