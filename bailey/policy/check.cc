// From the tree of a document to a Policy: every rule of the format is here, and every mistake is told.
#include "bailey/policy/policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <unordered_map>
#include <unordered_set>

#include "bailey/policy/document.h"
#include "bailey/policy/reader.h"
#include "bailey/policy/size.h"
#include "bailey/policy/suggest.h"

namespace bailey::policy {
namespace {

const std::string top_keys[] = {"pool", "broker", "principal", "region", "grant"};
const std::string pool_keys[] = {"name", "medium"};
const std::string broker_keys[] = {"admins"};
const std::string principal_keys[] = {"identity"};
const std::string region_keys[] = {"kind",  "size",    "mode",   "records",
                                   "quota", "protect", "cipher", "readers_may_forge"};
const std::string grant_keys[] = {"principal",           "region", "rights", "sessions", "segments",
                                  "requests_per_second", "bytes"};
const std::string mode_names[] = {"exclusive", "shared"};
const std::string rights_names[] = {"r", "rw", "admin"};

// "My Orders" was probably to be "my-orders".
std::string corrected_name(std::string_view text) {
  std::string name;
  for (char c : text.substr(0, name_bytes_max)) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    bool good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (good)
      name += c;
    else if (!name.empty() && name.back() != '-')
      name += '-';
  }
  while (!name.empty() && name.back() == '-') name.pop_back();
  return name;
}

class Checker {
 public:
  Checker(const Document& document, const std::string& folder, const ParseContext& context, Diagnostics& out)
      : document_(document), folder_(folder), context_(context), out_(out) {}

  Policy run() {
    for (const Entry& entry : document_.root.entries)
      if (std::find(std::begin(top_keys), std::end(top_keys), entry.key) == std::end(top_keys))
        unknown_top(entry);
    if (const Node* table = section("principal")) principals(*table);
    pool();
    if (const Node* table = section("region")) regions(*table);
    grants();
    broker();
    complaints_about_what_is_absent();
    return std::move(policy_);
  }

 private:
  TableReader reader(const Node& table, Position at, std::string where) const {
    return TableReader(table, at, std::move(where), document_.whole, out_);
  }

  void unknown_top(const Entry& entry) {
    std::string hint = suggestion(entry.key, top_keys);
    bool table = entry.value.kind == Node::Kind::table;
    // [orders] with the keys of a region, or [alice] with an identity: the first half of the name was
    // forgotten.
    if (table && nearest(entry.key, top_keys).empty()) {
      std::string_view section = entry.value.find("identity") != nullptr ? "principal"
                                 : entry.value.find("size") != nullptr || entry.value.find("kind") != nullptr
                                     ? "region"
                                     : "";
      if (!section.empty()) hint = fmt::format("did you mean [{}.{}]?", section, corrected_name(entry.key));
    }
    out_.error(entry.at, fmt::format("unknown {} {}", table ? "table" : "key", quote(entry.key)), hint);
  }

  // The table of a section, or null where it is absent or (reported) something else.
  const Node* section(std::string_view key) {
    const Entry* entry = document_.root.find(key);
    if (entry == nullptr) return nullptr;
    if (entry->value.kind == Node::Kind::table) return &entry->value;
    bool doubled = entry->value.kind == Node::Kind::array && !entry->value.items.empty() &&
                   entry->value.items[0].kind == Node::Kind::table;
    bool named = key == "principal" || key == "region";
    out_.error(entry->at, fmt::format("\"{}\" is {}, not a table", key, name(entry->value.kind)),
               doubled && !named ? fmt::format("write [{}], one pair of brackets", key)
               : named           ? fmt::format("write [{}.NAME], one pair of brackets", key)
                                 : fmt::format("write [{}] and its keys below", key));
    return nullptr;
  }

  bool check_name(Position at, std::string_view what, std::string_view text) {
    if (is_name(text)) return true;
    std::string better = corrected_name(text);
    out_.error(
        at,
        fmt::format("the {} name {} is not 1 to {} of a-z, 0-9 and -, with no - at the front", what,
                    quote(text), name_bytes_max),
        better.empty() || better == text ? std::string() : fmt::format("did you mean \"{}\"?", better));
    return false;
  }

  void pool() {
    const Node* table = section("pool");
    if (table == nullptr) return;
    TableReader keys = reader(*table, document_.root.find("pool")->at, "[pool]");
    keys.only(pool_keys);
    if (keys.require("name", "\"courtyard\""))
      if (auto text = keys.text("name", "\"courtyard\""))
        if (check_name(text->at, "pool", text->value)) policy_.pool = text->value;
    if (!keys.require("medium", "\"memory:4GiB\"")) return;
    auto text = keys.text("medium", "\"memory:4GiB\"");
    if (!text) return;
    auto medium = parse_medium(text->value);
    if (medium)
      policy_.medium = *medium;
    else
      out_.error(text->at, medium.error().message, medium.error().remedy);
  }

