#include "bailey/broker/hold.h"

#include <fmt/format.h>

#include "bailey/base/clock.h"

namespace bailey::broker {

Status Hold::say(const std::string& text, std::span<const int> fds) {
  constexpr std::uint64_t patience_ns = 2'000'000'000;
  auto sent = connection_.send(as_bytes(text), monotonic_ns() + patience_ns, fds);
  if (!sent)
    return fail(Code::unavailable, By::broker,
                fmt::format("the keeper does not take \"{}\": {}", text, sent.error().to_string()));
  return {};
}

Status Hold::hold(const std::string& name, int fd) { return say("hold " + name, std::span(&fd, 1)); }
Status Hold::drop(const std::string& name) { return say("drop " + name, {}); }
Status Hold::ready() { return say("ready ", {}); }
Status Hold::reread() { return say("reread ", {}); }
Status Hold::failed(const std::string& text) { return say("failed " + text.substr(0, 32768), {}); }

}  // namespace bailey::broker
