#include "bailey/policy/policy.h"

#include <fmt/format.h>

#include <algorithm>

#include "bailey/base/fd.h"
#include "bailey/policy/document.h"

namespace bailey::policy {

std::string_view name(Rights rights) {
  switch (rights) {
    case Rights::none:
      return "no rights";
    case Rights::read:
      return "r";
    case Rights::write:
      return "rw";
    case Rights::admin:
      return "admin";
  }
  return "unknown rights";
}

std::string_view name(Mode mode) { return mode == Mode::shared ? "shared" : "exclusive"; }

std::span<const std::string> protection_names() {
  static const std::string names[] = {"none", "process", "pkey", "vm", "encrypted", "signed"};
  return names;
}

std::span<const std::string> cipher_names() {
  static const std::string names[] = {"aes-256-gcm", "xchacha20"};
  return names;
}

bool reader_could_forge(const Region& region, MediumKind medium) {
  return region.has("encrypted") && readers_can_write(medium) && !region.has("signed") &&
         !region.readers_may_forge;
}

bool Region::has(std::string_view protection) const {
  return std::any_of(protect.begin(), protect.end(),
                     [&](const Protection& p) { return p.name == protection && p.in_force; });
}

const Region* Policy::find_region(std::string_view wanted) const {
  auto found =
      std::find_if(regions.begin(), regions.end(), [&](const Region& r) { return r.name == wanted; });
  return found == regions.end() ? nullptr : &*found;
}

const Principal* Policy::find_principal(std::string_view wanted) const {
  auto found = std::find_if(principals.begin(), principals.end(),
                            [&](const Principal& p) { return p.name == wanted; });
  return found == principals.end() ? nullptr : &*found;
}

bool is_name(std::string_view text) {
  if (text.empty() || text.size() > name_bytes_max || text[0] == '-') return false;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
}

Status validate(const Policy& policy) {
  auto broken = [](std::string what) {
    return fail(Code::corrupt, By::library, "a policy breaks its own rule: " + what);
  };
  if (!is_name(policy.pool)) return broken("the pool's name");
  if (policy.regions.size() > regions_max || policy.principals.size() > principals_max ||
      policy.grants.size() > grants_max)
    return broken("too many entries");
  if (policy.medium.kind == MediumKind::file ? policy.medium.path.empty()
                                             : policy.medium.bytes < pool_bytes_min)
    return broken("the medium");
  if (policy.admins.empty() && policy.admin_principals.empty()) return broken("nobody may apply");

  std::set<std::string_view> principals, regions;
  for (const Principal& principal : policy.principals)
    if (!is_name(principal.name) || principal.identities.empty() || !principals.insert(principal.name).second)
      return broken("principal " + quote(principal.name));
  for (const std::string& admin : policy.admin_principals)
    if (!principals.contains(admin)) return broken("admin " + quote(admin));

  std::uint64_t total = 0;
  for (const Region& region : policy.regions) {
    bool protection = std::any_of(region.protect.begin(), region.protect.end(),
                                  [](const Protection& p) { return p.in_force; });
    bool required = std::all_of(region.protect.begin(), region.protect.end(),
                                [](const Protection& p) { return p.in_force || p.where_available; });
    if (!is_name(region.name) || !regions.insert(region.name).second || region.kind.empty() ||
        region.bytes < region_bytes_min || region.quota_bytes < quota_bytes_min ||
        region.quota_bytes > region.bytes || !protection || !required ||
        (region.records && (*region.records == 0 || *region.records > records_max)) ||
        region.has("encrypted") != !region.cipher.empty())
      return broken("region " + quote(region.name));
    if (__builtin_add_overflow(total, region.bytes, &total)) return broken("the sum of all sizes");
  }
  if (policy.medium.bytes != 0 && total > policy.medium.bytes) return broken("regions larger than the pool");

  std::set<std::pair<std::string_view, std::string_view>> pairs;
  for (const Grant& grant : policy.grants)
    if (!principals.contains(grant.principal) || (grant.region != "*" && !regions.contains(grant.region)) ||
        grant.rights == Rights::none || !pairs.insert({grant.principal, grant.region}).second)
      return broken(fmt::format("grant of {} on {}", quote(grant.principal), quote(grant.region)));
  return {};
}

namespace {

Result<Policy> only_policy(Checked checked, std::string_view file_name) {
  if (checked.policy) return std::move(*checked.policy);
  std::string message = fmt::format("the policy {} is refused, nothing is changed:", quote(file_name));
  for (const Diagnostic& diagnostic : checked.diagnostics)
    if (diagnostic.severity == Severity::error) message += "\n  " + diagnostic.to_string();
  return fail(Code::invalid_argument, By::library, std::move(message),
              "correct the file; `bailey policy check` shows all mistakes");
}

}  // namespace

Result<Checked> check_file(const std::string& path, const ParseContext& context) {
  std::string text = BAILEY_TRY(read_file(path, text_bytes_max));
  std::size_t slash = path.rfind('/');
  std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  return check(text, path, folder, context);
}

Result<Policy> parse(std::string_view text, std::string_view file_name, const std::string& folder,
                     const ParseContext& context) {
  return only_policy(check(text, file_name, folder, context), file_name);
}

Result<Policy> parse_file(const std::string& path, const ParseContext& context) {
  return only_policy(BAILEY_TRY(check_file(path, context)), path);
}

}  // namespace bailey::policy