  std::optional<Identity> identity(const Placed<std::string>& text) {
    auto parsed = parse_identity(text.value, folder_, context_.lookups);
    if (!parsed) {
      std::string why = parsed.error().message;
      if (parsed.error().os != 0)
        why += fmt::format(" ({})", std::generic_category().message(parsed.error().os));
      out_.error(text.at, why, parsed.error().remedy);
      return std::nullopt;
    }
    if (!parsed->warning.empty()) out_.warning(text.at, parsed->warning);
    return parsed->identity;
  }

  void principals(const Node& table) {
    std::map<Identity, std::string> holders;
    for (const Entry& entry : table.entries) {
      if (out_.full()) return;
      std::string where = fmt::format("[principal.{}]", shown(entry.key));
      principal_names_.push_back(entry.key);
      if (principal_names_.size() > principals_max) {
        out_.error(entry.at, fmt::format("more than {} principals", principals_max));
        return;
      }
      if (!check_name(entry.at, "principal", entry.key)) continue;
      if (entry.value.kind != Node::Kind::table) {
        out_.error(entry.at, fmt::format("{} is {}, not a table", where, name(entry.value.kind)),
                   fmt::format("write {} and its keys below, one pair of brackets", where));
        continue;
      }
      TableReader keys = reader(entry.value, entry.at, where);
      keys.only(principal_keys);
      constexpr std::string_view example = "\"user:1000\"";
      if (!keys.require("identity", example)) continue;
      auto texts = keys.texts("identity", example, identities_max);
      if (!texts) continue;
      Principal principal{entry.key, {}};
      for (const auto& text : *texts) {
        auto one = identity(text);
        if (!one) continue;
        if (std::find(principal.identities.begin(), principal.identities.end(), *one) !=
            principal.identities.end()) {
          out_.warning(text.at, fmt::format("{} has the identity {} twice", where, quote(text.value)));
          continue;
        }
        auto [holder, fresh] = holders.emplace(*one, entry.key);
        if (!fresh)
          out_.warning(text.at,
                       fmt::format("{} has the identity {} of [principal.{}] too: whoever shows it is both",
                                   where, quote(text.value), holder->second));
        principal.identities.push_back(*one);
      }
      policy_.principals.push_back(std::move(principal));
    }
  }

  void regions(const Node& table) {
    std::uint64_t total = 0;
    for (const Entry& entry : table.entries) {
      if (out_.full()) return;
      std::string where = fmt::format("[region.{}]", shown(entry.key));
      region_names_.push_back(entry.key);
      if (region_names_.size() > regions_max) {
        out_.error(entry.at, fmt::format("more than {} regions", regions_max));
        return;
      }
      if (!check_name(entry.at, "region", entry.key)) continue;
      if (entry.value.kind != Node::Kind::table) {
        out_.error(entry.at, fmt::format("{} is {}, not a table", where, name(entry.value.kind)),
                   fmt::format("write {} and its keys below, one pair of brackets", where));
        continue;
      }
      TableReader keys = reader(entry.value, entry.at, where);
      policy_.regions.push_back(region(entry.key, keys, total));
    }
  }

  Region region(const std::string& region_name, const TableReader& keys, std::uint64_t& total) {
    Region made;
    made.name = region_name;
    keys.only(region_keys);
    if (keys.require("kind",
                     fmt::format("\"{}\"", context_.kinds.empty() ? "table" : context_.kinds.front())))
      if (auto kind = keys.choice("kind", context_.kinds)) made.kind = context_.kinds[*kind];
    if (keys.require("size", "\"256MiB\""))
      if (auto size = keys.size("size")) region_size(made, keys, *size, total);
    if (auto mode = keys.choice("mode", mode_names)) made.mode = *mode == 1 ? Mode::shared : Mode::exclusive;
    if (auto records = keys.count("records", records_max)) {
      made.records = records->value;
      if (made.kind == "raw")
        out_.error(records->at, fmt::format("{} is raw, and plain bytes have no records", keys.where()),
                   "leave out \"records\"");
    }
    made.quota_bytes = made.bytes;
    if (auto quota = keys.size("quota")) {
      if (made.bytes != 0 && quota->value > made.bytes)
        out_.error(quota->at, fmt::format("\"quota\" in {} is {}, more than the region's {}", keys.where(),
                                          size_text(quota->value), size_text(made.bytes)));
      else if (quota->value < quota_bytes_min)
        out_.error(quota->at,
                   fmt::format("\"quota\" in {} is {}, too small to write anything", keys.where(),
                               size_text(quota->value)),
                   fmt::format("the least is {}", size_text(quota_bytes_min)));
      else
        made.quota_bytes = quota->value;
    }
    protections(made, keys);
    encryption(made, keys);
    return made;
  }

