#include "bailey/policy/size.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "bailey/policy/diagnostic.h"

namespace bailey::policy {
namespace {

struct Unit {
  std::string_view name;
  unsigned shift;
};
constexpr std::array<Unit, 5> units = {{{"B", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}}};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// "mb", "MB", "m", "mib", "Mi" all begin with the letter of the unit that was meant.
std::string_view unit_meant(std::string_view text) {
  if (text.empty() || text.size() > 9) return {};
  char first = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  for (const Unit& unit : units)
    if (unit.name[0] == first) return unit.name;
  return {};
}

std::unexpected<Error> refuse(std::string message, std::string remedy) {
  return fail(Code::invalid_argument, By::library, std::move(message), std::move(remedy));
}

constexpr std::string_view form = "write a whole number and one of B, KiB, MiB, GiB, TiB, such as \"256MiB\"";

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  if (text.empty()) return refuse("the size is empty", std::string(form));
  if (text.size() > 64) return refuse("the size is longer than any size", std::string(form));
  if (text[0] == '-') return refuse(fmt::format("the size {} is negative", quote(text)), std::string(form));

  std::size_t at = 0;
  std::uint64_t number = 0;
  bool overflow = false;
  while (at < text.size() && is_digit(text[at])) {
    auto digit = static_cast<std::uint64_t>(text[at] - '0');
    overflow |= __builtin_mul_overflow(number, std::uint64_t{10}, &number);
    overflow |= __builtin_add_overflow(number, digit, &number);
    ++at;
  }
  if (at == 0) return refuse(fmt::format("{} is not a size", quote(text)), std::string(form));
  std::string_view digits = text.substr(0, at);
  std::string_view rest = text.substr(at);
  if (rest.size() > 1 && (rest[0] == '.' || rest[0] == ',') && is_digit(rest[1]))
    return refuse(fmt::format("the size {} has a fraction", quote(text)),
                  "use a smaller unit, such as \"1536MiB\" for one and a half GiB");

  if (!rest.empty()) {
    auto unit = std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.name == rest; });
    if (unit == units.end()) {
      std::string_view word = rest.substr(std::min(rest.find_first_not_of(" _"), rest.size()));
      std::string_view meant = unit_meant(word);
      return refuse(fmt::format("the size {} has no known unit", quote(text)),
                    meant.empty() ? std::string(form) : fmt::format("did you mean \"{}{}\"?", digits, meant));
    }
    overflow |= __builtin_mul_overflow(number, std::uint64_t{1} << unit->shift, &number);
  }
  if (overflow)
    return refuse(fmt::format("the size {} is more than 64 bits can count", quote(text)),
                  "the largest size is below 16777216TiB");
  return number;
}

std::string size_text(std::uint64_t bytes) {
  for (auto unit = units.rbegin(); unit != units.rend(); ++unit)
    if (bytes != 0 && bytes % (std::uint64_t{1} << unit->shift) == 0)
      return fmt::format("{}{}", bytes >> unit->shift, unit->name);
  return "0B";
}

std::string format_size(std::uint64_t bytes) {
  for (auto unit = units.rbegin(); unit != units.rend(); ++unit) {
    std::uint64_t whole = bytes >> unit->shift;
    if (whole == 0 || unit->shift == 0) continue;
    // The remainder is below 2^40, so times ten it fits.
    std::uint64_t tenths = ((bytes - (whole << unit->shift)) * 10) >> unit->shift;
    if (tenths == 0) return fmt::format("{} {}", whole, unit->name);
    return fmt::format("{}.{} {}", whole, tenths, unit->name);
  }
  return fmt::format("{} B", bytes);
}

}  // namespace bailey::policy
