// The fixture of the tests that kill, stop and revoke: three clients with keys, on two regions.
#pragma once

#include "bailey/broker/test_support.h"
#include "bailey/crypto/key_file.h"

namespace bailey::broker {

class DeathTest : public BrokerTest {
 protected:
  void SetUp() override {
    BrokerTest::SetUp();
    for (auto& key : keys_) key = std::move(*crypto::SecretKey::generate());
  }
  // The uid of the tests is admin; a, b and c show keys.
  std::string policy(const std::string& grants, const std::string& regions = {},
                     const std::string& medium = {}) const {
    std::string text = fmt::format("[pool]\nname = \"courtyard\"\nmedium = \"{}\"\n",
                                   medium.empty() ? "memory:256MiB" : medium);
    for (int i = 0; i < 3; ++i)
      text += fmt::format("[principal.{}]\nidentity = \"key:{}\"\n", "abc"[i],
                          crypto::public_key_text(keys_[static_cast<std::size_t>(i)]->public_key()));
    return text +
           (regions.empty() ? region_toml("orders", "exclusive") + region_toml("carts", "shared") : regions) +
           grants;
  }
  std::string all_grants() const {
    return grant_toml("a", "*", "rw") + grant_toml("b", "*", "rw") + grant_toml("c", "*", "r");
  }
  Client as(char name) const {
    auto connected = Client::connect(socket_, &*keys_[static_cast<std::size_t>(name - 'a')]);
    if (!connected) throw std::runtime_error(connected.error().to_string());
    return std::move(*connected);
  }
  Result<std::string> apply(const std::string& text, bool drop = false) const {
    Client admin = client();
    auto reply = BAILEY_TRY(admin.ask<protocol::Text>(protocol::ApplyPolicy{text, "new.toml", "/", drop}));
    return reply.text;
  }
  // A client of this name that has a region open for writing. Throws where that fails.
  std::pair<Client, protocol::Opened> writer_of(const std::string& region, char name) const {
    Client one = as(name);
    auto opened = one.open(region, true);
    if (!opened) throw std::runtime_error(opened.error().to_string());
    return {std::move(one), std::move(*opened)};
  }
  // A writer in another process, which says 'w' when it has a segment.
  std::unique_ptr<Process> writer(
      const std::string& region, const Words& words,
      const std::function<void(Client&)>& then = [](Client&) { ::pause(); }) const {
    return std::make_unique<Process>([&] {
      Client own = as('a');
      auto opened = own.open(region, true);
      if (!opened || !own.create(opened->grant)) return 1;
      words.say('w');
      then(own);
      return 0;
    });
  }
  std::array<std::optional<crypto::SecretKey>, 3> keys_;
};

}  // namespace bailey::broker
