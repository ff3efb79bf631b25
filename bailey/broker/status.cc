// What the broker tells: status, audit, names of who asks.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "bailey/base/clock.h"
#include "bailey/broker/broker.h"
#include "bailey/policy/posture.h"

namespace bailey::broker {
namespace {

using nlohmann::json;

constexpr std::size_t status_bytes_max = protocol::text_bytes_max - 1000;

std::string hex(const Id& id) { return fmt::format("{:02x}", fmt::join(id, "")); }

json posture_json(const policy::RegionPosture& posture, const std::vector<std::string>& in_force) {
  json out{{"medium", posture.medium}, {"in_force", in_force}, {"not_stopped", posture.not_stopped}};
  for (const policy::Protection& protection : posture.protections)
    out["asked"].push_back(protection.name + (protection.where_available ? "?" : ""));
  for (const policy::Holding& holding : posture.holds)
    out["holds"].push_back(
        {{"what", holding.what}, {"by", policy::name(holding.word)}, {"how", holding.how}});
  return out;
}

// Rows are left off, the number of them told, until the text fits into a message.
std::string fit(json& status) {
  auto dump = [&] { return status.dump(-1, ' ', true, json::error_handler_t::replace); };
  std::string text = dump();
  for (const char* list : {"denials", "sessions", "regions"})
    for (std::size_t left_off = 0; text.size() > status_bytes_max && !status[list].empty(); text = dump()) {
      std::size_t keep = status[list].size() / 2;
      left_off += status[list].size() - keep;
      status[list].erase(status[list].begin() + static_cast<json::difference_type>(keep), status[list].end());
      status["left_off"][list] = left_off;
    }
  return text;
}

}  // namespace

// `only`: what concerns this session; nothing for an admin.
json Broker::status_json(const Session* only) const {
  bool one_uid = false;
  std::map<uid_t, std::vector<std::string>> seen;
  for (const auto& [number, session] : sessions_) {
    if (session.janitor) continue;
    auto [entry, fresh] = seen.emplace(session.uid, session.principals);
    one_uid = one_uid || session.uid == ::geteuid() || entry->second != session.principals;
  }
  json status;
  status["pool"] = {{"name", policy_.pool}, {"id", hex(pool_)}, {"medium", policy_.medium.to_string()}};
  status["broker"] = {{"pid", ::getpid()},
                      {"keeper", setup_.keeper},
                      {"epoch", epoch_},
                      {"uptime_ms", (monotonic_ns() - started_ns_) / 1'000'000}};
  status["regions"] = json::array();
  status["sessions"] = json::array();
  status["denials"] = only == nullptr ? audit_.denials() : json::array();
  for (const auto& [number, region] : regions_) {
    const policy::Region* wanted = policy_.find_region(region.name);
    if (wanted == nullptr) continue;
    if (only != nullptr && !policy::decide(policy_, only->who, region.name, policy::Rights::read)) continue;
    std::map<SegmentState, std::uint64_t> segments;
    std::uint64_t frozen_bytes = 0;
    for (const auto& [id, segment] : segments_) {
      if (segment.region != number) continue;
      ++segments[segment.state];
      if (segment.state == SegmentState::frozen) frozen_bytes += segment.bytes;
    }
    std::set<std::uint64_t> readers, writers;
    for (const auto& [grant, open] : opens_)
      if (open.region == number && open.revoked.empty())
        (open.writable ? writers : readers).insert(open.session);
    auto posture = policy::posture_of(policy_, *wanted, {.broker_uid = ::geteuid(), .one_uid = one_uid});
    if (std::string left = keys_left(region); !left.empty()) posture.not_stopped.push_back(std::move(left));
    status["regions"].push_back(
        {{"name", region.name},
         {"kind", region.kind},
         {"mode", policy::name(wanted->mode)},
         {"size", region.bytes},
         {"bytes", usage_of_region(region).bytes},
         {"index_bytes", region.index_bytes},
         {"index_generation", region.index.generation},
         {"key_generation", region.key_generation},
         {"segment_bytes", region.segment_bytes},
         {"segments_open", segments[SegmentState::open] + segments[SegmentState::mapping]},
         {"segments_frozen", segments[SegmentState::frozen]},
         {"segments_retired", segments[SegmentState::retired]},
         {"frozen_bytes", frozen_bytes},
         {"writers", writers.size()},
         {"readers", readers.size()},
         {"posture", posture_json(posture, in_force(region))}});
  }
  for (const auto& [number, session] : sessions_) {
    if (only != nullptr && number != only->number) continue;
    json row{{"number", number},          {"pid", session.pid},         {"uid", session.uid},
             {"admin", session.admin},    {"janitor", session.janitor}, {"principals", session.principals},
             {"away", session.peer == 0}, {"regions", json::array()}};
    for (std::uint32_t grant : session.opens) {
      const Open& open = opens_.at(grant);
      std::uint64_t segments = 0, bytes = 0;
      for (const auto& [id, segment] : segments_)
        if (segment.grant == grant &&
            (segment.state == SegmentState::open || segment.state == SegmentState::mapping)) {
          ++segments;
          bytes += segment.bytes;
        }
      auto region = regions_.find(open.region);
      row["regions"].push_back({{"region", region != regions_.end() ? region->second.name : ""},
                                {"writable", open.writable},
                                {"writer", open.writer},
                                {"segments", segments},
                                {"bytes", bytes},
                                {"revoked", open.revoked}});
    }
    status["sessions"].push_back(std::move(row));
  }
  return status;
}

Reaction Broker::status(Session& session) {
  json status = status_json(session.admin ? nullptr : &session);
  return Outcome{protocol::Text{fit(status)}, {}};
}

std::string Broker::who(const Session& session) const {
  return fmt::format("session {} ({}, pid {}, uid {})", session.number,
                     session.janitor              ? "the janitor"
                     : session.principals.empty() ? "no principal"
                                                  : fmt::format("{}", fmt::join(session.principals, ", ")),
                     session.pid, session.uid);
}

void Broker::denied(const Session& session, const std::string& region, const Error& error) {
  std::string name =
      session.principals.empty() ? fmt::format("uid {}", session.uid) : session.principals.front();
  if (audit_.denial({std::move(name), region, std::string(bailey::name(error.code))}))
    loop_.after(1'000'000'000, [this] { audit_.flush(); });
}

void Broker::note(const char* event, const Session* session, json fields) {
  if (session != nullptr) {
    fields["session"] = session->number;
    fields["pid"] = session->pid;
    fields["uid"] = session->uid;
    fields["principals"] = session->principals;
  }
  audit_.event(event, std::move(fields));
}

}  // namespace bailey::broker
