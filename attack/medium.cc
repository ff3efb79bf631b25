// The rung `encrypted`: who can write where the bytes of a pool lie, and lacks the region's key. Here a pool
// in files, which their owner writes past the broker, as another host, a hypervisor or a stolen disk might.
#include <fcntl.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "attack/attack.h"
#include "attack/house.h"
#include "bailey/table/index.h"
#include "bailey/table/sealed.h"

namespace bailey::attack {
namespace {

using table::Word;

constexpr std::string_view key_of_record = "account of carol", old_value = "the old balance",
                           value_of_record = "the new balance";
constexpr std::string_view other_key = "account of dave.", other_value = "another balance";
constexpr std::size_t sealed_bytes_at = BAILEY_RECORD_HEADER_BYTES + BAILEY_SEALED_HEADER_BYTES;
const std::string plain = "\"process\"", sealed = "\"process\", \"encrypted\"",
                  with_signatures = sealed + ", \"signed\"";

// Where a record lies in a file of the pool.
struct Spot {
  std::string path;
  off_t at = 0;
  std::size_t bytes = 0;

  std::string read() const {
    const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::string record(bytes, '\0');
    must(file && ::pread(file.get(), record.data(), bytes, at) == static_cast<ssize_t>(bytes),
         "record to read");
    return record;
  }
  void write(std::string_view record) const {
    const Fd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!file ||
        ::pwrite(file.get(), record.data(), record.size(), at) != static_cast<ssize_t>(record.size()))
      throw std::runtime_error(fmt::format("could not write {}: {}", path, ::strerrorname_np(errno)));
  }
};

// A session in a process of its own that reads whenever it is told to, and says what it was given.
class Reader {
 public:
  explicit Reader(const House& house)
      : process_([this, &house] {
          Session bob = house.session("bob");
          auto table = must(bob.open_table("orders", bailey::Access::read_only));
          said_.say();
          while (asked_.hear() != 0) said_.say(look(table));
          return 0;
        }) {
    must(said_.hear() == 'x', "reader");
  }
  // 'v' what was written last; 'o' what was written before; 'w' what nobody wrote there; 'n' nothing.
  char reads() const {
    asked_.say();
    return said_.hear();
  }
  std::vector<int> ends() const { return {asked_.ends[1], said_.ends[0]}; }

 private:
  static char of_item(std::string_view key, std::string_view value) {
    if (key == other_key) return value == other_value ? 'v' : 'w';
    return key != key_of_record ? 'w' : value == value_of_record ? 'v' : value == old_value ? 'o' : 'w';
  }
  static char look(table::Table& table) {
    table::Cursor cursor;
    std::vector<table::Item> items;
    // Each call that ends at what does not open goes on behind it.
    for (int calls = 0; !cursor.done && calls < 100; ++calls)
      static_cast<void>(table.scan(cursor, 100, items));
    for (const table::Item& item : items)
      if (of_item(item.key, item.value) == 'w') return 'w';
    std::string value;
    return table.get(key_of_record, value) ? of_item(key_of_record, value) : 'n';
  }
  broker::Words asked_, said_;
  broker::Process process_;
};

// alice writes a record, and again; the attacker is of the uid that the pool's files belong to.
struct Stored {
  Stored(const Ground& ground, const std::string& protect)
      : house(ground.folder), pool(ground.folder + "/pool") {
    const std::string kept = ground.folder + "/kept";
    must(crypto::write_new_pair(kept));
    must(::mkdir(pool.c_str(), 0700) == 0 &&
             ::chown(pool.c_str(), defended_uid(), static_cast<gid_t>(-1)) == 0 &&
             ::chown(kept.c_str(), defended_uid(), static_cast<gid_t>(-1)) == 0,
         "folder of the pool");
    house.medium = "file:" + pool;
    house.protect = protect;
    house.serve(house.policy("shared") + broker::region_toml("other", "shared", "16MiB", "", protect) +
                    broker::grant_toml("alice", "other", "rw"),
                100, kept);
    alice.emplace(house.session("alice"));
    table.emplace(must(alice->open_table("orders", bailey::Access::read_write)));
    put(*table, other_key, other_value);
    put(*table, key_of_record, old_value);
    old = spot(*table, key_of_record).read();
    met.emplace(house);
    must(met->reads() == 'o', "reader that reads what was written");
    put(*table, key_of_record, value_of_record);
    record = spot(*table, key_of_record);
    must(met->reads() == 'v', "reader that reads what was written");
  }
  static void put(table::Table& to, std::string_view key, std::string_view value) {
    must(to.put(key, value).has_value(), "put");
  }
  Spot spot(table::Table& of, std::string_view key) const {
    pool::View& view = of.view();
    const table::Geometry& geometry = of.geometry();
    pool::Sealer* const sealer = view.sealer();
    const table::Home home =
        sealer != nullptr ? table::home_of(sealer->hash(key), geometry) : table::home_of(key, geometry);
    const table::Index index(view.index(), geometry);
    table::Candidates candidates(index, home);
    const Word* const slot = candidates.slot();
    must(slot != nullptr, "record");
    const std::size_t bytes = sealer != nullptr
                                  ? table::sealed_record_bytes(key.size(), value_of_record.size())
                                  : table::record_bytes(key.size(), value_of_record.size());
    return {fmt::format("{}/segment-{}", pool, table::segment_of(*slot)),
            static_cast<off_t>(table::offset_of(*slot)), bytes};
  }

