// Windows onto plain bytes: code of a process that was handed a narrowed token, or a window, and wants more.
//
// It keeps to windows, which is all that they hold: the last attack does not.
#include <algorithm>
#include <cstring>
#include <vector>

#include "attack/attack.h"
#include "attack/edges.h"
#include "attack/house.h"
#include "bailey/capability/token.h"
#include "bailey/guard/keys.h"
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

// ---- at every edge

constexpr char mark = 'm', before = 'b';

std::string frames_toml(const std::string& protect) {
  return fmt::format("[region.frames]\nkind = \"raw\"\nmode = \"shared\"\nsize = \"4MiB\"\nprotect = [{}]\n",
                     protect);
}

// alice has the region open, all of it filled, and mallory a session of her own.
struct Frames {
  explicit Frames(const Ground& ground) : house(ground.folder) {
    house.serve(house.principals() + frames_toml("\"process\"") +
                broker::grant_toml("alice", "frames", "rw") + broker::grant_toml("bob", "frames", "r"));
    alice.emplace(house.session("alice"));
    raw.emplace(must(alice->open_raw("frames", bailey::Access::read_write)));
    all.emplace(must(raw->acquire(0, raw->bytes(), bailey::Access::read_write)));
    const std::string fill(raw->bytes(), before);
    must(all->write(0, as_bytes(fill)));
  }
  // The bytes that a window of [begin, begin + bytes) must not have written.
  bool untouched() {
    std::string now(raw->bytes(), '\0');
    must(all->read(0, std::as_writable_bytes(std::span(now))));
    now.erase(begin, bytes);
    return std::ranges::all_of(now, [](char c) { return c == before; });
  }
  House house;
  std::optional<Session> alice;
  std::optional<Raw> raw;
  std::optional<Window> all;
};

// Every offset with every length: of memory where it may work, else of none.
Came edges_of(Window window, Frames& frames) {
  std::vector<char> buffer(2 * bytes);
  const std::uint64_t lengths[] = {1,          2,          bytes - 1,  bytes,      bytes + 1,
                                   1ull << 31, 1ull << 32, 1ull << 47, ~0ull - 63, ~0ull};
  std::vector<std::uint64_t> offsets(std::begin(edges), std::end(edges));
  for (const std::uint64_t near : std::initializer_list<std::uint64_t>{bytes - 1, bytes, bytes + 1, 0 - begin,
                                                                       0 - begin - 1, ~0ull - bytes})
    offsets.push_back(near);
  for (const std::uint64_t offset : offsets)
    for (const std::uint64_t length : lengths) {
      const bool within = offset <= bytes && length <= bytes - offset;
      std::ranges::fill(buffer, mark);
      auto* const at = reinterpret_cast<std::byte*>(buffer.data());
      const bool wrote = window.write(offset, Bytes(at, length)).has_value();
      const bool read = window.read(offset, MutableBytes(at, length)).has_value();
      const bool compared = window.compare(offset, Bytes(at, length)).has_value();
      if (wrote != within || read != within || compared != within)
        return within ? Came::broken("it does not work within its bounds")
                      : Came::through(fmt::format("offset {:x}, {:x} bytes", offset, length));
    }
  return frames.untouched() ? Came::stopped("within bounds, each") : Came::through("bytes beside it changed");
}
Came accesses(const Ground& ground) {
  Frames frames(ground);
  return edges_of(must(frames.raw->acquire(begin, bytes, bailey::Access::read_write)), frames);
}
Came acquired(const Ground& ground) {
  Frames frames(ground);
  const std::uint64_t all = frames.raw->bytes();
  std::vector<std::uint64_t> each(std::begin(edges), std::end(edges));
  for (const std::uint64_t near : {all - 1, all, all + 1}) each.push_back(near);
  for (const std::uint64_t offset : each)
    for (const std::uint64_t length : each) {
      const bool within = length != 0 && offset <= all && length <= all - offset;
      auto window = frames.raw->acquire(offset, length, bailey::Access::read_write);
      if (window && !within && length != 0)
        return Came::through(fmt::format("a window of {:x} bytes at {:x}", length, offset));
      if (!window && within) return Came::broken(window.error().to_string());
    }
  return Came::stopped("within bounds, each");
}

// ---- with other tokens

