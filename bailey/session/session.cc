#include "bailey/session/session.h"

#include <fmt/format.h>

#include <utility>

#include "bailey/session/backing.h"
#include "bailey/session/core.h"
#include "bailey/session/credential.h"

namespace bailey::session {

Session::Session(std::shared_ptr<Core> core) : core_(std::move(core)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

Result<Session> Session::connect(const Options& options) {
  return Session(BAILEY_TRY(Core::connect(options)));
}

Result<Region> Session::open_region(std::string_view region, Access access, const capability::Token* token) {
  Region opened = BAILEY_TRY(BrokerBacking::open(core_, region, access, token));
  if (opened.credential->scope_of(opened.credential->token())->narrower_than_file())
    return fail(
        Code::unsupported, By::library,
        fmt::format("the token is for a part of region {}, and below structures there are no parts", region),
        "open_raw gives windows onto it");
  return opened;
}

Result<table::Table> Session::open_table(std::string_view region, Access access,
                                         const capability::Token* token) {
  Region opened = BAILEY_TRY(open_region(region, access, token));
  if (opened.kind != "table")
    return fail(Code::unsupported, By::library,
                fmt::format("region {} is a {}, not a table", region, opened.kind));
  return table::Table::open(std::move(opened.view), opened.geometry);
}

Result<Raw> Session::open_raw(std::string_view region, Access access, const capability::Token* token) {
  return Raw::open(BAILEY_TRY(BrokerBacking::open(core_, region, access, token)), region);
}

Result<capability::Token> Session::mint_token(std::string_view region, const Mint& mint) {
  protocol::MintToken request{std::string(region), mint.access == Access::read_write, mint.holder,
                              mint.expires};
  auto minted = BAILEY_TRY(core_->call<protocol::TokenMinted>(std::move(request)));
  return capability::Token::decode(as_bytes(minted.answer.token));
}

Result<std::string> Session::revoke_token(const capability::Id& id) {
  return BAILEY_TRY(core_->call<protocol::Text>(protocol::RevokeToken{id})).answer.text;
}

Result<std::string> Session::verify_token(const capability::Token& token) {
  protocol::VerifyToken request{std::string(as_text(token.bytes()))};
  return BAILEY_TRY(core_->call<protocol::Text>(std::move(request))).answer.text;
}

Result<std::string> Session::status() {
  return BAILEY_TRY(core_->call<protocol::Text>(protocol::GetStatus{})).answer.text;
}

Result<std::string> Session::apply_policy(std::string_view policy, std::string_view file,
                                          std::string_view folder, bool drop) {
  protocol::ApplyPolicy request{std::string(policy), std::string(file), std::string(folder), drop};
  return BAILEY_TRY(core_->call<protocol::Text>(std::move(request))).answer.text;
}

Result<std::string> Session::rotate_key(std::string_view region) {
  return BAILEY_TRY(core_->call<protocol::Text>(protocol::RotateKey{std::string(region)})).answer.text;
}

const std::string& Session::pool_name() const { return core_->welcome().pool_name; }
const std::vector<std::string>& Session::principals() const { return core_->welcome().principals; }
bool Session::admin() const { return core_->welcome().admin; }

std::string_view version() { return BAILEY_VERSION; }

}  // namespace bailey::session
