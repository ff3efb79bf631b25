// Tokens: changed, made up, carried elsewhere and used for too long, by who has some and wants more.
#include <csignal>
#include <cstring>
#include <vector>

#include "attack/attack.h"
#include "attack/house.h"
#include "bailey/capability/key.h"
#include "bailey/crypto/kdf.h"
#include "bailey/crypto/mac.h"
#include "bailey/session/credential.h"

namespace bailey::attack {
namespace {

using capability::Token;

constexpr std::size_t head_bytes = sizeof(bailey_token_header), tag_bytes = BAILEY_TOKEN_TAG_BYTES;

std::string bytes_of(const Token& token) { return std::string(as_text(token.bytes())); }
std::uint64_t now_seconds() { return wall_ns() / 1'000'000'000; }

// alice may mint for "orders" and "other", on which nobody else has a grant. mallory has one, for a region of
// her own, so that she may ask as often as she likes.
struct Mint {
  explicit Mint(const std::string& folder, const std::string& key_file = {}) : house(folder) {
    house.serve(house.principals() + broker::region_toml("orders", "shared") +
                    broker::region_toml("other", "shared") +
                    broker::region_toml("hers", "shared", "16MiB", "", R"("process", "encrypted")") +
                    broker::grant_toml("mallory", "hers", "r") +
                    broker::grant_toml("alice", "orders", "admin") +
                    broker::grant_toml("alice", "other", "admin"),
                100, key_file);
    alice.emplace(house.client("alice"));
  }
  // For its bearer, unless it says for whom.
  Token mint(bool writable = true, const std::string& holder = {}, const std::string& region = "orders") {
    return must(alice->mint({region, writable, holder, 0}));
  }
  House house;
  std::optional<broker::Client> alice;
};

struct Try {
  std::string token;
  bool writable = false;
  std::string region = "orders";
};

// mallory shows each to the broker; none is taken. `good`, unchanged, is: what was changed is what counts.
Came show(const House& house, const std::string& good, const std::vector<Try>& tries) {
  return in_hostile(stranger(), {}, [&]() -> Came {
    broker::Client mallory = house.client("mallory");
    must(mallory.open_with(good));
    for (std::size_t i = 0; i < tries.size(); ++i) {
      auto opened = mallory.open_with(tries[i].token, tries[i].writable, tries[i].region);
      if (opened) return Came::through(fmt::format("number {} of {} opens", i, tries.size()));
      const Error& error = opened.error();
      const bool said = error.by == By::broker || (error.by == By::peer && error.code != Code::closed);
      if (!said) return Came::broken(fmt::format("number {}: {}", i, error.to_string()));
    }
    must(mallory.open_with(good));
    return Came::stopped("each is refused");
  });
}
Came show(const House& house, const Token& good, const std::vector<Try>& tries) {
  return show(house, bytes_of(good), tries);
}

// One that is refused for this reason, and nothing else.
Came show_one(const House& house, const Try& tried) {
  return in_hostile(stranger(), {}, [&] {
    auto opened = house.client("mallory").open_with(tried.token, tried.writable, tried.region);
    return opened ? Came::through("it opens") : Came::stopped_by(opened.error());
  });
}

// ---- made up

Came forged(const Ground& ground) {
  Mint mint(ground.folder);
  const Token good = mint.mint();
  const std::string head = bytes_of(good).substr(0, head_bytes);
  std::vector<Try> tries;
  for (const char filler : {'\0', '\xff'}) tries.push_back({head + std::string(tag_bytes, filler)});
  for (int i = 0; i < 1000; ++i) {
    std::string tag(tag_bytes, '\0');
    random_bytes(tag.data(), tag.size());
    tries.push_back({head + tag});
  }
  return show(mint.house, good, tries);
}

// What somebody might take for the key who knows all that is not secret, and a token.
Came with_guessed_keys(const Ground& ground) {
  Mint mint(ground.folder);
  const Token good = mint.mint();
  const capability::Head head = good.head();
  const std::string bytes = bytes_of(good);
  std::vector<std::string> keys{
      "", "bailey", "bailey token 1", "bailey root 1", bytes.substr(bytes.size() - tag_bytes), bytes};
  for (const char filler : {'\0', '\xff', 'k'}) keys.emplace_back(32, filler);
  for (const auto& id : {head.pool, head.region, head.id})
    keys.emplace_back(as_text(std::as_bytes(std::span(id))));
  for (const std::string& root : {std::string(32, '\0'), std::string(32, '\xff')})
    keys.emplace_back(as_text(must(capability::derive_key(as_bytes(root), head)).span()));
  for (const char* who : {"alice", "mallory"})
    keys.emplace_back(as_text(std::as_bytes(std::span(mint.house.key(who)->public_key()))));
  std::vector<Try> tries;
  for (const std::string& key : keys) tries.push_back({bytes_of(capability::Key(as_bytes(key)).mint(head))});
  return show(mint.house, good, tries);
}

// ---- changed

Came truncated(const Ground& ground) {
  Mint mint(ground.folder);
  const Token good = must(mint.mint().narrow(capability::Rights{bailey::Access::read_only}));
  const std::string bytes = bytes_of(good);
  std::vector<Try> tries;
  for (std::size_t size = 1; size < bytes.size(); ++size) tries.push_back({bytes.substr(0, size)});
  for (const std::string& more : {std::string(1, '\0'), std::string(tag_bytes, '\0'), bytes})
    tries.push_back({bytes + more});
  return show(mint.house, good, tries);
}

Came flipped(const Ground& ground) {
  Mint mint(ground.folder);
  const Token good = must(must(mint.mint().narrow(capability::Rights{bailey::Access::read_only}))
                              .narrow(capability::Expiry{now_seconds() + 1000}));
  std::vector<Try> tries;
  for (std::size_t bit = 0; bit < 8 * good.bytes().size(); ++bit) {
    std::string bytes = bytes_of(good);
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    tries.push_back({std::move(bytes)});
  }
  return show(mint.house, good, tries);
}

// Pieces of two tokens, the one for reading, the other for another region.
Came spliced(const Ground& ground) {
  Mint mint(ground.folder);
  const Token good = must(mint.mint(false).narrow(capability::Expiry{now_seconds() + 1000}));
  const Token other = must(mint.mint(true, {}, "other").narrow(capability::Expiry{now_seconds() + 2000}));
  const std::string a = bytes_of(good), b = bytes_of(other);
  const std::size_t tag = a.size() - tag_bytes;
  return show(mint.house, good,
              {{b.substr(0, head_bytes) + a.substr(head_bytes), true, "other"},
               {a.substr(0, head_bytes) + b.substr(head_bytes), true, "orders"},
               {a.substr(0, tag) + b.substr(tag)},
               {b.substr(0, tag) + a.substr(tag), true, "other"}});
}

// Whoever has a token has what the next caveat's tag is made with, and may append what no library would.
Came malformed_caveats(const Ground& ground) {
  Mint mint(ground.folder);
  const Token good = mint.mint();
  auto with = [&](const std::vector<std::string>& caveats) {
    std::string bytes = bytes_of(good);
    std::string tag = bytes.substr(head_bytes);
    bytes.resize(head_bytes);
    for (const std::string& caveat : caveats) {
      const crypto::Mac next = crypto::mac(as_bytes(tag), as_bytes(caveat));
      tag = as_text(std::as_bytes(std::span(next)));
      bytes += caveat;
    }
    return bytes + tag;
  };
  auto caveat = [](std::uint8_t kind, const std::string& body) {
    return std::string{static_cast<char>(kind), static_cast<char>(body.size())} + body;
  };
  auto number = [](std::uint64_t n) { return std::string(reinterpret_cast<const char*>(&n), sizeof n); };
  const std::string reads = caveat(BAILEY_TOKEN_CAVEAT_RIGHTS, "\x01");
  std::vector<Try> tries;
  for (const std::string& each :
       {caveat(0, ""), caveat(99, "x"), caveat(BAILEY_TOKEN_CAVEAT_RIGHTS, std::string(1, '\0')),
        caveat(BAILEY_TOKEN_CAVEAT_RIGHTS, "\x03"), caveat(BAILEY_TOKEN_CAVEAT_RIGHTS, ""),
        caveat(BAILEY_TOKEN_CAVEAT_RIGHTS, "\x01\x02"), caveat(BAILEY_TOKEN_CAVEAT_EXPIRY, number(0)),
        caveat(BAILEY_TOKEN_CAVEAT_EXPIRY, number(~0ull) + "x"),
        caveat(BAILEY_TOKEN_CAVEAT_RANGE, number(0) + number(0)),
        caveat(BAILEY_TOKEN_CAVEAT_RANGE, number(~0ull) + number(2)),
        caveat(BAILEY_TOKEN_CAVEAT_RANGE, number(1) + number(~0ull)), caveat(BAILEY_TOKEN_CAVEAT_PREFIX, ""),
        caveat(BAILEY_TOKEN_CAVEAT_HOLDER, ""), caveat(BAILEY_TOKEN_CAVEAT_HOLDER, "Mallory"),
        caveat(BAILEY_TOKEN_CAVEAT_HOLDER, std::string("mallory\0", 8)), std::string("\x03\xff\x01", 3),
        std::string("\x03", 1)})
    tries.push_back({with({each})});
  tries.push_back({with(std::vector<std::string>(9, reads))});
  return show(mint.house, with({reads}), tries);
}

// For reading, until a time, for bob: by caveats that say more, and without those that say less.
Came widened(const Ground& ground) {
  Mint mint(ground.folder);
  const Token good = mint.mint(false);
  const Token rights = must(mint.mint().narrow(capability::Rights{bailey::Access::read_only}));
  const Token over = must(mint.mint().narrow(capability::Expiry{now_seconds() - 1}));
  const Token bobs = mint.mint(true, "bob");
  auto header = [](const Token& token, std::size_t at, std::uint8_t value) {
    std::string bytes = bytes_of(token);
    bytes[at] = static_cast<char>(value);
    return bytes;
  };
  // The caveats left out, under the tag that there is.
  auto bare = [](const Token& token) {
    const std::string bytes = bytes_of(token);
    return bytes.substr(0, head_bytes) + bytes.substr(bytes.size() - tag_bytes);
  };
  const capability::Rights all{bailey::Access::read_write};
  return show(mint.house, good,
              {{bytes_of(good), true},
               {bytes_of(must(good.narrow(all))), true},
               {header(good, offsetof(bailey_token_header, rights), BAILEY_TOKEN_RIGHTS_WRITE), true},
               {bytes_of(rights), true},
               {bytes_of(must(rights.narrow(all))), true},
               {bare(rights), true},
               {bytes_of(over)},
               {bytes_of(must(over.narrow(capability::Expiry{now_seconds() + 1000})))},
               {bare(over)},
               {bytes_of(must(bobs.narrow(capability::Holder{"mallory"})))},
               {header(bobs, offsetof(bailey_token_header, flags), BAILEY_TOKEN_FLAG_BEARER)},
               {bare(bobs)}});
}

// Other texts of the same bytes.
Came other_texts(const Ground& ground) {
  Mint mint(ground.folder);
  // 115 bytes: the text ends in "==", and four bits of its last letter say nothing.
  const Token token = must(mint.mint().narrow(capability::Rights{bailey::Access::read_only}));
  return in_hostile(stranger(), {}, [&]() -> Came {
    const std::string text = token.text();
    if (!Token::from_text(text)) return Came::broken("the text of a token is not taken");
    const std::string bare = text.substr(0, text.find('='));
    std::vector<std::string> others{text + "\n", " " + text,        "\t" + text,      text + "=",
                                    bare,        bare + "=",        bare + "===",     text + text,
                                    text + '\0', text + "!comment", "base64:" + text, "\xef\xbb\xbf" + text};
    for (std::size_t at = 1; at < text.size(); ++at)
      for (const char* between : {"\n", " ", "\r\n", "="})
        others.push_back(text.substr(0, at) + between + text.substr(at));
    for (int bits = 1; bits < 16; ++bits) {
      others.push_back(bare + "==");
      others.back()[bare.size() - 1] = static_cast<char>(bare.back() + bits);
    }
    std::string url = text;
    for (char& c : url) c = c == '+' ? '-' : c == '/' ? '_' : c;
    if (url != text) others.push_back(url);
    for (const std::string& other : others)
      if (Token::from_text(other)) return Came::through(fmt::format("also taken: {}", other));
    return Came::stopped("one text alone");
  });
}

// ---- used where, when and by whom it is not for

Came after_its_time(const Ground& ground) {
  Mint mint(ground.folder);
  const std::uint64_t until = now_seconds() + 2;
  const std::string token = bytes_of(must(mint.mint().narrow(capability::Expiry{until})));
  return in_hostile(stranger(), {}, [&]() -> Came {
    broker::Client mallory = mint.house.client("mallory"), again = mint.house.client("mallory");
    const auto opened = must(mallory.open_with(token));
    while (now_seconds() < until) ::usleep(10'000);
    auto replayed = again.open_with(token);
    if (replayed) return Came::through("it opens after its time");
    // And what was opened before is over too, though nobody asked.
    broker::wait_until([&] { return mallory.word(opened.grant) != opened.grant_value; });
    if (mallory.word(opened.grant) == opened.grant_value)
      return Came::through("what was opened with it stays open");
    return Came::stopped_by(replayed.error());
  });
}

Came after_revocation(const Ground& ground, bool broker_dies) {
  Mint mint(ground.folder);
  const Token token = mint.mint(), other = mint.mint();
  Came used = show_one(mint.house, {bytes_of(token)});
  if (used.kind != Came::Kind::through) return Came::broken("it does not open before: " + used.seen);
  must(mint.alice->ask<protocol::Text>(protocol::RevokeToken{token.id()}));
  if (broker_dies) {
    const auto* epoch = &mint.alice->control()->header.broker_epoch;
    const auto before = __atomic_load_n(epoch, __ATOMIC_ACQUIRE);
    ::kill(mint.house.broker(), SIGKILL);
    broker::wait_until([&] {
      return __atomic_load_n(epoch, __ATOMIC_ACQUIRE) != before &&
             broker::Client::connect(mint.house.socket(), mint.house.key("bob")).has_value();
    });
    Came stays = show_one(mint.house, {bytes_of(other)});
    if (stays.kind != Came::Kind::through) return Came::broken("no token outlives the broker: " + stays.seen);
  }
  Came replayed = show_one(mint.house, {bytes_of(token)});
  if (replayed.kind != Came::Kind::stopped) return replayed;
  // Narrowed anew it has the id that it had.
  Came narrowed =
      show_one(mint.house, {bytes_of(must(token.narrow(capability::Rights{bailey::Access::read_only})))});
  return narrowed.kind == Came::Kind::stopped ? replayed : narrowed;
}

Came in_another_region(const Ground& ground) {
  Mint mint(ground.folder);
  return show_one(mint.house, {bytes_of(mint.mint()), false, "other"});
}
Came in_another_pool(const Ground& ground) {
  Mint mint(ground.folder);
  const std::string folder = ground.folder + "/other";
  must(::mkdir(folder.c_str(), 0755) == 0, "folder");
  Mint other(folder);
  return show_one(other.house, {bytes_of(mint.mint())});
}
Came another_holders(const Ground& ground) {
  Mint mint(ground.folder);
  const Token bobs = mint.mint(true, "bob");
  must(mint.house.client("bob").open_with(bytes_of(bobs)));
  return show_one(mint.house, {bytes_of(bobs)});
}
Came a_bearers(const Ground& ground) {
  Mint mint(ground.folder);
  return show_one(mint.house, {bytes_of(mint.mint())});
}
// A table has no parts that anything would hold a session to.
Came for_a_part(const Ground& ground) {
  Mint mint(ground.folder);
  return show_one(mint.house, {bytes_of(must(mint.mint().narrow(capability::Prefix{"mallory/"})))});
}

// ---- with the keys that one has

// mallory has opened two regions, in two sessions, and so the key of each; and whatever else was derived for
// her: the key of an encrypted region, and what she resumes a session with. She mints for whom she likes.
Came with_derived_keys(const Ground& ground) {
  Mint mint(ground.folder);
  broker::Client bob = mint.house.client("bob");
  const auto bobs = must(bob.open_with(bytes_of(mint.mint(true, "bob")), true));
  const auto of_bob = must(session::Credential::take(bobs, bob.welcome, true));
  const Token orders = mint.mint(false), other = mint.mint(false, {}, "other");
  return in_hostile(stranger(), {}, [&]() -> Came {
    std::vector<protocol::Opened> held;
    std::vector<broker::Client> sessions;
    for (int i = 0; i < 2; ++i) {
      sessions.push_back(mint.house.client("mallory"));
      held.push_back(must(sessions.back().open_with(bytes_of(orders))));
      held.push_back(must(sessions.back().open_with(bytes_of(other), false, "other")));
    }
    // All that she would like, each under each key.
    std::vector<capability::Head> wanted{orders.head(), other.head(), of_bob.token().head()};
    for (const protocol::Opened& opened : held)
      wanted.push_back(must(Token::decode(as_bytes(opened.token))).head());
    for (std::size_t i = 0, count = wanted.size(); i < count; ++i) {
      wanted[i].access = bailey::Access::read_write;
      if (wanted[i].audience == capability::Audience::broker) continue;
      wanted.push_back(wanted[i]);
      ++wanted.back().generation;
    }
    auto hers = must(sessions[0].open("hers", false));
    must(hers.key.has_value(), "key of her region");
    std::vector<capability::Key> keys;
    for (const protocol::Opened& opened : held) keys.emplace_back(std::as_bytes(std::span(opened.token_key)));
    keys.emplace_back(hers.key->bytes());
    keys.emplace_back(std::as_bytes(std::span(sessions[0].welcome.resume_secret)));
    for (std::size_t holder = 0; holder < keys.size(); ++holder) {
      const capability::Key& key = keys[holder];
      for (const capability::Head& head : wanted) {
        const Token forged = key.mint(head);
        for (const char* region : {"orders", "other"}) {
          auto opened = sessions[0].open_with(bytes_of(forged), true, region);
          if (opened) return Came::through(fmt::format("key {} opens {} for writing", holder, region));
          if (opened.error().code != Code::denied) return Came::broken(opened.error().to_string());
        }
        if (of_bob.scope_of(forged))
          return Came::through(fmt::format("key {} mints for bob's session", holder));
        // Each of her own keys is for itself alone.
        for (std::size_t of = 0; of < held.size(); ++of)
          if (of != holder && keys[of].verify(forged))
            return Came::through(fmt::format("key {} mints for number {}", holder, of));
      }
      if (holder < held.size() && of_bob.scope_of(must(Token::decode(as_bytes(held[holder].token)))))
        return Came::through("what is hers is taken in bob's session");
    }
    return Came::stopped("each is refused");
  });
}
// The token of a session, at the broker and in another session.
Came another_audience(const Ground& ground) {
  Mint mint(ground.folder);
  broker::Client bob = mint.house.client("bob");
  const auto opened = must(bob.open_with(bytes_of(mint.mint(true, "bob")), true));
  return show_one(mint.house, {opened.token});
}

Came mint_without_a_right(const Ground& ground) {
  Mint mint(ground.folder);
  const Token token = mint.mint(true);
  return in_hostile(stranger(), {}, [&]() -> Came {
    broker::Client mallory = mint.house.client("mallory");
    must(mallory.open_with(bytes_of(token), true));
    auto minted = mallory.mint({"orders", false, "mallory", 0});
    return minted ? Came::through("a token") : Came::stopped_by(minted.error());
  });
}
Came revoke_anothers(const Ground& ground) {
  Mint mint(ground.folder);
  const Token token = mint.mint();
  Came came = in_hostile(stranger(), {}, [&] {
    auto revoked = mint.house.client("mallory").ask<protocol::Text>(protocol::RevokeToken{token.id()});
    return revoked ? Came::through("revoked") : Came::stopped_by(revoked.error());
  });
  const Came still = show_one(mint.house, {bytes_of(token)});
  return still.kind == Came::Kind::through ? came : Came::through("it is not valid any more");
}

// Whoever knows the broker's key mints what is taken: it is the key that the rest rests on.
Came with_the_brokers_key(const Ground& ground) {
  const std::string file = ground.folder + "/broker";
  must(crypto::write_new_pair(file));
  const crypto::Secret seed = must(must(crypto::read_secret_key(file)).seed());
  must(::chown(file.c_str(), defended_uid(), static_cast<gid_t>(-1)) == 0, "owner of the broker's key");
  Mint mint(ground.folder, file);
  capability::Head head = mint.mint(false).head();
  head.access = bailey::Access::read_write;
  const crypto::Secret root = must(crypto::derive(seed.span(), "bailey root 1"));
  const crypto::Secret key = must(capability::derive_key(root.span(), head));
  return show_one(mint.house, {bytes_of(capability::Key(key.span()).mint(head)), true});
}

}  // namespace

void add_tokens(Attacks& attacks) {
  const Group add{attacks, "tokens"};
  const std::string each = "each is refused", denied = "denied, by the broker",
                    revoked = "revoked, by the broker", tag = "HMAC-SHA-256",
                    chain = "each caveat's key is the tag before it";
  add("forged", "headers that are right under 1,002 tags that are not", tag, each, forged);
  add("guessed-keys", "minted with all that is not secret", tag, each, with_guessed_keys);
  add("truncated", "cut at every byte, and made longer", chain, each, truncated);
  add("flipped", "flipped at every bit", tag, each, flipped);
  add("spliced", "header, caveats and tag of two tokens", chain, each, spliced);
  add("malformed-caveats", "caveats that no library appends, under tags that are right", "one form of bytes",
      each, malformed_caveats);
  add("widened", "rights, time and holder widened by more caveats, fewer, and in the header", chain, each,
      widened);
  add("non-canonical-text", "other texts of the same bytes", "one form of text", "one text alone",
      other_texts);
  add("after-expiry", "replayed after its time", "the broker's clock and timer", revoked, after_its_time);
  add("after-revocation", "replayed after its revocation", "an id has a row in the state", revoked,
      [](const Ground& ground) { return after_revocation(ground, false); });
  add("after-revocation-and-death", "replayed after its revocation and the broker's death",
      "erased before anybody is told", revoked,
      [](const Ground& ground) { return after_revocation(ground, true); });
  add("another-region", "shown for another region", "a key for each audience", denied, in_another_region);
  add("another-pool", "shown to another broker", "a key for each audience", denied, in_another_pool);
  add("another-audience", "a session's token, shown to the broker by another", "a key for each audience",
      denied, another_audience);
  add("another-holders", "one that names another holder", "the broker says who somebody is", denied,
      another_holders);
  add("for-a-part", "one for keys of a prefix, to be given the whole file",
      "refused where nothing holds to a part", "unsupported, by the broker", for_a_part);
  add("derived-keys", "who has six keys of open regions and sessions mints for all others",
      "a key for each audience", each, with_derived_keys);
  add("mint-without-a-right", "who may write a region mints for it", "minted for admins alone", denied,
      mint_without_a_right);
  add("revoke-anothers", "who has a token revokes it", "for who may mint it", "not found, by the broker",
      revoke_anothers);
  add.known("bearers", "one that was stolen and names no holder", "a token that names its holder", a_bearers);
  add.canary("broker-key", "minted with the key of a broker that leaked it", with_the_brokers_key);
}

}  // namespace bailey::attack
