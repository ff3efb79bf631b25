#include "bailey/broker/state.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <cstring>
#include <ranges>

namespace bailey::broker {
namespace {

constexpr const char* schema = R"(
CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS regions(number INTEGER PRIMARY KEY, id BLOB NOT NULL, name TEXT NOT NULL UNIQUE,
  kind BLOB NOT NULL, bytes INTEGER NOT NULL, mode INTEGER NOT NULL, seed INTEGER NOT NULL, buckets INTEGER NOT NULL,
  overflow INTEGER NOT NULL, index_bytes INTEGER NOT NULL, segment_bytes INTEGER NOT NULL,
  generation INTEGER NOT NULL, generations INTEGER NOT NULL, writer INTEGER NOT NULL, disowned INTEGER NOT NULL,
  cipher INTEGER NOT NULL, key_generation INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS segments(id INTEGER PRIMARY KEY, region INTEGER NOT NULL, grant_ INTEGER NOT NULL,
  writer INTEGER NOT NULL, bytes INTEGER NOT NULL, state INTEGER NOT NULL, pending BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS sessions(number INTEGER PRIMARY KEY, secret BLOB NOT NULL, pid INTEGER NOT NULL,
  uid INTEGER NOT NULL, gids BLOB NOT NULL, keys BLOB NOT NULL, boot BLOB NOT NULL, start_ticks INTEGER NOT NULL,
  random BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS opens(grant_ INTEGER PRIMARY KEY, session INTEGER NOT NULL, region INTEGER NOT NULL,
  principal BLOB NOT NULL, writable INTEGER NOT NULL, writer INTEGER NOT NULL, desk INTEGER NOT NULL,
  pending_generation INTEGER NOT NULL, late INTEGER NOT NULL, revoked BLOB NOT NULL, token BLOB NOT NULL, expires INTEGER NOT NULL,
  holders BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS tokens(id BLOB PRIMARY KEY, region INTEGER NOT NULL, issuer BLOB NOT NULL,
  by_admin INTEGER NOT NULL, holder BLOB NOT NULL,  writable INTEGER NOT NULL, expires INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS writer_keys(region INTEGER NOT NULL, writer INTEGER NOT NULL, key BLOB NOT NULL,
  PRIMARY KEY(region, writer)) WITHOUT ROWID;
)";

std::unexpected<Error> damaged(const char* table) {
  return fail(Code::corrupt, By::broker, fmt::format("the broker's state has a damaged row in {}", table));
}

template <class T>
std::string bytes_of(const T& items) {
  return {reinterpret_cast<const char*>(items.data()), items.size() * sizeof(typename T::value_type)};
}

}  // namespace

// Binds in order and steps; gives the statement back for the next use.
class State::Statement {
 public:
  Statement(State& state, const char* sql) : state_(state), prepared_(state.prepare(sql)) {}
  ~Statement() {
    if (prepared_) sqlite3_reset(*prepared_);
  }
  Statement& operator<<(std::uint64_t value) {
    if (prepared_) sqlite3_bind_int64(*prepared_, ++at_, static_cast<sqlite3_int64>(value));
    return *this;
  }
  Statement& operator<<(std::string_view bytes) {
    if (prepared_)
      sqlite3_bind_blob64(*prepared_, ++at_, bytes.empty() ? "" : bytes.data(), bytes.size(),
                          SQLITE_TRANSIENT);
    return *this;
  }
  // Whether there is a row.
  Result<bool> step() {
    if (!prepared_) return std::unexpected(prepared_.error());
    int outcome = sqlite3_step(*prepared_);
    at_ = -1;
    if (outcome == SQLITE_ROW) return true;
    if (outcome == SQLITE_DONE) return false;
    return state_.failed("could not be written or read");
  }
  Status done() {
    BAILEY_TRY(step());
    return {};
  }
  // Columns of the row, in order.
  template <class T>
  Statement& operator>>(T& value)
    requires std::is_integral_v<T>
  {
    value = static_cast<T>(sqlite3_column_int64(*prepared_, ++at_));
    return *this;
  }
  Statement& operator>>(std::string& value) {
    int column = ++at_;
    const void* blob = sqlite3_column_blob(*prepared_, column);  // null where it is empty
    value.clear();
    if (blob != nullptr)
      value.assign(static_cast<const char*>(blob),
                   static_cast<std::size_t>(sqlite3_column_bytes(*prepared_, column)));
    return *this;
  }
  template <std::size_t N>
  Statement& operator>>(std::array<std::uint8_t, N>& value) {
    std::string bytes;
    *this >> bytes;
    whole_ = whole_ && bytes.size() == N;
    std::memcpy(value.data(), bytes.data(), std::min(bytes.size(), N));
    return *this;
  }
  template <class T>
  void items(std::vector<T>& out) {
    std::string bytes;
    *this >> bytes;
    whole_ = whole_ && bytes.size() % sizeof(T) == 0;
    out.resize(bytes.size() / sizeof(T));
    if (!out.empty()) std::memcpy(out.data(), bytes.data(), out.size() * sizeof(T));
  }
  bool whole() const { return whole_; }

 private:
  State& state_;
  Result<sqlite3_stmt*> prepared_;
  int at_ = 0;
  bool whole_ = true;
};

State::State(State&& other) noexcept
    : db_(std::exchange(other.db_, nullptr)), prepared_(std::move(other.prepared_)) {}

State::~State() {
  for (auto& [sql, statement] : prepared_) sqlite3_finalize(statement);
  sqlite3_close(db_);
}

std::unexpected<Error> State::failed(std::string_view what) const {
  int code = sqlite3_errcode(db_) & 0xff;
  Error error{code == SQLITE_FULL ? Code::no_space : Code::io,
              By::broker,
              sqlite3_system_errno(db_),
              fmt::format("the broker's state {}: {}", what, sqlite3_errmsg(db_)),
              {}};
  if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) error.code = Code::corrupt;
  return std::unexpected(std::move(error));
}

Status State::run(const char* sql) {
  if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return failed("could not be written");
  return {};
}

Result<sqlite3_stmt*> State::prepare(const char* sql) {
  for (auto& [known, statement] : prepared_)
    if (known == sql) return statement;
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v3(db_, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr) != SQLITE_OK)
    return failed("is not as this version makes it");
  prepared_.emplace_back(sql, statement);
  return statement;
}

Result<State> State::open(const std::string& path, bool durable) {
  // SQLite's files are for the broker's uid alone.
  mode_t before = ::umask(0077);
  sqlite3* db = nullptr;
  int opened = sqlite3_open_v2(path.c_str(), &db,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  State state(db);
  auto prepared = [&]() -> Status {
    if (opened != SQLITE_OK) return state.failed(fmt::format("({}) could not be opened", path));
    // One process has it: no memory is shared with others, and a broker that was killed leaves no lock.
    BAILEY_TRY(
        state.run("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA trusted_schema = OFF"));
    BAILEY_TRY(state.run(durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = OFF"));
    BAILEY_TRY(state.run(schema));
    std::string version = fmt::format("{}/{}", state_version, BAILEY_LAYOUT);
    std::string made_by = BAILEY_TRY(state.meta("version"));
    if (made_by.empty()) return state.set_meta("version", version);
    if (made_by != version)
      return fail(
          Code::incompatible, By::broker,
          fmt::format("the pool's state in {} has version {}, this build makes and reads {} (state/layout)",
                      path, made_by, version),
          "use the version of Bailey that made the pool");
    return {};
  }();
  ::umask(before);
  if (!prepared) return std::unexpected(std::move(prepared).error());
  return state;
}

Result<std::string> State::meta(std::string_view name) {
  Statement statement(*this, "SELECT value FROM meta WHERE name = CAST(?1 AS TEXT)");
  std::string value;
  if (BAILEY_TRY((statement << name).step())) statement >> value;
  return value;
}

Status State::set_meta(std::string_view name, std::string_view value) {
  Statement statement(*this, "INSERT OR REPLACE INTO meta VALUES(CAST(?1 AS TEXT), ?2)");
  return (statement << name << value).done();
}

Status State::save(const Region& region) {
  Statement statement(
      *this, "INSERT OR REPLACE INTO regions VALUES(?,?,CAST(? AS TEXT),?,?,?,?,?,?,?,?,?,?,?,?,?,?)");
  statement << region.number << bytes_of(region.id) << region.name << region.kind << region.bytes
            << static_cast<std::uint64_t>(region.geometry.mode) << region.geometry.hash_seed
            << region.geometry.buckets << region.geometry.overflow_buckets << region.index_bytes
            << region.segment_bytes << region.index.generation << region.generations << region.writer
            << std::uint64_t{region.disowned} << static_cast<std::uint64_t>(region.cipher)
            << region.key_generation;
  return statement.done();
}

Status State::save(const Segment& segment) {
  Statement statement(*this, "INSERT OR REPLACE INTO segments VALUES(?,?,?,?,?,?,?)");
  std::vector<std::uint32_t> pending(segment.pending.begin(), segment.pending.end());
  statement << segment.id << segment.region << segment.grant << segment.writer << segment.bytes
            << static_cast<std::uint64_t>(segment.state) << bytes_of(pending);
  return statement.done();
}

Status State::save(const Session& session) {
  Statement statement(*this, "INSERT OR REPLACE INTO sessions VALUES(?,?,?,?,?,?,?,?,?)");
  statement << session.number << bytes_of(session.secret) << static_cast<std::uint64_t>(session.pid)
            << session.uid << bytes_of(session.who.gids) << bytes_of(session.who.keys)
            << bytes_of(session.process.boot) << session.process.start_ticks
            << bytes_of(session.process.random);
  return statement.done();
}

Status State::save(const Open& open) {
  Statement statement(*this, "INSERT OR REPLACE INTO opens VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)");
  statement << open.grant << open.session << open.region << open.principal << std::uint64_t{open.writable}
            << open.writer << open.desk << open.pending_generation << std::uint64_t{open.late} << open.revoked
            << (open.token ? bytes_of(*open.token) : std::string()) << open.expires
            << fmt::to_string(fmt::join(open.holders, "\n"));
  return statement.done();
}

Status State::save(const Minted& token) {
  Statement statement(*this, "INSERT OR REPLACE INTO tokens VALUES(?,?,?,?,?,?,?)");
  statement << bytes_of(token.id) << token.region << token.issuer << std::uint64_t{token.by_admin}
            << token.holder << std::uint64_t{token.writable} << token.expires;
  return statement.done();
}

Status State::save_writer_key(std::uint32_t region, std::uint32_t writer, const protocol::PublicKey& key) {
  Statement statement(*this, "INSERT OR IGNORE INTO writer_keys VALUES(?,?,?)");
  return (statement << region << writer << bytes_of(key)).done();
}

Status State::inherit_writer_key(std::uint32_t region, std::uint32_t writer, std::uint32_t heir) {
  Statement statement(*this,
                      "INSERT INTO writer_keys SELECT region, ?, key FROM writer_keys "
                      "WHERE region = ? AND writer = ?");
  return (statement << heir << region << writer).done();
}

Result<std::vector<protocol::WriterKey>> State::writer_keys(std::uint32_t region, std::uint32_t writer,
                                                            std::size_t most) {
  std::vector<protocol::WriterKey> found;
  Statement rows(
      *this, "SELECT writer, key FROM writer_keys WHERE region = ? AND writer >= ? ORDER BY writer LIMIT ?");
  rows << region << writer << most;
  while (BAILEY_TRY(rows.step())) {
    protocol::WriterKey row;
    rows >> row.writer >> row.key;
    if (!rows.whole()) return damaged("writer_keys");
    found.push_back(row);
  }
  return found;
}

Status State::erase_region(std::uint32_t number) {
  Statement keys(*this, "DELETE FROM writer_keys WHERE region = ?");
  BAILEY_TRY((keys << number).done());
  Statement statement(*this, "DELETE FROM regions WHERE number = ?");
  return (statement << number).done();
}
Status State::erase_segment(SegmentId id) {
  Statement statement(*this, "DELETE FROM segments WHERE id = ?");
  return (statement << id).done();
}
Status State::erase_session(std::uint64_t number) {
  Statement statement(*this, "DELETE FROM sessions WHERE number = ?");
  return (statement << number).done();
}
Status State::erase_open(std::uint32_t grant) {
  Statement statement(*this, "DELETE FROM opens WHERE grant_ = ?");
  return (statement << grant).done();
}
Status State::erase_token(const Id& id) {
  Statement statement(*this, "DELETE FROM tokens WHERE id = ?");
  return (statement << bytes_of(id)).done();
}

Result<std::vector<Region>> State::regions() {
  std::vector<Region> found;
  Statement rows(*this, "SELECT * FROM regions ORDER BY number");
  while (BAILEY_TRY(rows.step())) {
    Region region;
    std::uint8_t mode = 0, cipher = 0;
    rows >> region.number >> region.id >> region.name >> region.kind >> region.bytes >> mode >>
        region.geometry.hash_seed >> region.geometry.buckets >> region.geometry.overflow_buckets >>
        region.index_bytes >> region.segment_bytes >> region.index.generation >> region.generations >>
        region.writer >> region.disowned >> cipher >> region.key_generation;
    region.geometry.mode = static_cast<table::Mode>(mode);
    region.cipher = static_cast<crypto::Cipher>(cipher);
    if (!rows.whole() || region.number >= BAILEY_REGIONS_MAX || (mode != 1 && mode != 2) || cipher < 1 ||
        cipher > crypto::cipher_max || region.key_generation > crypto::generations_max || !region.has_shape())
      return damaged("regions");
    found.push_back(std::move(region));
  }
  return found;
}

Result<std::vector<Segment>> State::segments() {
  std::vector<Segment> found;
  Statement rows(*this, "SELECT * FROM segments ORDER BY id");
  while (BAILEY_TRY(rows.step())) {
    Segment segment;
    std::uint8_t state = 0;
    std::vector<std::uint32_t> pending;
    rows >> segment.id >> segment.region >> segment.grant >> segment.writer >> segment.bytes >> state;
    rows.items(pending);
    segment.state = static_cast<SegmentState>(state);
    segment.pending.insert(pending.begin(), pending.end());
    if (!rows.whole() || segment.id == 0 || state < 1 || state > 4) return damaged("segments");
    found.push_back(std::move(segment));
  }
  return found;
}

Result<std::vector<Session>> State::sessions() {
  std::vector<Session> found;
  Statement rows(*this, "SELECT * FROM sessions ORDER BY number");
  while (BAILEY_TRY(rows.step())) {
    Session session;
    rows >> session.number >> session.secret >> session.pid >> session.uid;
    rows.items(session.who.gids);
    rows.items(session.who.keys);
    rows >> session.process.boot >> session.process.start_ticks >> session.process.random;
    session.who.uid = session.uid;
    if (!rows.whole()) return damaged("sessions");
    found.push_back(std::move(session));
  }
  return found;
}

Result<std::vector<Open>> State::opens() {
  std::vector<Open> found;
  Statement rows(*this, "SELECT * FROM opens ORDER BY grant_");
  while (BAILEY_TRY(rows.step())) {
    Open open;
    rows >> open.grant >> open.session >> open.region >> open.principal >> open.writable >> open.writer >>
        open.desk >> open.pending_generation >> open.late >> open.revoked;
    std::vector<Id> token;
    rows.items(token);
    std::string holders;
    rows >> open.expires >> holders;
    for (auto name : std::views::split(holders, '\n'))
      if (!name.empty()) open.holders.emplace_back(name.begin(), name.end());
    if (!token.empty()) open.token = token.front();
    if (!rows.whole() || token.size() > 1 || open.grant >= BAILEY_GRANT_WORDS) return damaged("opens");
    found.push_back(std::move(open));
  }
  return found;
}

Result<std::vector<Minted>> State::tokens() {
  std::vector<Minted> found;
  Statement rows(*this, "SELECT * FROM tokens ORDER BY id");
  while (BAILEY_TRY(rows.step())) {
    Minted token;
    rows >> token.id >> token.region >> token.issuer >> token.by_admin >> token.holder >> token.writable >>
        token.expires;
    if (!rows.whole()) return damaged("tokens");
    found.push_back(std::move(token));
  }
  return found;
}

}  // namespace bailey::broker