  House house;
  std::string pool;
  std::optional<Session> alice;
  std::optional<table::Table> table;
  std::optional<Reader> met;  // both versions
  Spot record;
  std::string old;  // as it lay there
};

// Puts each in the record's place; nobody reads what was not written there last.
Came replace_by(const Stored& stored, const std::vector<std::string>& tries) {
  const std::string good = stored.record.read();
  std::vector<int> ends = stored.met->ends();
  return in_hostile(attacker_of("same uid"), ends, [&]() -> Came {
    for (std::size_t i = 0; i < tries.size(); ++i) {
      stored.record.write(tries[i]);
      const char read = stored.met->reads();
      if (read == 0) return Came::through(fmt::format("number {}: the reader is gone", i));
      if (read != 'v' && read != 'n')
        return Came::through(fmt::format("number {} of {} is read", i, tries.size()));
      stored.record.write(good);
      if (stored.met->reads() != 'v')
        return Came::broken(fmt::format("after number {} it is not read again", i));
    }
    return Came::stopped("never read");
  });
}

Came flipped(const Ground& ground, const std::string& protect) {
  Stored stored(ground, protect);
  std::vector<std::string> tries;
  for (std::size_t bit = 0; bit < 8 * stored.record.bytes; ++bit) {
    tries.push_back(stored.record.read());
    char& byte = tries.back()[bit / 8];
    byte = static_cast<char>(byte ^ (1 << bit % 8));
  }
  return replace_by(stored, tries);
}

void set_lengths(std::string& record, Word lengths) {
  std::memcpy(record.data() + 8, &lengths, sizeof lengths);
}
Word lengths_of(const std::string& record) {
  Word lengths;
  std::memcpy(&lengths, record.data() + 8, sizeof lengths);
  return lengths;
}
Came cut(const Ground& ground) {
  Stored stored(ground, sealed);
  std::vector<std::string> tries;
  const std::string good = stored.record.read();
  const Word generation = lengths_of(good) & 0xffff;
  for (std::size_t key = 0; key <= key_of_record.size() + 1; ++key)
    for (std::size_t value = 0; value <= value_of_record.size() + 1; ++value) {
      if (key == key_of_record.size() && value == value_of_record.size()) continue;
      tries.push_back(good);
      set_lengths(tries.back(), table::make_lengths(key, value) | generation);
    }
  for (std::size_t from = 16; from < good.size(); from += 8)
    tries.push_back(good.substr(0, from) + std::string(good.size() - from, '\0'));
  return replace_by(stored, tries);
}
Came swapped(const Ground& ground) {
  Stored stored(ground, sealed);
  const std::string good = stored.record.read(), other = stored.spot(*stored.table, other_key).read();
  // All of the other's, under one's own hash; then each half, and each field of the head.
  std::vector<std::string> tries{other, other.substr(0, 16) + good.substr(16, 16) + other.substr(32),
                                 good.substr(0, sealed_bytes_at) + other.substr(sealed_bytes_at),
                                 other.substr(0, sealed_bytes_at) + good.substr(sealed_bytes_at)};
  for (const auto& [from, to] : {std::pair{0, 8}, {8, 16}, {16, 32}, {32, 48}, {48, 64}, {16, 64}, {0, 32}}) {
    tries.push_back(good);
    tries.back().replace(static_cast<std::size_t>(from), static_cast<std::size_t>(to - from), other,
                         static_cast<std::size_t>(from), static_cast<std::size_t>(to - from));
  }
  return replace_by(stored, tries);
}
// Halves of two versions of one record.
Came spliced(const Ground& ground) {
  Stored stored(ground, sealed);
  const std::string good = stored.record.read();
  std::vector<std::string> tries;
  for (std::size_t at = 8; at < good.size(); at += 8) {
    tries.push_back(good.substr(0, at) + stored.old.substr(at));
    tries.push_back(stored.old.substr(0, at) + good.substr(at));
  }
  // What is the older one, but for padding, is for the next.
  std::erase_if(tries, [&](const std::string& each) {
    const std::size_t text = sealed_bytes_at + value_of_record.size();
    return each.compare(0, text, stored.old, 0, text) == 0;
  });
  return replace_by(stored, tries);
}
Came rolled_back(const Ground& ground, bool met) {
  Stored stored(ground, sealed);
  if (met) return replace_by(stored, {stored.old});
  Came came = in_hostile(attacker_of("same uid"), {}, [&] {
    stored.record.write(stored.old);
    return Came::stopped("not read");
  });
  const Reader fresh(stored.house);
  return fresh.reads() == 'o' ? Came::through("the older one is read") : came;
}
Came of_another_region(const Ground& ground) {
  Stored stored(ground, sealed);
  table::Table other = must(stored.alice->open_table("other", bailey::Access::read_write));
  Stored::put(other, key_of_record, other_value);
  const std::string foreign = stored.spot(other, key_of_record).read(), good = stored.record.read();
  return replace_by(stored, {foreign, good.substr(0, 32) + foreign.substr(32),
                             foreign.substr(0, 16) + good.substr(16, 16) + foreign.substr(32)});
}

// A record as one makes it who has this key.
std::string made_with(Bytes key, crypto::Cipher cipher, const pool::RegionId& region,
                      crypto::Generation generation, const Stored& stored) {
  auto sealer = must(pool::Sealer::create({cipher, region, "forged", generation, key}));
  // The version that stands there; the hash, which who lacks the key takes from there too.
  std::string record = stored.record.read();
  Word word;
  crypto::KeyHash hash;
  std::memcpy(&word, record.data(), sizeof word);
  std::memcpy(&hash, record.data() + BAILEY_RECORD_HEADER_BYTES, sizeof hash);
  alignas(8) std::byte bytes[512]{};
  table::fill_sealed_record(*sealer, bytes, key_of_record, hash, "a forged  value", table::version_of(word));
  return std::string(as_text(Bytes(bytes, record.size())));
}
// What bob's session was given.
protocol::Opened as_reader(const House& house) {
  broker::Client bob = house.client("bob");
  auto opened = must(bob.open("orders", false));
  must(opened.key.has_value(), "key for the reader");
  return opened;
}
Came forged(const Ground& ground) {
  Stored stored(ground, sealed);
  const protocol::Opened given = as_reader(stored.house);
  std::vector<std::string> tries;
  for (const char filler : {'\0', '\xff', 'k'}) {
    const std::string key(given.key->key.size(), filler);
    tries.push_back(made_with(as_bytes(key), given.key->cipher, given.region, given.key->generation, stored));
  }
  // One that is not sealed.
  alignas(8) std::byte bytes[512]{};
  table::fill_record(bytes, key_of_record, "a forged  value", 1ull << 32 | 9);
  tries.emplace_back(as_text(Bytes(bytes, stored.record.bytes)));
  return replace_by(stored, tries);
}
Came forged_by_a_reader(const Ground& ground, std::string_view attacker, const std::string& protect) {
  if (::geteuid() != 0 && attacker != "same uid") return Came::skipped("the suite is not run as root");
  Stored stored(ground, protect);
  const protocol::Opened given = as_reader(stored.house);
  const std::string record =
      made_with(given.key->bytes(), given.key->cipher, given.region, given.key->generation, stored);
  broker::Client bob = stored.house.client("bob");
  const auto opened = must(bob.open("orders", false));
  must(bob.ask<protocol::Segments>(protocol::MapSegments{opened.grant, {}}).has_value(), "segments");
  std::vector<int> held = stored.met->ends();
  for (const Fd& file : bob.fds) held.push_back(file.get());
  return in_hostile(attacker_of(attacker), held, [&]() -> Came {
    std::string met = "no descriptor";
    for (const Fd& file : bob.fds) {
      const Fd again(::open(fmt::format("/proc/self/fd/{}", file.get()).c_str(), O_RDWR | O_CLOEXEC));
      if (!again) met = ::strerrorname_np(errno);
      for (const int fd : {file.get(), again.get()})
        if (fd >= 0) static_cast<void>(::pwrite(fd, record.data(), record.size(), stored.record.at));
    }
    const char read = stored.met->reads();
    if (read == 'n') return Came::stopped("never read");
    return read == 'v' ? Came::stopped(met) : Came::through("its record is read");
  });
}

// All files of the pool, its state among them.
Came reads_them(const Ground& ground, const std::string& protect) {
  Stored stored(ground, protect);
  std::optional<protocol::Opened> given;
  if (protect == sealed) given = as_reader(stored.house);
  return in_hostile(attacker_of("same uid"), {}, [&]() -> Came {
    std::size_t files = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(stored.pool)) {
      if (!entry.is_regular_file()) continue;
      std::ifstream file(entry.path(), std::ios::binary);
      const std::string bytes((std::istreambuf_iterator<char>(file)), {});
      ++files;
      for (const std::string_view secret :
           {key_of_record, old_value, value_of_record, other_key, other_value})
        if (bytes.find(secret) != std::string::npos)
          return Came::through(fmt::format("\"{}\" in {}", secret, entry.path().filename().string()));
      if (given && bytes.find(as_text(given->key->bytes())) != std::string::npos)
        return Came::through(fmt::format("the region's key in {}", entry.path().filename().string()));
    }
    return files < 3 ? Came::broken("there are no files to read") : Came::stopped("nothing of it");
  });
}

}  // namespace