  void region_size(Region& made, const TableReader& keys, const Placed<std::uint64_t>& size,
                   std::uint64_t& total) {
    if (size.value < region_bytes_min) {
      out_.error(size.at,
                 fmt::format("{} has {}, too small for a region", keys.where(), size_text(size.value)),
                 fmt::format("the least is {}", size_text(region_bytes_min)));
      return;
    }
    std::uint64_t pool_bytes = policy_.medium.bytes;
    if (pool_bytes != 0 && size.value > pool_bytes) {
      out_.error(size.at,
                 fmt::format("{} has {}, more than the whole pool's {}", keys.where(), size_text(size.value),
                             size_text(pool_bytes)),
                 fmt::format("{} is missing", format_size(size.value - pool_bytes)));
      return;
    }
    std::uint64_t sum = 0;
    bool overflow = __builtin_add_overflow(total, size.value, &sum);
    if (pool_exceeded_) return;  // told once, at the first that does not fit
    if (overflow || (pool_bytes != 0 && sum > pool_bytes)) {
      out_.error(size.at,
                 overflow ? fmt::format("with {} the regions are more than 64 bits can count", keys.where())
                          : fmt::format("with {} the regions have {}, more than the pool's {}", keys.where(),
                                        format_size(sum), size_text(pool_bytes)),
                 overflow ? "" : fmt::format("{} is missing", format_size(sum - pool_bytes)));
      pool_exceeded_ = true;
      return;
    }
    total = sum;
    made.bytes = size.value;
  }

  void protections(Region& made, const TableReader& keys) {
    auto texts = keys.texts("protect", "[\"process\"]", 2 * protection_names().size());
    if (!texts) {
      made.protect = {{"process", false, context_.enforced.contains("process")}};
      if (!context_.enforced.contains("process"))
        out_.error(keys.at(), fmt::format("{} is protected by \"process\" unless it says otherwise, and {}",
                                          keys.where(), why_not("process")));
      return;
    }
    std::size_t errors_before = out_.errors();
    for (const auto& text : *texts) protection(made, keys, text);
    if (out_.errors() != errors_before || made.protect.empty()) return;
    Position at = texts->front().at;
    auto has = [&](std::string_view wanted) {
      return std::any_of(made.protect.begin(), made.protect.end(),
                         [&](const Protection& p) { return p.name == wanted; });
    };
    if (has("none") && made.protect.size() > 1)
      out_.error(at, fmt::format("\"protect\" in {} has \"none\" beside others", keys.where()),
                 "leave out \"none\", or the others");
    if (has("signed") && !has("encrypted"))
      out_.error(at, fmt::format("\"protect\" in {} has \"signed\" without \"encrypted\"", keys.where()),
                 "signatures are over encrypted records; add \"encrypted\"");
    if (made.kind == "raw" && has("encrypted"))
      out_.error(at, fmt::format("\"protect\" in {} has \"encrypted\", and the region is raw", keys.where()),
                 "records are what is encrypted, and plain bytes have none: make it a table");
    if (std::none_of(made.protect.begin(), made.protect.end(),
                     [](const Protection& p) { return p.in_force; }))
      out_.error(at, fmt::format("nothing of \"protect\" in {} is enforced here", keys.where()),
                 "add \"process\", or say \"none\" if nothing is to be protected");
  }

  void encryption(Region& made, const TableReader& keys) {
    const bool encrypted = made.has("encrypted");
    if (auto cipher = keys.choice("cipher", cipher_names())) {
      if (encrypted)
        made.cipher = cipher_names()[*cipher];
      else
        out_.error(keys.at(), fmt::format("\"cipher\" in {}, which is not encrypted", keys.where()),
                   "leave it out, or add \"encrypted\" to \"protect\"");
    } else if (encrypted) {
      made.cipher = cipher_names().front();
    }
    if (auto forge = keys.truth("readers_may_forge")) made.readers_may_forge = *forge;
  }

