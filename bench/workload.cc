#include "bench/workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "bailey/base/fd.h"
#include "bench/key.h"

namespace bailey::bench {
namespace {

// Larger numbers than these are typing errors, and would only fail later and less clearly.
constexpr std::uint64_t count_max = 1'000'000'000'000;
constexpr std::uint64_t field_max = 16u << 20;

// Properties of YCSB that change nothing here.
constexpr std::string_view known_and_unused[] = {
    "workload",
    "readallfields",
    "writeallfields",
    "table",
    "scanlengthdistribution",
    "minscanlength",
    "fieldlengthdistribution",
    "insertstart",
    "insertcount",
    "zeropadding",
    "threadcount",
    "dataintegrity",
    "measurementtype",
    "histogram.buckets",
    "timeseries.granularity",
    "hdrhistogram.percentiles",
    "maxexecutiontime",
    "exporter",
    "core_workload_insertion_retry_limit",
};

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view blank = " \t\r\f";
  const std::size_t first = text.find_first_not_of(blank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blank) - first + 1);
}

// One line's key and value, and where it stands, for messages.
struct Property {
  std::string_view file;
  std::size_t line;
  std::string_view key;
  std::string_view value;

  std::unexpected<Error> refuse(std::string_view wanted) const {
    return fail(Code::invalid_argument, By::library,
                fmt::format("{}:{}: {}={} is refused: {}", file, line, key, value, wanted));
  }
  template <class T>
  Status number(T& out, std::uint64_t low, std::uint64_t high) const {
    std::uint64_t parsed = 0;
    const char* end = value.data() + value.size();
    const auto [stop, error] = std::from_chars(value.data(), end, parsed);
    if (error != std::errc{} || stop != end || parsed < low || parsed > high)
      return refuse(fmt::format("a whole number from {} to {} is wanted", low, high));
    out = static_cast<T>(parsed);
    return {};
  }
  Status proportion(double& out) const {
    double parsed = 0;
    const char* end = value.data() + value.size();
    const auto [stop, error] = std::from_chars(value.data(), end, parsed);
    if (error != std::errc{} || stop != end || !(parsed >= 0 && parsed <= 1))
      return refuse("a proportion from 0 to 1 is wanted");
    out = parsed;
    return {};
  }
};

Status set(Workload& workload, const Property& property) {
  const std::string_view key = property.key;
  if (key == "recordcount") return property.number(workload.records, 1, count_max);
  if (key == "operationcount") return property.number(workload.operations, 0, count_max);
  if (key == "readproportion") return property.proportion(workload.read);
  if (key == "updateproportion") return property.proportion(workload.update);
  if (key == "insertproportion") return property.proportion(workload.insert);
  if (key == "scanproportion") return property.proportion(workload.scan);
  if (key == "readmodifywriteproportion") return property.proportion(workload.read_modify_write);
  if (key == "maxscanlength") return property.number(workload.scan_items_max, 1, 1'000'000);
  if (key == "fieldcount") return property.number(workload.fields, 1, 10'000);
  if (key == "fieldlength") return property.number(workload.field_bytes, 0, field_max);
  if (key == "requestdistribution") {
    for (Distribution one : {Distribution::uniform, Distribution::zipfian, Distribution::latest}) {
      if (property.value == name(one)) {
        workload.distribution = one;
        return {};
      }
    }
    return property.refuse("uniform, zipfian or latest is wanted");
  }
  if (key == "insertorder") {
    if (property.value != "hashed" && property.value != "ordered")
      return property.refuse("hashed or ordered is wanted");
    workload.keys_hashed = property.value == "hashed";
    return {};
  }
  if (std::ranges::find(known_and_unused, key) == std::end(known_and_unused))
    workload.warnings.push_back(fmt::format("{}:{}: property {} is not known and changes nothing",
                                            property.file, property.line, key));
  return {};
}

}  // namespace

std::string_view name(Distribution distribution) {
  switch (distribution) {
    case Distribution::uniform:
      return "uniform";
    case Distribution::zipfian:
      return "zipfian";
    case Distribution::latest:
      return "latest";
  }
  return "?";
}