void add_medium(Attacks& attacks) {
  auto add = [&](const std::string& name, std::string what, std::string mechanism, std::string expected,
                 std::function<Came(const Ground&)> act, std::string known = {}) {
    attacks.push_back({.name = "medium/" + name,
                       .what = std::move(what),
                       .rung = "encrypted",
                       .mechanism = std::move(mechanism),
                       .expected = {std::move(expected)},
                       .known = std::move(known),
                       .act = std::move(act)});
  };
  auto add_canary = [&](const std::string& name, std::function<Came(const Ground&)> act) {
    attacks.push_back({.name = "canary/medium/" + name,
                       .what = name + " where nothing is encrypted",
                       .rung = "none",
                       .mechanism = "nothing",
                       .expected = {},
                       .known = {},
                       .act = std::move(act)});
  };
  const std::string never = "never read", bound = "tags over all that a record is bound to";
  add("read", "looks for keys, values and the region's key in all files of the pool",
      "sealed records; keys stay out", "nothing of it",
      [](const Ground& ground) { return reads_them(ground, sealed); });
  add_canary("read", [](const Ground& ground) { return reads_them(ground, plain); });
  add("flipped", "a record flipped at every bit", bound, never,
      [](const Ground& ground) { return flipped(ground, sealed); });
  add_canary("flipped", [](const Ground& ground) { return flipped(ground, plain); });
  add("cut", "a record cut to every length, and emptied from every word on", bound, never, cut);
  add("swapped", "a record of another key, whole and in parts", bound, never, swapped);
  add("spliced", "halves of two versions of a record", bound, never, spliced);
  add("of-another-region", "a record of another region under the same key", "a key for each region", never,
      of_another_region);
  add("rolled-back", "an older version, towards who met the newer one", "the newest versions are remembered",
      never, [](const Ground& ground) { return rolled_back(ground, true); });
  add(
      "rolled-back-towards-others", "an older version, towards who has not met the newer one", "", "",
      [](const Ground& ground) { return rolled_back(ground, false); },
      "nothing: a record that was right once opens");
  add("forged", "records made with other keys, and one that is not sealed", bound, never, forged);
  add("forged-by-a-reader", "a record made with a reader's key, by the descriptors that it was given",
      "descriptors for reading alone", "EACCES",
      [](const Ground& ground) { return forged_by_a_reader(ground, "other uid", sealed); });
  add(
      "forged-by-a-reader-of-the-owners-uid", "the same by a reader to whom the pool's files belong", "", "",
      [](const Ground& ground) { return forged_by_a_reader(ground, "same uid", sealed); },
      "signatures; a uid of its own for the broker, or a pool in memory, which is sealed");
  add("forged-by-a-reader-where-records-are-signed", "likewise, and the region is signed",
      "signatures by the writers, which readers verify", never,
      [](const Ground& ground) { return forged_by_a_reader(ground, "same uid", with_signatures); });
  attacks.back().rung = "signed";
}

}  // namespace bailey::attack
