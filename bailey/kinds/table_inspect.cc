// The layout of a table as text, field by field: offset, bytes as they lie in memory, name, meaning.
//
// docs/formats.md has such a dump; inspect_test.cc compares it, so that every change of a layout is seen.
// What is all zeros is left out, and the line before says so.
#include <fmt/format.h>

#include <cstring>
#include <string>
#include <utility>

#include "bailey/base/count.h"
#include "bailey/kinds/table_kind.h"
#include "bailey/pool/passage.h"
#include "bailey/table/examine.h"
#include "bailey/table/index.h"

namespace bailey::kinds {
namespace {

using medium::load_acquire;
using medium::load_relaxed;
using table::Word;

constexpr std::size_t bytes_a_line = 8;
constexpr std::size_t text_bytes_shown = 40;

std::string printable(std::string_view text) {
  std::string out;
  for (char c : text.substr(0, text_bytes_shown)) {
    bool plain = c >= ' ' && c <= '~' && c != '"' && c != '\\';
    out += plain ? std::string(1, c) : fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  }
  return fmt::format("\"{}\"{}", out, text.size() > text_bytes_shown ? "..." : "");
}

class Dump {
 public:
  Dump(pool::View& view, const table::Geometry& geometry, const InspectOptions& options)
      : view_(view), geometry_(geometry), options_(options) {}
  Result<std::string> run();

 private:
  void line(std::string_view text) {
    if (lines_++ < options_.lines_max) {
      text_ += text.substr(0, text.find_last_not_of(' ') + 1);
      text_ += '\n';
    }
  }
  // One field of at most 8 bytes of the file that starts at `base`.
  void field(const std::byte* base, std::uint64_t offset, std::size_t bytes, std::string_view field_name,
             std::string_view meaning) {
    std::byte copy[bytes_a_line];
    Word word = load_relaxed(reinterpret_cast<const Word*>(base + offset / 8 * 8));
    std::memcpy(copy, reinterpret_cast<const std::byte*>(&word) + offset % 8, bytes);
    std::string hex;
    for (std::size_t i = 0; i < bytes; ++i) hex += fmt::format("{:02x} ", std::to_integer<unsigned>(copy[i]));
    line(fmt::format("  {:06x}  {:<24} {:<12} {}", offset, hex, field_name, meaning));
  }
  Word word(const std::byte* base, std::uint64_t offset) const {
    return load_acquire(reinterpret_cast<const Word*>(base + offset));
  }
  void word_field(const std::byte* base, std::uint64_t offset, std::string_view field_name) {
    field(base, offset, 8, field_name, fmt::format("{}", word(base, offset)));
  }
  void half_field(const std::byte* base, std::uint64_t offset, std::string_view field_name) {
    Word both = word(base, offset / 8 * 8);
    field(base, offset, 4, field_name, fmt::format("{}", static_cast<std::uint32_t>(both >> offset % 8 * 8)));
  }

  void index();
  void bucket(std::uint64_t number, bool overflow);
  void claims();
  void segment(pool::SegmentId id, const pool::Extent& extent);
  void desk(const pool::Extent& extent);
  void page(const pool::Extent& extent, std::uint32_t number, Word page_word);
  void record(const pool::Extent& extent, std::uint64_t offset, std::uint64_t block_bytes);
  void sealed_record(const std::byte* base, std::uint64_t offset, std::uint64_t block_bytes);
  void proof(const std::byte* base, std::uint64_t at, std::uint64_t room);
  static std::string slot_text(Word slot);

