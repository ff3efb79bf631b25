// The policy: how it comes into force, and what that takes away.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "bailey/base/count.h"
#include "bailey/base/log.h"
#include "bailey/broker/broker.h"
#include "bailey/broker/context.h"
#include "bailey/policy/decide.h"
#include "bailey/policy/diff.h"
#include "bailey/policy/document.h"
#include "bailey/pool/view.h"

namespace bailey::broker {
namespace {

constexpr std::uint64_t record_bytes_expected = 320;  // where the policy does not say how many records
constexpr std::uint64_t segments_of_region = 256;     // of the usual size
constexpr std::uint64_t segment_bytes_min = 1u << 20;
constexpr std::uint64_t segment_bytes_max = 1u << 30;

// Names of users, groups and files are looked up once, when a policy is applied. What was found is stored
// with it, so that a broker that takes over reads the same policy whatever has become of /etc/passwd since.
policy::Lookups recording(nlohmann::json& found) {
  policy::Lookups system = policy::Lookups::of_system();
  policy::Lookups lookups;
  lookups.user = [system, &found](const std::string& name) {
    auto id = system.user(name);
    if (id) found["user"][name] = *id;
    return id;
  };
  lookups.group = [system, &found](const std::string& name) {
    auto id = system.group(name);
    if (id) found["group"][name] = *id;
    return id;
  };
  lookups.key_file = [system, &found](const std::string& path) {
    auto file = system.key_file(path);
    if (file) found["key_file"][path] = {{"text", file->text}, {"writable", file->writable_by_all}};
    return file;
  };
  return lookups;
}

policy::Lookups recorded(const nlohmann::json& found) {
  auto id_in = [found](const char* kind) {
    return [found, kind](const std::string& name) -> Result<std::uint32_t> {
      if (!found.contains(kind) || !found[kind].contains(name)) return fail(Code::not_found);
      return found[kind][name].get<std::uint32_t>();
    };
  };
  policy::Lookups lookups;
  lookups.user = id_in("user");
  lookups.group = id_in("group");
  lookups.key_file = [found](const std::string& path) -> Result<policy::KeyFile> {
    if (!found.contains("key_file") || !found["key_file"].contains(path)) return fail(Code::not_found);
    const auto& file = found["key_file"][path];
    return policy::KeyFile{file["text"].get<std::string>(), file["writable"].get<bool>()};
  };
  return lookups;
}

}  // namespace

Result<Region> Broker::plan_region(const policy::Region& wanted) const {
  Region region;
  random_bytes(region.id.data(), region.id.size());
  region.name = wanted.name;
  region.kind = wanted.kind;
  region.bytes = wanted.bytes;
  std::uint64_t seed = 0;
  random_bytes(&seed, sizeof seed);
  if (region.raw()) {
    region.geometry.mode = static_cast<table::Mode>(wanted.mode);
    region.index_bytes = wanted.bytes / unit(1) * unit(1);
    return region;
  }
  std::uint64_t records = wanted.records.value_or(wanted.bytes / record_bytes_expected);
  region.geometry = table::Geometry::plan(static_cast<table::Mode>(wanted.mode), records, seed);
  region.index_bytes = unit(region.geometry.index_bytes());
  region.segment_bytes = unit(std::clamp(round_up(wanted.bytes / segments_of_region, BAILEY_PAGE_BYTES),
                                         segment_bytes_min, segment_bytes_max));
  if (wanted.has("encrypted")) {
    region.cipher = wanted.cipher == policy::cipher_names().front() ? crypto::Cipher::aes_256_gcm
                                                                    : crypto::Cipher::xchacha20_poly1305;
    region.key_generation = 1;
    if (!setup_.root_ends.empty())
      return fail(Code::unsupported, By::broker,
                  fmt::format("region {} is to be encrypted in a pool that outlives its broker, and {}",
                              wanted.name, setup_.root_ends),
                  "start the broker with --key FILE, a secret key outside of the pool's folder "
                  "(bailey principal add makes one), and keep it: without it nothing of the region opens");
  }
  if (!region.geometry.fits(region.index_bytes) || region.index_bytes + segment_bytes_min > region.bytes)
    return fail(
        Code::invalid_argument, By::broker,
        fmt::format("region {}: an index for {} takes {} bytes, which leaves no room for records in its {}",
                    wanted.name, counted(records, "record"), region.index_bytes, wanted.bytes),
        "make the region larger, or expect fewer records");
  return region;
}

Result<Broker::Applied> Broker::apply_text(const std::string& text, const std::string& file,
                                           const std::string& folder, bool drop) {
  nlohmann::json found = nlohmann::json::object();
  policy::Checked checked = policy::check(text, file, folder, parse_context(recording(found)));
  Applied applied;
  for (const policy::Diagnostic& diagnostic : checked.diagnostics)
    applied.text += diagnostic.to_string() + "\n";
  if (!checked.ok()) return fail(Code::invalid_argument, By::broker, applied.text, "nothing was changed");
  policy::Policy& wanted = *checked.policy;
  if (wanted.medium.delay_ns != 0 || wanted.medium.flush != policy::Flush::none)
    return fail(Code::unsupported, By::broker,
                fmt::format("medium {}: this version injects no delay and flushes no lines",
                            wanted.medium.to_string()),
                "leave delay_ns= and flush= out");

  bool is_first = policy_.pool.empty();
  policy::Diff changes;
  if (!is_first) {
    changes = policy::diff(policy_, wanted, {drop});
    BAILEY_TRY(changes.allowed());
    for (const policy::Change& change : changes.changes) applied.text += change.to_string() + "\n";
    if (changes.empty()) applied.text += "nothing changed\n";
  }
  std::set<std::uint32_t> dropped;
  for (auto& [number, region] : regions_) {
    bool stays = wanted.find_region(region.name) != nullptr;
    for (const policy::Change& change : changes.changes)
      if (change.kind == policy::ChangeKind::region_recreated && change.subject == "region " + region.name)
        stays = false;
    if (!stays) dropped.insert(number);
  }

  std::vector<Region> added;
  std::uint64_t bytes = 0, given_back = 0;
  std::uint32_t number = last_region_;
  for (const policy::Region& region : wanted.regions) {
    Region* there = find_region(region.name);
    if (there != nullptr && !dropped.contains(there->number)) continue;
    added.push_back(BAILEY_TRY(plan_region(region)));
    // Numbers are used again as late as may be: what is under way for a dropped region still carries its
    // number.
    auto taken = [&](std::uint32_t candidate) {
      return regions_.contains(candidate) || std::any_of(opens_.begin(), opens_.end(), [&](auto& open) {
               return open.second.region == candidate;
             });
    };
    do number = (number + 1) % BAILEY_REGIONS_MAX;
    while (taken(number));
    added.back().number = number;
    bytes += region.bytes;
  }
  for (std::uint32_t gone : dropped) given_back += usage_of_region(regions_.at(gone)).bytes;
  if (bytes > given_back)
    BAILEY_TRY(
        medium::room_for(setup_.place, bytes - given_back, promised_, "the policy's regions together"));

  const std::string root = BAILEY_TRY(mark_of_root());
  const bool revokes = std::any_of(changes.changes.begin(), changes.changes.end(),
                                   [](const policy::Change& change) { return change.revokes; });
  // Which regions somebody loses, and their new keys, is committed with the policy: should this broker die
  // before it has done what follows, the next one does it.
  std::set<std::uint32_t> lost_regions, marked, rekeyed;
  std::swap(policy_, wanted);
  Status committed = state_.commit([&]() -> Status {
    BAILEY_TRY(state_.set_meta("policy", text));
    BAILEY_TRY(state_.set_meta("policy file", file));
    BAILEY_TRY(state_.set_meta("policy folder", folder));
    BAILEY_TRY(state_.set_meta("policy lookups", found.dump()));
    BAILEY_TRY(state_.set_meta("root", root));
    for (std::uint32_t gone : dropped) BAILEY_TRY(state_.erase_region(gone));
    for (const Region& region : added) BAILEY_TRY(state_.save(region));
    for (auto& [of, region] : regions_) {
      if (dropped.contains(of) || !lost_holder(region, revokes)) continue;
      lost_regions.insert(of);
      if (!std::exchange(region.disowned, true)) marked.insert(of);
      if (count_key(region)) rekeyed.insert(of);
      BAILEY_TRY(state_.save(region));
    }
    return {};
  });
  if (!committed) {
    std::swap(policy_, wanted);
    for (std::uint32_t of : marked) regions_.at(of).disowned = false;
    for (std::uint32_t of : rekeyed) uncount_key(regions_.at(of));
    return std::unexpected(std::move(committed).error());
  }
  last_region_ = number;
  for (std::uint32_t gone : dropped)
    drop_region(gone, fmt::format("region {} was dropped by a change of the policy", regions_.at(gone).name));
  for (Region& region : added) {
    std::uint32_t of = region.number;
    regions_.emplace(of, std::move(region));
  }

  for (auto& [session_number, session] : sessions_) refresh_rights(session);
  auto ended = end_tokens();
  if (ended)
    lost_regions.merge(*ended);
  else
    applied.text += fmt::format(
        "tokens of who may not mint any more open nothing, but would again if the broker died now: {}; it "
        "tries "
        "again every second\n",
        ended.error().message);
  std::vector<std::pair<std::uint32_t, std::string>> lost;
  for (auto& [grant, open] : opens_) {
    Session& session = *session_of(open.session);
    if (session.janitor || !open.revoked.empty()) continue;
    const std::string& name = region_of(open.region)->name;
    auto decision = still_granted(session, *region_of(open.region), open);
    if (!decision) {
      lost.emplace_back(
          grant, fmt::format("the grant on region {} was taken back: {}", name, decision.error().message));
      continue;
    }
    open.quotas = decision->quotas;
    if (!open.token) open.principal = policy_.grants[decision->grants.front()].principal;
  }
  for (auto& [grant, why] : lost)
    if (Open* open = open_of(grant)) revoke(*open, why);
  applied.text += after_tokens_ended(lost_regions);
  for (auto& [of, region] : regions_)
    if (region.replacing) applied.renewed.insert(of);
  // Also those of before: an answer that said that they are over may have been lost with the broker that gave
  // it.
  for (auto& [grant, open] : opens_)
    if (!open.revoked.empty()) applied.revoked.insert(grant);
  note("policy", nullptr, {{"file", file}, {"changes", applied.text}, {"revoked", applied.revoked.size()}});
  return applied;
}

void Broker::drop_region(std::uint32_t number, const std::string& why) {
  auto node = regions_.extract(number);
  Region& region = node.mapped();
  std::vector<SegmentId> segments;
  for (auto& [id, segment] : segments_)
    if (segment.region == number) segments.push_back(id);
  for (SegmentId id : segments) {
    Segment& segment = segments_.at(id);
    if (segment.state != SegmentState::retired) {
      drop_segment(id);
      continue;
    }
    if (segment.pending.empty()) continue;  // its maker is at work
    if (auto erased = state_.erase_segment(id); !erased)
      log::error("broker", "segment {} stays in the state: {}", id, erased.error().to_string());
    loop_.cancel(segment.patience);
    segments_.erase(id);
  }
  if (region.index.generation != 0) drop_file(index_name(number, region.index.generation));
  if (region.replacing) {
    loop_.cancel(region.replacing->timer);
    for (auto& [grant, request] : region.replacing->held)
      if (Open* open = open_of(grant)) reply(open->session, request, fail(Code::revoked, By::broker, why));
  }
  std::vector<std::uint32_t> grants;
  for (auto& [grant, open] : opens_)
    if (open.region == number) grants.push_back(grant);
  for (std::uint32_t grant : grants) revoke(*open_of(grant), why);
  settled({}, number);
  for (auto& then : region.waiting_for_index) then({});
}

// The policy in force, as it was applied.
Status Broker::load_policy() {
  std::string text = BAILEY_TRY(state_.meta("policy"));
  if (text.empty()) return {};
  std::string file = BAILEY_TRY(state_.meta("policy file")),
              folder = BAILEY_TRY(state_.meta("policy folder"));
  auto found = nlohmann::json::parse(BAILEY_TRY(state_.meta("policy lookups")), nullptr, false);
  if (found.is_discarded()) return fail(Code::corrupt, By::broker, "the stored policy is damaged");
  policy_ = BAILEY_TRY(policy::parse(text, file, folder, parse_context(recorded(found))));
  return {};
}

Status Broker::apply_policy_file() {
  std::string text = BAILEY_TRY(read_file(setup_.policy_file, policy::text_bytes_max));
  auto folder = std::filesystem::absolute(setup_.policy_file).parent_path().string();
  Applied applied = BAILEY_TRY(apply_text(text, setup_.policy_file, folder, false));
  while (applied.text.ends_with('\n')) applied.text.pop_back();
  log::info("broker", "the policy {} is in force{}{}", setup_.policy_file, applied.text.empty() ? "" : ": ",
            applied.text);
  return {};
}

Reaction Broker::apply(Session& session, std::uint64_t number, const protocol::ApplyPolicy& request) {
  if (!session.admin) {
    Error error = policy::may_administer(policy_, session.who).error();
    denied(session, "", error);
    return std::unexpected(std::move(error));
  }
  Applied applied = BAILEY_TRY(apply_text(request.policy, request.file, request.folder, request.drop));
  if (applied.text.size() > protocol::text_bytes_max) applied.text.resize(protocol::text_bytes_max);
  if (applied.revoked.empty() && applied.renewed.empty())
    return Outcome{protocol::Text{std::move(applied.text)}, {}};
  applying_.push_back({session.number, number, std::move(applied.text), std::move(applied.revoked),
                       std::move(applied.renewed)});
  return std::nullopt;
}

}  // namespace bailey::broker