// A token for a part, flipped at every bit.
Came flipped(const Ground& ground) {
  return in_her_process(ground, [](Session&, const Raw& raw) -> Came {
    const Token narrow = must(raw.token().narrow(Range{begin, bytes}));
    must(raw.acquire(narrow));
    for (std::size_t bit = 0; bit < 8 * narrow.bytes().size(); ++bit) {
      std::string changed(as_text(narrow.bytes()));
      changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << bit % 8));
      auto token = Token::decode(as_bytes(changed));
      if (token && raw.acquire(*token)) return Came::through(fmt::format("bit {}", bit));
    }
    return Came::stopped("each is refused");
  });
}

// The tokens of other sessions and regions, and what they mint.
Came of_another_session(const Ground& ground) {
  Frames frames(ground);
  Session bob = frames.house.session("bob"), again = frames.house.session("alice");
  const Raw his = must(bob.open_raw("frames", bailey::Access::read_only));
  const Raw hers = must(again.open_raw("frames", bailey::Access::read_write));
  for (const auto& [from, to] : std::initializer_list<std::pair<const Raw*, const Raw*>>{
           {&his, &*frames.raw}, {&hers, &his}, {&*frames.raw, &hers}})
    if (to->acquire(from->token())) return Came::through("another session's token");
  auto made = his.acquire(0, 1, bailey::Access::read_write);
  return made ? Came::through("a window to write, of a region opened for reading")
              : Came::stopped_by(made.error());
}

// For a part of the bytes, minted by the broker: windows hold to it where gates close the rest.
Came minted_for_a_part(const Ground& ground) {
  const bool keys = guard::available().has_value();
  House house(ground.folder);
  house.serve(house.principals() + frames_toml(keys ? R"("process", "pkey")" : "\"process\"") +
              broker::grant_toml("alice", "frames", "admin"));
  broker::Client alice = house.client("alice");
  const Token minted = must(alice.mint({"frames", true, "", 0}));
  const Token part = must(minted.narrow(Range{begin, bytes}));
  Session mallory = house.session("mallory");
  auto raw = mallory.open_raw("frames", bailey::Access::read_write, &part);
  if (!keys) return raw ? Came::through("all of the file is given") : Came::stopped_by(raw.error());
  must(raw.has_value(), "region that is open with a token for a part");
  must(raw->acquire(begin, bytes, bailey::Access::read_write).has_value(), "window of the part");
  for (const auto& [offset, length] : {std::pair{begin, bytes + 1}, {begin - 1, bytes}, {begin + bytes, 1ul}})
    if (raw->acquire(offset, length, bailey::Access::read_only))
      return Came::through(fmt::format("a window of {} bytes at {}", length, offset));
  return Came::stopped("within its part");
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
  const Group add{attacks, "windows"};
  add("wider-than-the-token", "a token narrowed to a part, used for a byte more, and narrowed back",
      "verified when a window is acquired", "each is refused", wider_than_the_token);
  add("out-of-the-window", "accesses that leave a window by a byte, and by 64 bits",
      "each access looks at its bounds", "each is refused", out_of_the_window);
  add("after-its-revocation", "a copy of a window, kept over its revocation", "copies share a word",
      "revoked, by the library", after_it_was_revoked);
  add("accesses", "offsets and lengths at every edge and overflow", "arithmetic that can't overflow",
      "within bounds, each", accesses);
  add("acquired", "windows of every place and size", "arithmetic that can't overflow", "within bounds, each",
      acquired);
  add("flipped", "a narrowed token flipped at every bit", "HMAC-SHA-256", "each is refused", flipped);
  add("of-another-session", "with the tokens of other sessions", "a key for each session and region",
      "denied, by the library", of_another_session);
  attacks.push_back({.name = "windows/minted-for-a-part",
                     .what = "a token for a part of the bytes, from the broker",
                     .rung = "process",
                     .mechanism = "windows in gates, or refused where there are none",
                     .expected = {"within its part", "unsupported, by the broker"},
                     .known = {},
                     .act = minted_for_a_part});
  add.known("around", "the bytes beside a window, by a pointer", "pkey", around_them);
  add.canary("wide-token", "a part that the token allows", with_a_wider_token);
}

}  // namespace bailey::attack
