// Check of a table: every chain, every slot, every record that a slot leads to, every page word and claim.
//
// Others may write meanwhile. A record is looked at as a reader does (table/record.h), so what is counted as
// damage was so at one moment; a slot that changes under the look is looked at again, at most attempts_max
// times.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "bailey/abi/control.h"
#include "bailey/kinds/table_kind.h"
#include "bailey/pool/passage.h"
#include "bailey/table/examine.h"

namespace bailey::kinds {
namespace {

using medium::load_acquire;
using medium::load_relaxed;
using table::Word;

class TableCheck {
 public:
  TableCheck(pool::View& view, const table::Geometry& geometry)
      : view_(view), geometry_(geometry), index_(view.index(), geometry) {}

  Result<Report> run();

 private:
  struct Where {
    std::uint64_t bucket;
    unsigned position;  // of the slot in the chain
    Word slot;
    std::string to_string() const {
      return fmt::format("bucket {}, slot {} of its chain: {:#018x}", bucket, position, slot);
    }
  };
  // A slot and what it held. An offset, not a pointer: the index can be replaced during the check.
  struct Seen {
    std::uint64_t offset = 0;
    Word slot = 0;
    Word place() const { return table::place_of(slot); }
  };
  struct Key {
    std::string key;
    Seen seen;
  };
  struct Read {
    table::Seen seen = table::Seen::forged;
    const char* problem = nullptr;  // where forged
    std::string key;
    std::size_t value_bytes = 0;
    std::uint64_t version = 0;
  };

  bool still(const Seen& seen) const {
    return load_acquire(reinterpret_cast<const Word*>(view_.index() + seen.offset)) == seen.slot;
  }
  void header();
  Status chain(std::uint64_t bucket);
  Status slot(const Where& where, const Word* at, std::vector<Key>& keys);
  Result<Read> read(const Word* at, Word seen);
  Result<Read> read_sealed(const table::Block& block, Word word, Word lengths, const Word* at, Word seen);
  Status segments();
  void claims();
  void finish();

  void found(Finding::Grade grade, std::string_view problem, std::string example) {
    Finding& finding = findings_[std::string(problem)];
    if (finding.count++ == 0) {
      finding.grade = grade;
      finding.problem = problem;
      finding.example = std::move(example);
    }
  }
  void damage(std::string_view problem, std::string example) {
    found(Finding::Grade::damage, problem, std::move(example));
  }
  void note(std::string_view problem, std::string example) {
    found(Finding::Grade::note, problem, std::move(example));
  }

