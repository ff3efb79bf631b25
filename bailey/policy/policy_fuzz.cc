// Fuzzes the reading of a policy: no text may crash it, make it work without bound, or get past a rule.
//
//   fuzz/policy_fuzz -dict=bailey/policy/policy_fuzz.dict WORK_FOLDER bailey/policy/corpus/policy_fuzz
//
// Checked for each input: an accepted policy keeps its invariants and a refused one says why; reading twice
// gives the same; a policy differs in nothing from itself; decisions never give what no grant gives.
//
// The target policy_fuzz_canary is the same with a planted defect (BAILEY_POLICY_FUZZ_CANARY): it must crash,
// or the fuzzer is not looking.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "bailey/policy/decide.h"
#include "bailey/policy/diff.h"
#include "bailey/policy/policy.h"
#include "bailey/policy/posture.h"

namespace {

using namespace bailey;
using namespace bailey::policy;

// No input may make the fuzzer ask this machine for users or files.
ParseContext fixed_context() {
  ParseContext context;
  context.kinds = {"table", "channel"};
  context.enforced = {"none", "process"};
  context.broker_uid = 7;
  auto account = [](const std::string& name) -> Result<std::uint32_t> {
    if (name == "root") return 0;
    return fail(Code::not_found, By::kernel, "no such account");
  };
  context.lookups = {account, account, [](const std::string& path) -> Result<KeyFile> {
                       if (path.ends_with("alice.pub"))
                         return KeyFile{"AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=\n", false};
                       return fail(Code::not_found, By::kernel, "no such file");
                     }};
  return context;
}

void check_decisions(const Policy& policy) {
  for (const Principal& principal : policy.principals) {
    Verified who;
    const Identity& identity = principal.identities.front();
    if (identity.kind == Identity::Kind::user) who.uid = identity.id;
    if (identity.kind == Identity::Kind::group) who.gids = {identity.id};
    if (identity.kind == Identity::Kind::key) who.keys = {identity.key};
    for (const Region& region : policy.regions) {
      auto decision = decide(policy, who, region.name, Rights::write);
      if (!decision) continue;
      BAILEY_ASSERT(!decision->grants.empty() && decision->rights >= Rights::write);
      BAILEY_ASSERT(decision->quotas.bytes && *decision->quotas.bytes <= region.quota_bytes);
      for (std::size_t grant : decision->grants) {
        BAILEY_ASSERT(policy.grants[grant].covers(region.name) &&
                      policy.grants[grant].rights >= Rights::write);
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const ParseContext context = fixed_context();
  std::string_view text(reinterpret_cast<const char*>(data), size);
  Checked checked = check(text, "policy.toml", "/keys", context);
#ifdef BAILEY_POLICY_FUZZ_CANARY
  // No seed has this mistake: it takes a mutation that passes the syntax and reaches the rules of a grant.
  for (const Diagnostic& diagnostic : checked.diagnostics) {
    if (diagnostic.hint != "did you mean \"rights\"?") continue;
    std::fprintf(stderr, "the canary was found\n");
    std::abort();
  }
#endif
  bool error = false;
  for (const Diagnostic& diagnostic : checked.diagnostics) {
    error |= diagnostic.severity == Severity::error;
    BAILEY_ASSERT(!diagnostic.message.empty() && diagnostic.line >= 1 && diagnostic.column >= 1);
    // A file can't play tricks with the terminal that shows its mistakes.
    for (char c : diagnostic.to_string()) BAILEY_ASSERT(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
  }
  BAILEY_ASSERT(checked.ok() != error);
  if (!checked.ok()) return 0;

  const Policy& policy = *checked.policy;
  BAILEY_ASSERT(validate(policy).has_value());
  auto again = parse(text, "policy.toml", "/keys", context);
  BAILEY_ASSERT(again.has_value() && diff(policy, *again).empty());
  check_decisions(policy);
  for (const RegionPosture& one : posture(policy, {})) {
    BAILEY_ASSERT(!one.not_stopped.empty());
    BAILEY_ASSERT(lines(one).size() > 3);
  }
  return 0;
}