  void protection(Region& made, const TableReader& keys, const Placed<std::string>& text) {
    std::string_view wanted = text.value;
    bool where_available = wanted.ends_with('?');
    if (where_available) wanted.remove_suffix(1);
    auto names = protection_names();
    if (std::find(names.begin(), names.end(), wanted) == names.end()) {
      out_.error(text.at, fmt::format("unknown protection {} in {}", quote(text.value), keys.where()),
                 suggestion(wanted, names));
      return;
    }
    for (const Protection& earlier : made.protect)
      if (earlier.name == wanted) {
        out_.error(text.at, fmt::format("\"protect\" in {} has \"{}\" twice", keys.where(), wanted),
                   "keep one of them");
        return;
      }
    bool enforced = context_.enforced.contains(wanted);
    if (wanted == "none" && where_available) {
      out_.error(text.at, "\"none?\" says nothing", "did you mean \"none\"?");
      return;
    }
    if (!enforced && !where_available) {
      out_.error(text.at, fmt::format("{} requires \"{}\", and {}", keys.where(), wanted, why_not(wanted)),
                 wanted == "none"
                     ? "use \"process\""
                     : fmt::format("leave it out, or \"{}?\" takes it where it is available", wanted));
      return;
    }
    made.protect.push_back({std::string(wanted), where_available, enforced});
  }

  std::string why_not(std::string_view protection_name) const {
    auto reason = context_.lacking.find(protection_name);
    return reason == context_.lacking.end() ? "this build does not enforce it" : reason->second;
  }

  void grants() {
    const Entry* entry = document_.root.find("grant");
    if (entry == nullptr) return;
    bool tables = entry->value.kind == Node::Kind::array &&
                  std::all_of(entry->value.items.begin(), entry->value.items.end(),
                              [](const Node& item) { return item.kind == Node::Kind::table; });
    if (!tables) {
      out_.error(entry->at, fmt::format("\"grant\" is {}, not a list of tables", name(entry->value.kind)),
                 "each grant begins with [[grant]], two pairs of brackets");
      return;
    }
    std::unordered_set<std::string_view> principals(principal_names_.begin(), principal_names_.end());
    std::unordered_set<std::string_view> regions(region_names_.begin(), region_names_.end());
    std::unordered_map<std::string, Position> seen;
    std::size_t count = 0;
    for (const Node& item : entry->value.items) {
      if (out_.full()) return;
      if (++count > grants_max) {
        out_.error(item.at, fmt::format("more than {} grants", grants_max));
        return;
      }
      TableReader keys = reader(item, item.at, "[[grant]]");
      Grant made;
      keys.only(grant_keys);
      if (keys.require("principal", "\"alice\""))
        made.principal =
            declared(keys.text("principal", "\"alice\""), "principal", principals, principal_names_);
      if (keys.require("region", "\"orders\", or \"*\" for all")) {
        auto text = keys.text("region", "\"orders\"");
        made.region = text && text->value == "*" ? "*" : declared(text, "region", regions, region_names_);
      }
      if (keys.require("rights", "\"r\", \"rw\" or \"admin\""))
        if (auto rights = keys.choice("rights", rights_names)) made.rights = static_cast<Rights>(*rights + 1);
      quotas(made, keys);
      if (made.principal.empty() || made.region.empty()) continue;
      if (made.rights == Rights::read)
        for (const Region& region : policy_.regions)
          if (made.covers(region.name) && reader_could_forge(region, policy_.medium.kind))
            out_.error(
                item.at,
                fmt::format("[[grant]] gives {} the right to read [region.{}] alone, and whoever reads "
                            "it holds its key and can write its medium {}",
                            quote(made.principal), region.name, name(policy_.medium.kind)),
                "give rw, add \"signed\" to the region's \"protect\", or say readers_may_forge = true there");
      // A line break is in no declared name, so the joined text is one pair's alone.
      auto [earlier, fresh] = seen.emplace(made.principal + "\n" + made.region, item.at);
      if (!fresh) {
        out_.error(item.at,
                   fmt::format("a second grant of {} on {}", quote(made.principal), quote(made.region)),
                   fmt::format("the first is at line {}; keep one with the rights that you mean",
                               earlier->second.line));
        continue;
      }
      policy_.grants.push_back(std::move(made));
    }
  }

  // The text where it is a declared name, else empty; the mistake is reported.
  std::string declared(const std::optional<Placed<std::string>>& text, std::string_view what,
                       const std::unordered_set<std::string_view>& names,
                       const std::vector<std::string>& candidates) {
    if (!text) return {};
    if (names.contains(text->value)) return text->value;
    if (document_.whole) {
      std::string hint = suggestion(text->value, candidates);
      if (hint.empty())
        hint = fmt::format("declare it as [{}.{}]", what, is_name(text->value) ? text->value : "NAME");
      out_.error(
          text->at,
          fmt::format("[[grant]] names the {} {}, which the policy does not have", what, quote(text->value)),
          hint);
    }
    return {};
  }

