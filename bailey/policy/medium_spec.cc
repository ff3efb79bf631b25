#include "bailey/policy/medium_spec.h"

#include <fmt/format.h>

#include <charconv>
#include <vector>

#include "bailey/policy/diagnostic.h"
#include "bailey/policy/size.h"
#include "bailey/policy/suggest.h"

namespace bailey::policy {
namespace {

constexpr std::size_t medium_bytes_max = 4096;
const std::string kind_names[] = {"memory", "file", "hugepages"};
const std::string flush_names[] = {"none", "clwb", "clflushopt"};
const std::string option_names[] = {"numa", "delay_ns", "flush"};

std::unexpected<Error> refuse(std::string message, std::string remedy) {
  return fail(Code::invalid_argument, By::library, std::move(message), std::move(remedy));
}

Result<std::uint32_t> parse_count(std::string_view option, std::string_view text, std::uint32_t max) {
  std::uint32_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > max)
    return refuse(
        fmt::format("the medium's option {}={} is not a whole number up to {}", option, quote(text), max),
        "");
  return value;
}

Status parse_option(MediumSpec& spec, std::string_view option, std::vector<std::string>& seen) {
  std::size_t equals = option.find('=');
  std::string key(option.substr(0, equals));
  std::string_view value = equals == std::string_view::npos ? "" : option.substr(equals + 1);
  for (const std::string& earlier : seen)
    if (earlier == key)
      return refuse(fmt::format("the medium has the option {} twice", quote(key)), "keep one of them");
  seen.push_back(key);
  if (key == "numa") {
    spec.numa = BAILEY_TRY(parse_count(key, value, numa_node_max));
  } else if (key == "delay_ns") {
    spec.delay_ns = BAILEY_TRY(parse_count(key, value, delay_ns_max));
  } else if (key == "flush") {
    for (std::size_t i = 0; i < std::size(flush_names); ++i) {
      if (flush_names[i] != value) continue;
      spec.flush = static_cast<Flush>(i);
      return {};
    }
    return refuse(fmt::format("the medium's option flush={} is unknown", quote(value)),
                  suggestion(value, flush_names));
  } else {
    return refuse(fmt::format("the medium has an unknown option {}", quote(key)),
                  suggestion(key, option_names));
  }
  return {};
}

Status parse_where(MediumSpec& spec, std::string_view where) {
  if (spec.kind == MediumKind::file) {
    if (where.empty() || where[0] != '/')
      return refuse(fmt::format("the medium's path {} is not absolute", quote(where)),
                    "write file:/ and the whole path, since the broker's folder is not yours");
    for (char c : where)
      if (static_cast<unsigned char>(c) < 0x20)
        return refuse("the medium's path has a control character", "");
    spec.path = where;
    return {};
  }
  spec.bytes = BAILEY_TRY(parse_size(where));
  if (spec.bytes < pool_bytes_min)
    return refuse(fmt::format("a pool of {} is too small", size_text(spec.bytes)),
                  fmt::format("the least is {}", size_text(pool_bytes_min)));
  if (spec.kind == MediumKind::hugepages && spec.bytes % huge_page_bytes != 0)
    return refuse(fmt::format("{} is no whole number of huge pages", size_text(spec.bytes)),
                  fmt::format("a huge page has {}", size_text(huge_page_bytes)));
  return {};
}

}  // namespace

bool readers_can_write(MediumKind kind) {
  switch (kind) {
    case MediumKind::memory:
    case MediumKind::file:
    case MediumKind::hugepages:
      return false;
  }
  return true;
}

std::string_view name(MediumKind kind) { return kind_names[static_cast<std::size_t>(kind) - 1]; }
std::string_view name(Flush flush) { return flush_names[static_cast<std::size_t>(flush)]; }

Result<MediumSpec> parse_medium(std::string_view text) {
  if (text.size() > medium_bytes_max) return refuse("the medium's text is too long", "");
  std::size_t colon = text.find(':');
  std::string_view kind = text.substr(0, colon);
  MediumSpec spec;
  bool known = false;
  for (std::size_t i = 0; i < std::size(kind_names); ++i) {
    if (kind_names[i] != kind) continue;
    spec.kind = static_cast<MediumKind>(i + 1);
    known = true;
  }
  if (!known) {
    auto size = parse_size(text);
    if (size)
      return refuse(fmt::format("the medium {} has no kind", quote(text)),
                    fmt::format("did you mean \"memory:{}\"?", text));
    return refuse(fmt::format("the medium {} has no known kind", quote(text)), suggestion(kind, kind_names));
  }
  if (colon == std::string_view::npos)
    return refuse(fmt::format("the medium {} does not say {}", quote(text),
                              spec.kind == MediumKind::file ? "which path" : "how much"),
                  spec.kind == MediumKind::file ? "such as \"file:/var/lib/bailey/pool\""
                                                : fmt::format("such as \"{}:4GiB\"", kind));
  std::string_view rest = text.substr(colon + 1);
  std::size_t question = rest.find('?');
  BAILEY_TRY(parse_where(spec, rest.substr(0, question)));
  if (question == std::string_view::npos) return spec;
  std::string_view options = rest.substr(question + 1);
  std::vector<std::string> seen;
  for (;;) {
    std::size_t end = options.find('&');
    BAILEY_TRY(parse_option(spec, options.substr(0, end), seen));
    if (end == std::string_view::npos) return spec;
    options.remove_prefix(end + 1);
  }
}

std::string MediumSpec::to_string() const {
  std::string text = fmt::format("{}:{}", name(kind), kind == MediumKind::file ? path : size_text(bytes));
  char separator = '?';
  auto add = [&](std::string_view key, const std::string& value) {
    text += fmt::format("{}{}={}", separator, key, value);
    separator = '&';
  };
  if (numa) add("numa", fmt::to_string(*numa));
  if (delay_ns != 0) add("delay_ns", fmt::to_string(delay_ns));
  if (flush != Flush::none) add("flush", std::string(name(flush)));
  return text;
}

}  // namespace bailey::policy
