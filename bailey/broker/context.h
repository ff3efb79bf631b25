// What reading a policy must be told by the broker: what this build has and enforces.
#pragma once

#include "bailey/guard/keys.h"
#include "bailey/policy/policy.h"

namespace bailey::broker {

inline policy::ParseContext parse_context(policy::Lookups lookups = policy::Lookups::of_system()) {
  policy::ParseContext context;
  context.kinds = {"table", "raw"};
  // A region may ask for nothing; what it gets is `process` all the same, and the posture says so.
  context.enforced = {"none", "process", "encrypted", "signed"};
  // Sessions are processes of this machine, and what its processor lacks they lack too. What else may keep
  // one from it (a limit on addresses) that session finds and refuses itself.
  if (auto keys = guard::available())
    context.enforced.insert("pkey");
  else
    context.lacking["pkey"] = keys.error().message;
  context.lookups = std::move(lookups);
  return context;
}

}  // namespace bailey::broker