  void quotas(Grant& made, const TableReader& keys) {
    constexpr std::uint64_t max = std::numeric_limits<std::uint32_t>::max();
    auto number = [&](std::string_view key) -> std::optional<std::uint32_t> {
      auto count = keys.count(key, max);
      if (!count) return std::nullopt;
      return static_cast<std::uint32_t>(count->value);
    };
    made.quotas.sessions = number("sessions");
    made.quotas.segments = number("segments");
    made.quotas.requests_per_second = number("requests_per_second");
    auto bytes = keys.size("bytes");
    if (!bytes) return;
    made.quotas.bytes = bytes->value;
    if (bytes->value < quota_bytes_min)
      out_.error(
          bytes->at,
          fmt::format("\"bytes\" in [[grant]] is {}, too small to write anything", size_text(bytes->value)),
          fmt::format("the least is {}", size_text(quota_bytes_min)));
    if (made.rights == Rights::read)
      out_.warning(bytes->at, "\"bytes\" limits writing, and this grant is for reading alone");
  }

  void broker() {
    const Node* table = section("broker");
    if (table != nullptr) {
      TableReader keys = reader(*table, document_.root.find("broker")->at, "[broker]");
      keys.only(broker_keys);
      if (auto texts = keys.texts("admins", "[\"user:root\"]", identities_max)) {
        for (const auto& text : *texts) admin(text);
        return;
      }
    }
    policy_.admins.push_back({Identity::Kind::user, context_.broker_uid, {}});
    if (context_.broker_uid != 0) policy_.admins.push_back({Identity::Kind::user, 0, {}});
  }

  void admin(const Placed<std::string>& text) {
    if (text.value.find(':') != std::string::npos) {
      if (auto one = identity(text)) policy_.admins.push_back(*one);
      return;
    }
    if (std::find(principal_names_.begin(), principal_names_.end(), text.value) != principal_names_.end()) {
      policy_.admin_principals.push_back(text.value);
      return;
    }
    if (!document_.whole) return;
    std::string_view near = nearest(text.value, principal_names_);
    out_.error(text.at,
               fmt::format("\"admins\" in [broker] names the principal {}, which the policy does not have",
                           quote(text.value)),
               near.empty() ? fmt::format("an identity has a kind, such as {}", quote("user:" + text.value))
                            : fmt::format("did you mean {}?", quote(near)));
  }

  void complaints_about_what_is_absent() {
    if (!document_.whole) return;
    Position start;
    const Node& root = document_.root;
    if (root.entries.empty()) {
      out_.error(start, "the policy is empty",
                 "begin with [pool], name = \"courtyard\" and medium = \"memory:4GiB\"");
      return;
    }
    if (root.find("pool") == nullptr)
      out_.error(start, "the policy has no [pool]",
                 "add [pool] with name = \"courtyard\" and medium = \"memory:4GiB\"");
    if (region_names_.empty()) {
      if (out_.errors() == 0) out_.warning(start, "the policy has no region, so nobody can open anything");
      return;
    }
    for (const Entry& entry : root.find("region")->value.entries) {
      bool granted = std::any_of(policy_.grants.begin(), policy_.grants.end(),
                                 [&](const Grant& g) { return g.covers(entry.key); });
      if (!granted && out_.errors() == 0)
        out_.warning(entry.at, fmt::format("nobody has a grant on [region.{}]", shown(entry.key)));
    }
  }

  static std::string shown(std::string_view key) { return is_name(key) ? std::string(key) : quote(key); }

  const Document& document_;
  const std::string& folder_;
  const ParseContext& context_;
  Diagnostics& out_;
  Policy policy_;
  // Also those with mistakes in them, so that one mistake is told once.
  std::vector<std::string> principal_names_;
  std::vector<std::string> region_names_;
  bool pool_exceeded_ = false;
};

}  // namespace

Checked check(std::string_view text, std::string_view file_name, const std::string& folder,
              const ParseContext& context) {
  Diagnostics out(file_name);
  Document document = read_document(text, out);
  Checked checked;
  if (document.readable) {
    Policy policy = Checker(document, folder, context, out).run();
    if (out.errors() == 0) {
      // On the way out once more, by code that knows nothing of the text.
      BAILEY_ASSERT(validate(policy).has_value());
      checked.policy = std::move(policy);
    }
  }
  checked.diagnostics = out.take();
  return checked;
}

}  // namespace bailey::policy