  pool::View& view_;
  const table::Geometry& geometry_;
  InspectOptions options_;
  std::string text_;
  std::uint64_t lines_ = 0;
};

Result<std::string> Dump::run() {
  auto ids = BAILEY_TRY(map_segments(view_, geometry_));
  index();
  for (pool::SegmentId id : ids) segment(id, view_.extent(id));
  if (lines_ > options_.lines_max)
    text_ += fmt::format("... {} more: cut at {}\n", counted(lines_ - options_.lines_max, "line"),
                         options_.lines_max);
  return std::move(text_);
}

void Dump::index() {
  const std::byte* base = view_.index();
  line(fmt::format("index: {} bytes, {}, {}", geometry_.index_bytes(), counted(geometry_.buckets, "bucket"),
                   counted(geometry_.overflow_buckets, "overflow bucket")));
  field(base, offsetof(bailey_index_header, magic), 8, "magic", "\"BLEYIDX1\"");
  half_field(base, offsetof(bailey_index_header, version), "version");
  half_field(base, offsetof(bailey_index_header, layout), "layout");
  word_field(base, offsetof(bailey_index_header, hash_seed), "hash_seed");
  word_field(base, offsetof(bailey_index_header, buckets), "buckets");
  word_field(base, offsetof(bailey_index_header, overflow_buckets), "overflow");
  unsigned mode = word(base, offsetof(bailey_index_header, mode)) & 0xff;
  field(base, offsetof(bailey_index_header, mode), 1, "mode",
        mode == static_cast<unsigned>(table::Mode::exclusive) ? "exclusive"
        : mode == static_cast<unsigned>(table::Mode::shared)  ? "shared"
                                                              : "unknown");
  for (std::uint64_t i = 0; i < geometry_.buckets; ++i) bucket(i, false);
  for (std::uint64_t i = 0; i < geometry_.overflow_buckets; ++i) bucket(i, true);
  claims();
}

std::string Dump::slot_text(Word slot) {
  return fmt::format("{}tag {:#06x}, segment {}, offset {:#x}", table::tentative(slot) ? "tentative, " : "",
                     table::tag_of(slot), table::segment_of(slot), table::offset_of(slot));
}

void Dump::bucket(std::uint64_t number, bool overflow) {
  const std::byte* base = view_.index();
  std::uint64_t offset =
      BAILEY_INDEX_BUCKETS_OFFSET + ((overflow ? geometry_.buckets : 0) + number) * sizeof(bailey_bucket);
  bool empty = true;
  for (std::size_t i = 0; i < sizeof(bailey_bucket); i += 8) empty = empty && word(base, offset + i) == 0;
  if (empty) return;
  line(fmt::format(" {}bucket {}", overflow ? "overflow " : "", number));
  for (unsigned i = 0; i < BAILEY_BUCKET_SLOTS; ++i)
    if (Word slot = word(base, offset + i * 8); slot != 0)
      field(base, offset + i * 8, 8, fmt::format("slot {}", i), slot_text(slot));
  if (Word link = word(base, offset + offsetof(bailey_bucket, link)); link != 0)
    field(base, offset + offsetof(bailey_bucket, link), 8, "link",
          fmt::format("to overflow bucket {}", link - 1));
}

void Dump::claims() {
  const std::byte* base = view_.index();
  std::uint64_t start =
      BAILEY_INDEX_BUCKETS_OFFSET + (geometry_.buckets + geometry_.overflow_buckets) * sizeof(bailey_bucket);
  for (std::uint64_t i = 0; i < geometry_.overflow_buckets; ++i) {
    std::uint64_t offset = start + i * sizeof(std::uint32_t);
    auto holder = static_cast<std::uint32_t>(word(base, offset / 8 * 8) >> offset % 8 * 8);
    if (holder != 0)
      field(base, offset, 4, fmt::format("claim {}", i),
            fmt::format("for the chain of bucket {}", holder - 1));
  }
}

void Dump::segment(pool::SegmentId id, const pool::Extent& extent) {
  const std::byte* base = extent.base;
  line(fmt::format("segment {}: {} bytes, {} from {:#x} on", id, extent.bytes(),
                   counted(extent.pages, "page"), extent.data_offset));
  if (word(base, offsetof(bailey_segment_header, magic)) != 0) {
    field(base, offsetof(bailey_segment_header, magic), 8, "magic", "\"BLEYSEG1\"");
    half_field(base, offsetof(bailey_segment_header, version), "version");
    half_field(base, offsetof(bailey_segment_header, layout), "layout");
    word_field(base, offsetof(bailey_segment_header, bytes), "bytes");
    half_field(base, offsetof(bailey_segment_header, pages), "pages");
    half_field(base, offsetof(bailey_segment_header, data_offset), "data_offset");
    field(base, offsetof(bailey_segment_header, region), 8, "region", "id");
    field(base, offsetof(bailey_segment_header, region) + 8, 8, "", "");
    half_field(base, offsetof(bailey_segment_header, segment), "segment");
    half_field(base, offsetof(bailey_segment_header, writer), "writer");
  }
  desk(extent);
  for (std::uint32_t i = 0; i < extent.pages; ++i) {
    Word page_word = load_acquire(table::page_words(extent) + i);
    if (page_word != 0) page(extent, i, page_word);
  }
}

void Dump::desk(const pool::Extent& extent) {
  const std::byte* base = extent.base;
  for (unsigned i = 0; i < BAILEY_ANNOUNCEMENTS; ++i)
    if (Word slot = word(base, BAILEY_SEGMENT_DESK_OFFSET + i * 8); slot != 0)
      field(base, BAILEY_SEGMENT_DESK_OFFSET + i * 8, 8, fmt::format("announced {}", i), slot_text(slot));
  std::uint64_t head_at = BAILEY_SEGMENT_DESK_OFFSET + offsetof(bailey_desk, hints_head);
  if (word(base, head_at) == 0) return;
  word_field(base, head_at, "hints_head");
  for (unsigned i = 0; i < BAILEY_HINTS; ++i) {
    std::uint64_t offset = BAILEY_SEGMENT_DESK_OFFSET + offsetof(bailey_desk, hints) + i * 8;
    if (Word slot = word(base, offset); slot != 0)
      field(base, offset, 8, fmt::format("hint {}", i),
            fmt::format("segment {}, offset {:#x}", table::segment_of(slot), table::offset_of(slot)));
  }
}

void Dump::page(const pool::Extent& extent, std::uint32_t number, Word page_word) {
  unsigned cls = table::page_class(page_word);
  std::uint64_t counter = page_word >> BAILEY_PAGE_WORD_COUNTER_SHIFT;
  std::string meaning;
  if (cls == BAILEY_CLASS_FREE)
    meaning = "free";
  else if (cls == BAILEY_CLASS_RUN)
    meaning = fmt::format("one record over {}", counted(table::page_run(page_word), "page"));
  else if (cls <= table::class_count)
    meaning = fmt::format("class {}: {} of {} bytes", cls, counted(table::blocks_in_page(cls), "block"),
                          table::class_bytes[cls]);
  else
    meaning = fmt::format("class {} does not exist", cls);
  field(extent.base, BAILEY_SEGMENT_PAGE_WORDS_OFFSET + std::uint64_t{number} * 8, 8,
        fmt::format("page {}", number), fmt::format("counter {}, {}", counter, meaning));
  std::uint64_t offset = extent.data_offset + std::uint64_t{number} * BAILEY_PAGE_BYTES;
  if (cls == BAILEY_CLASS_RUN) {
    std::uint32_t run = table::page_run(page_word);
    if (run > 0 && number + run <= extent.pages)
      record(extent, offset, std::uint64_t{run} * BAILEY_PAGE_BYTES);
  } else if (cls != BAILEY_CLASS_FREE && cls <= table::class_count) {
    for (std::uint32_t i = 0; i < table::blocks_in_page(cls); ++i)
      record(extent, offset + std::uint64_t{i} * table::class_bytes[cls], table::class_bytes[cls]);
  }
}

void Dump::record(const pool::Extent& extent, std::uint64_t offset, std::uint64_t block_bytes) {
  const std::byte* base = extent.base;
  Word head = word(base, offset);
  if (table::busy(head)) return;  // free blocks are not shown: most blocks of a new page are
  std::uint64_t version = table::version_of(head);
  field(base, offset, 8, "record", fmt::format("version {}:{}", version >> 32, version & 0xffff'ffff));
  if (table::generation_of(word(base, offset + 8)) != 0) return sealed_record(base, offset, block_bytes);
  auto lengths = table::check_lengths(word(base, offset + 8), block_bytes);
  field(base, offset + 8, 8, "lengths",
        lengths
            ? fmt::format("key {}, value {}", counted(lengths->key, "byte"), counted(lengths->value, "byte"))
            : std::string("longer than its block"));
  if (!lengths || !options_.contents) return;
  std::string key(lengths->key, '\0');
  std::string value(std::min(lengths->value, text_bytes_shown + 1), '\0');
  std::uint64_t key_at = offset + BAILEY_RECORD_HEADER_BYTES;
  std::uint64_t value_at = key_at + medium::padded(lengths->key);
  medium::copy_out(key.data(), base + key_at, key.size());
  medium::copy_out(value.data(), base + value_at, value.size());
  if (!key.empty()) field(base, key_at, std::min(key.size(), bytes_a_line), "key", printable(key));
  if (!value.empty()) field(base, value_at, std::min(value.size(), bytes_a_line), "value", printable(value));
}

// With the region's key and where contents are asked for, what is in it too.
void Dump::sealed_record(const std::byte* base, std::uint64_t offset, std::uint64_t block_bytes) {
  const Word raw = word(base, offset + 8);
  auto lengths = table::check_sealed_lengths(view_.sealer(), raw, block_bytes);
  field(base, offset + 8, 8, "lengths",
        lengths ? fmt::format("key {} bytes, value {} bytes, sealed under generation {}", lengths->key,
                              lengths->value, table::generation_of(raw))
                : std::string("longer than its block"));
  if (!lengths) return;
  std::uint64_t at = offset + BAILEY_RECORD_HEADER_BYTES;
  for (std::string_view what : {"key hash", "", "value tag", "", "key tag", ""}) {
    field(base, at, 8, what, "");
    at += 8;
  }
  std::string value = "sealed", key = "sealed";
  if (view_.sealer() != nullptr && options_.contents) {
    table::SealedCopy copy(*view_.sealer(), base + offset, block_bytes, word(base, offset), raw);
    Error failure;
    const bool open = copy.open(view_, failure) == table::Seen::match;
    value = open ? printable(copy.value_text()) : "does not open";
    key = open ? printable(copy.key_text()) : "does not open";
  }
  if (lengths->value != 0) field(base, at, std::min(lengths->value, bytes_a_line), "value", value);
  at += medium::padded(lengths->value);
  if (lengths->key != 0) field(base, at, std::min(lengths->key, bytes_a_line), "key", key);
  at += medium::padded(lengths->key);
  if (view_.sealer() != nullptr && view_.sealer()->signatures() != nullptr)
    proof(base, at, block_bytes - (at - offset));
}

void Dump::proof(const std::byte* base, std::uint64_t at, std::uint64_t room) {
  pool::Proof found;
  const bool whole = table::load_proof(base + at, room, found);
  field(base, at, 8, "proof",
        whole ? fmt::format("record {} of its batch, path of {}", found.path.index,
                            found.path.length == 1 ? "1 hash" : fmt::format("{} hashes", found.path.length))
              : std::string("is none"));
  const std::uint64_t end = at + table::proof_bytes(whole ? found.path.length : 0);
  for (const std::uint64_t start = at += 8; at < end; at += 8) {
    const std::uint64_t in = at - start;
    field(base, at, 8,
          in == 0                                                ? "signature"
          : in >= 64 && (in - 64) % BAILEY_PROOF_HASH_BYTES == 0 ? "path"
                                                                 : "",
          "");
  }
}

}  // namespace

Result<std::string> inspect_table(pool::View& view, const table::Geometry& geometry,
                                  const InspectOptions& options) {
  if (!geometry.fits(view.index_bytes()))
    return fail(Code::invalid_argument, By::library,
                fmt::format("an index of {} bytes can't have {} + {} buckets", view.index_bytes(),
                            geometry.buckets, geometry.overflow_buckets));
  if (view.closed()) return pool::in_gate(view, {}, [&] { return inspect_table(view, geometry, options); });
  return Dump(view, geometry, options).run();
}

}  // namespace bailey::kinds