  pool::View& view_;
  const table::Geometry& geometry_;
  table::Index index_;
  Report report_;
  std::map<std::string, Finding> findings_;
  std::vector<Seen> places_;                // of all records
  std::vector<std::uint32_t> linked_from_;  // by overflow bucket: 1 + primary bucket
  std::vector<std::uint64_t> links_;        // overflow buckets of the chain that is walked
  bool unheard_ = false;                    // that chain led to a record under a key yet to be heard of
};

Result<Report> TableCheck::run() {
  if (!view_.current()) BAILEY_TRY(view_.attend());
  index_ = table::Index(view_.index(), geometry_);
  linked_from_.assign(geometry_.overflow_buckets, 0);
  header();
  unsigned attempts = 0;
  for (std::uint64_t bucket = 0; bucket < geometry_.buckets;) {
    const Report before = report_;
    const std::size_t places_before = places_.size();
    unheard_ = false;
    links_.clear();
    BAILEY_TRY(chain(bucket));
    if (unheard_) {
      // Its walk went on in an index that may go with what there is to hear of: it begins anew.
      if (++attempts == table::attempts_max)
        return fail(Code::contended, By::peer,
                    fmt::format("the region's keys changed under every look at bucket {}", bucket),
                    "try again");
      report_ = before;
      places_.resize(places_before);
      for (std::uint64_t link : links_) linked_from_[link] = 0;
    } else {
      ++bucket;
    }
    // A revoked grant ends the check; a new index or a retired segment does not.
    if (view_.current()) [[likely]]
      continue;
    BAILEY_TRY(view_.attend());
    index_ = table::Index(view_.index(), geometry_);
  }
  claims();
  BAILEY_TRY(segments());
  finish();
  return std::move(report_);
}

// Nobody takes anything from the header; it is for persistent media and for people. It must tell the truth
// all the same.
void TableCheck::header() {
  bailey_index_header header;
  medium::copy_out(&header, view_.index(), sizeof header);
  if (header.magic != BAILEY_INDEX_MAGIC)
    damage("the index has no magic number", fmt::format("{:#x}", header.magic));
  if (header.version != BAILEY_INDEX_VERSION || header.layout != BAILEY_LAYOUT)
    damage("the index names another version",
           fmt::format("version {}, layout {}", header.version, header.layout));
  if (header.buckets != geometry_.buckets || header.overflow_buckets != geometry_.overflow_buckets ||
      header.hash_seed != geometry_.hash_seed || header.mode != static_cast<std::uint8_t>(geometry_.mode))
    damage("the index's header has another shape than the broker says",
           fmt::format("{} + {} buckets, mode {}", header.buckets, header.overflow_buckets, header.mode));
}

Status TableCheck::chain(std::uint64_t bucket) {
  std::vector<Key> keys;
  const bailey_bucket* at = index_.primary(bucket);
  unsigned position = 0;
  for (unsigned visited = 1;; ++visited) {
    for (const Word& word : at->slots) {
      ++report_.slots;
      BAILEY_TRY(slot({bucket, position++, load_acquire(&word)}, &word, keys));
      if (unheard_) return {};
    }
    Word link = load_acquire(&at->link);
    if (link == 0) break;
    if (visited == 1) ++report_.buckets_overflowing;
    at = index_.follow(link);
    if (at == nullptr) {
      damage("a link leads out of the index", fmt::format("bucket {}: {:#x}", bucket, link));
      break;
    }
    std::uint32_t& from = linked_from_[link - 1];
    if (from != 0) {
      damage(from == bucket + 1 ? "a chain is a circle" : "two chains share an overflow bucket",
             fmt::format("bucket {}, overflow bucket {}", bucket, link - 1));
      break;
    }
    from = static_cast<std::uint32_t>(bucket + 1);
    links_.push_back(link - 1);
    if (visited == table::chain_buckets_max) {
      damage("a chain is longer than any writer makes it", fmt::format("bucket {}", bucket));
      break;
    }
  }
  // A key that was erased and inserted anew during the walk may have been seen twice; a second look tells.
  std::ranges::sort(keys, {}, &Key::key);
  for (std::size_t i = 1; i < keys.size(); ++i)
    if (keys[i].key == keys[i - 1].key && still(keys[i].seen) && still(keys[i - 1].seen))
      damage("one key has two records",
             fmt::format("bucket {}, a key of {} bytes", bucket, keys[i].key.size()));
  return {};
}

Status TableCheck::slot(const Where& where, const Word* at, std::vector<Key>& keys) {
  Where now = where;
  for (unsigned attempt = 0; attempt < table::attempts_max; ++attempt, now.slot = load_acquire(at)) {
    if (now.slot == 0) return {};
    if (table::tentative(now.slot)) {
      note("a tentative slot: an insertion is under way, or its writer died", now.to_string());
      return {};
    }
    Read read = BAILEY_TRY(this->read(at, now.slot));
    if (read.seen == table::Seen::changed) continue;
    if (read.seen == table::Seen::unheard) {
      unheard_ = true;
      return {};
    }
    if (read.seen == table::Seen::forged) {
      damage(read.problem, now.to_string());
      return {};
    }
    table::Home home = table::home_in(view_, read.key, geometry_);
    if (home.bucket != now.bucket || home.tag != table::tag_of(now.slot)) {
      damage("a record in a place where its key is never looked for", now.to_string());
      return {};
    }
    if (read.version >> 32 == 0) damage("a record with a version that no writer has", now.to_string());
    ++report_.records;
    report_.key_bytes += read.key.size();
    report_.value_bytes += read.value_bytes;
    auto offset = static_cast<std::uint64_t>(reinterpret_cast<const std::byte*>(at) - view_.index());
    places_.push_back({offset, now.slot});
    keys.push_back({std::move(read.key), {offset, now.slot}});
    return {};
  }
  note("a slot changed under every look", now.to_string());
  return {};
}

// One look at a record, as a reader has it; only the key is copied.
Result<TableCheck::Read> TableCheck::read(const Word* at, Word seen) {
  auto changed_or = [&](const char* problem) {
    Read read;
    read.seen = load_acquire(at) == seen ? table::Seen::forged : table::Seen::changed;
    read.problem = problem;
    return read;
  };
  auto extent = view_.find(table::segment_of(seen));
  if (!extent && extent.error().code != Code::not_found) return std::unexpected(std::move(extent).error());
  if (!extent) return changed_or("a slot leads to a segment that the region does not have");
  table::Block block;
  switch (table::locate(**extent, seen, block)) {
    case table::Place::forged:
      return changed_or("a slot leads to a place where no block starts");
    case table::Place::stale:
      return changed_or("a slot leads to a page that holds no records");
    case table::Place::ok:
      break;
  }
  Word word = load_acquire(block.word());
  if (table::busy(word)) return changed_or("a slot leads to a record that is free or half written");
  const Word raw = load_relaxed(block.lengths());
  if (view_.sealer() != nullptr) return read_sealed(block, word, raw, at, seen);
  auto lengths = table::check_lengths(raw, block.bytes);
  if (!lengths) return changed_or("a record is longer than its block");
  Read read;
  read.key.resize(lengths->key);
  medium::copy_out(read.key.data(), block.key(), lengths->key);
  read.value_bytes = lengths->value;
  read.version = table::version_of(word);
  read.seen = table::still(at, seen, block, word) ? table::Seen::match : table::Seen::changed;
  return read;
}

// Of an encrypted table: the whole record is opened.
Result<TableCheck::Read> TableCheck::read_sealed(const table::Block& block, Word word, Word lengths,
                                                 const Word* at, Word seen) {
  Read read;
  if (!table::check_sealed_lengths(view_.sealer(), lengths, block.bytes)) {
    read.problem = table::generation_of(lengths) == 0 ? "a record of an encrypted table is not sealed"
                                                      : "a record is longer than its block";
    if (!table::still(at, seen, block, word)) read.seen = table::Seen::changed;
    return read;
  }
  table::SealedCopy copy(*view_.sealer(), block.record, block.bytes, word, lengths);
  if (!table::still(at, seen, block, word)) {
    read.seen = table::Seen::changed;
    return read;
  }
  Error failure;
  read.seen = copy.open(view_, failure);
  if (read.seen == table::Seen::unheard) return read;
  if (read.seen != table::Seen::match) {
    if (failure.code != Code::corrupt) return std::unexpected(std::move(failure));
    read.seen = table::Seen::forged;
    read.problem = view_.sealer()->signatures() == nullptr
                       ? "a record does not open under the region's key, or is older than one seen before"
                       : "a record does not open under the region's key, is not signed by its writer, or is "
                         "older than one seen before";
    return read;
  }
  read.key = copy.key_text();
  read.value_bytes = copy.head.value_bytes();
  read.version = table::version_of(word);
  return read;
}

void TableCheck::claims() {
  const auto* claim = reinterpret_cast<const std::uint32_t*>(index_.primary(0) + geometry_.buckets +
                                                             geometry_.overflow_buckets);
  for (std::uint64_t number = 0; number < geometry_.overflow_buckets; ++number) {
    std::uint32_t holder = __atomic_load_n(claim + number, __ATOMIC_ACQUIRE);
    std::uint32_t from = linked_from_[number];
    if (holder == from) continue;
    std::string example = fmt::format("overflow bucket {}, claimed for {}", number, std::int64_t{holder} - 1);
    if (from != 0)
      damage("a chain goes through an overflow bucket that was not claimed for it", std::move(example));
    else if (holder > geometry_.buckets)
      damage("an overflow bucket is claimed for a bucket that does not exist", std::move(example));
    else
      note("an overflow bucket is claimed and not linked: its writer died, the next one uses it",
           std::move(example));
  }
}

Status TableCheck::segments() {
  auto ids = BAILEY_TRY(map_segments(view_, geometry_));
  report_.segments = ids.size();
  for (pool::SegmentId id : ids) {
    const pool::Extent& extent = view_.extent(id);
    bailey_segment_header header;
    medium::copy_out(&header, extent.base, sizeof header);
    // A pool in a plain buffer has no headers at all.
    if (header.magic != 0 &&
        (header.magic != BAILEY_SEGMENT_MAGIC || header.version != BAILEY_SEGMENT_VERSION ||
         header.layout != BAILEY_LAYOUT || header.segment != id || header.pages != extent.pages ||
         header.data_offset != extent.data_offset))
      damage("a segment's header does not say what the broker says", fmt::format("segment {}", id));
    for (std::uint32_t page = 0; page < extent.pages; ++page) {
      Word word = load_acquire(table::page_words(extent) + page);
      unsigned cls = table::page_class(word);
      if ((cls > table::class_count && cls != BAILEY_CLASS_RUN) ||
          (cls == BAILEY_CLASS_RUN && page + table::page_run(word) > extent.pages))
        damage("a page word names a class that does not exist",
               fmt::format("segment {}, page {}: {:#x}", id, page, word));
    }
  }
  return {};
}

void TableCheck::finish() {
  std::ranges::sort(places_, {}, &Seen::place);
  for (std::size_t i = 1; i < places_.size(); ++i)
    if (places_[i].place() == places_[i - 1].place() && still(places_[i]) && still(places_[i - 1]))
      damage("two slots lead to one record",
             fmt::format("segment {}, offset {:#x}", table::segment_of(places_[i].slot),
                         table::offset_of(places_[i].slot)));
  for (auto grade : {Finding::Grade::damage, Finding::Grade::note})
    for (auto& [problem, finding] : findings_)
      if (finding.grade == grade) report_.findings.push_back(finding);
  if (view_.sealer() == nullptr)
    report_.findings.push_back(
        {Finding::Grade::note,
         "records carry no checksum: whether a value is what its writer meant is not checked",
         0,
         {}});
}

}  // namespace

Result<Report> check_table(pool::View& view, const table::Geometry& geometry) {
  if (!geometry.fits(view.index_bytes()))
    return fail(Code::invalid_argument, By::library,
                fmt::format("an index of {} bytes can't have {} + {} buckets", view.index_bytes(),
                            geometry.buckets, geometry.overflow_buckets));
  if (view.closed()) return pool::in_gate(view, {}, [&] { return check_table(view, geometry); });
  return TableCheck(view, geometry).run();
}

Result<std::vector<pool::SegmentId>> map_segments(pool::View& view, const table::Geometry& geometry) {
  if (!view.current()) BAILEY_TRY(view.attend());
  std::vector<bool> wanted(65536);
  const auto* bucket = reinterpret_cast<const bailey_bucket*>(view.index() + BAILEY_INDEX_BUCKETS_OFFSET);
  for (std::uint64_t i = 0; i < geometry.buckets + geometry.overflow_buckets; ++i)
    for (const Word& word : bucket[i].slots)
      if (Word slot = load_acquire(&word); slot != 0) wanted[table::segment_of(slot)] = true;
  for (const pool::Desk& desk : BAILEY_TRY(view.desks())) wanted[desk.segment] = true;
  for (pool::SegmentId id : BAILEY_TRY(view.frozen())) wanted[id] = true;
  std::vector<pool::SegmentId> mapped;
  for (unsigned id = 1; id < 65536; ++id) {
    if (wanted[id]) {
      auto extent = view.find(static_cast<pool::SegmentId>(id));
      if (!extent && extent.error().code != Code::not_found)
        return std::unexpected(std::move(extent).error());
    }
    if (view.extent(static_cast<pool::SegmentId>(id)).base != nullptr)
      mapped.push_back(static_cast<pool::SegmentId>(id));
  }
  return mapped;
}

}  // namespace bailey::kinds