Result<Workload> parse_workload(std::string_view text, std::string_view file) {
  Workload workload;
  for (std::size_t line = 1; !text.empty(); ++line) {
    const std::size_t end = text.find('\n');
    const std::string_view content = trimmed(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    if (content.empty() || content[0] == '#' || content[0] == '!') continue;
    const std::size_t split = content.find_first_of("=:");
    const std::string_view key = trimmed(content.substr(0, split));
    if (split == std::string_view::npos || key.empty())
      return fail(Code::invalid_argument, By::library,
                  fmt::format("{}:{}: `{}` is not a property: key=value is wanted", file, line, content));
    if (content.back() == '\\')
      return fail(Code::invalid_argument, By::library,
                  fmt::format("{}:{}: a property must be on one line", file, line));
    BAILEY_TRY(set(workload, {file, line, key, trimmed(content.substr(split + 1))}));
  }
  const double sum =
      workload.read + workload.update + workload.insert + workload.scan + workload.read_modify_write;
  if (std::abs(sum - 1) > 1e-6)
    return fail(
        Code::invalid_argument, By::library,
        fmt::format("{}: the proportions add up to {:g}, not 1 (read {:g}, update {:g}, insert {:g}, scan "
                    "{:g}, read-modify-write {:g})",
                    file, sum, workload.read, workload.update, workload.insert, workload.scan,
                    workload.read_modify_write),
        "give every proportion that is not 0; readproportion is 0.95 and updateproportion 0.05 where absent");
  if (workload.value_bytes() > field_max)
    return fail(Code::invalid_argument, By::library,
                fmt::format("{}: {} fields of {} bytes are more than the {} bytes that a value may have",
                            file, workload.fields, workload.field_bytes, field_max));
  return workload;
}

Result<Workload> read_workload(const std::string& path) {
  const std::string text = BAILEY_TRY(read_file(path));
  return parse_workload(text, path);
}

void InsertCounter::acknowledge(std::uint64_t number) {
  // Sequentially consistent, all of it: of two that end at once, at least one must see the other's store.
  done_[number % window].store(number + 1, std::memory_order_seq_cst);
  std::uint64_t known = acknowledged_.load(std::memory_order_seq_cst);
  while (done_[known % window].load(std::memory_order_seq_cst) == known + 1) {
    if (acknowledged_.compare_exchange_weak(known, known + 1, std::memory_order_seq_cst)) ++known;
  }
}

WorkloadSource::WorkloadSource(const Workload& workload, const ClientShare& share, std::uint64_t value_bytes,
                               std::string_view values, InsertCounter& counter, std::uint64_t seed)
    : workload_(workload),
      share_(share),
      value_bytes_(value_bytes),
      values_(values),
      counter_(counter),
      random_(seed + share.number * std::uint64_t{0x5851f42d4c957f2d}) {
  if (workload_.distribution == Distribution::zipfian) {
    // As in YCSB: room for the inserts to come, and numbers that are not there are drawn again.
    const double inserts = static_cast<double>(workload_.operations) * workload_.insert * 2;
    zipfian_.emplace(workload_.records + static_cast<std::uint64_t>(inserts));
  }
  if (workload_.distribution == Distribution::latest) latest_.emplace(workload_.records);
}

Kind WorkloadSource::draw_kind() {
  if (!share_.writes) return Kind::read;
  double place = random_.unit();
  if ((place -= workload_.read) < 0) return Kind::read;
  if ((place -= workload_.update) < 0) return Kind::update;
  if ((place -= workload_.insert) < 0) return Kind::insert;
  if ((place -= workload_.scan) < 0) return Kind::scan;
  if (workload_.read_modify_write > 0) return Kind::read_modify_write;
  return workload_.read > 0 ? Kind::read : Kind::update;  // the sum was a hair below 1
}

std::uint64_t WorkloadSource::draw_record() {
  const std::uint64_t there = counter_.acknowledged();
  if (latest_) return latest_->next(random_, there);
  if (!zipfian_) return random_.below(there);
  for (;;) {
    const std::uint64_t record = zipfian_->next(random_);
    if (record < there) return record;
  }
}

std::string_view WorkloadSource::draw_value() {
  return values_.substr(random_.below(values_.size() - value_bytes_ + 1), value_bytes_);
}

Status WorkloadSource::next(Block& block, std::size_t requests_max) {
  block.clear();
  for (; block.size() < requests_max && share_.operations > 0; --share_.operations) {
    const Kind kind = draw_kind();
    const std::uint64_t record = kind == Kind::insert ? counter_.take() : draw_record();
    const YcsbKey key = ycsb_key(record, workload_.keys_hashed);
    switch (kind) {
      case Kind::read:
      case Kind::erase:
        block.add(kind, key.view());
        break;
      case Kind::scan:
        block.add(kind, key.view(), {}, 1 + static_cast<unsigned>(random_.below(workload_.scan_items_max)));
        break;
      case Kind::update:
      case Kind::insert:
      case Kind::read_modify_write:
        block.add(kind, key.view(), draw_value(), 0, record);
        break;
    }
  }
  return {};
}

}  // namespace bailey::bench
