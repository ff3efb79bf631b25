// Bailey's table behind a broker: opened by a grant, or by a token and no other right.
#include <fmt/format.h>

#include <optional>

#include "bailey/session/credential.h"
#include "bench/stores/own_broker.h"
#include "bench/stores/table_driver.h"

namespace bailey::bench {
namespace {

// Verifies the session's token before each operation.
class VerifyingDriver final : public TableDriver {
 public:
  VerifyingDriver(table::Table table, std::shared_ptr<const session::Credential> credential)
      : TableDriver(std::move(table)), credential_(std::move(credential)) {}

  std::ptrdiff_t get(std::string_view key, MutableBytes out) override {
    return right() ? TableDriver::get(key, out) : -1;
  }
  bool get_many(std::span<Lookup> lookups) override { return right() && TableDriver::get_many(lookups); }
  bool put(std::string_view key, std::string_view value) override {
    return right() && TableDriver::put(key, value);
  }
  bool insert(std::string_view key, std::string_view value) override {
    return right() && TableDriver::insert(key, value);
  }
  bool update(std::string_view key, std::string_view value) override {
    return right() && TableDriver::update(key, value);
  }
  bool erase(std::string_view key) override { return right() && TableDriver::erase(key); }
  bool put_many(std::span<Write> writes) override { return right() && TableDriver::put_many(writes); }

 private:
  bool right() {
    const auto scope = credential_->scope_of(credential_->token());
    return scope ? true : failed(scope.error().to_string());
  }
  std::shared_ptr<const session::Credential> credential_;
};

class BrokeredStore final : public Store {
 public:
  BrokeredStore(std::unique_ptr<OwnBroker> broker, table::Mode mode, Right right, std::optional<Token> token)
      : broker_(std::move(broker)), mode_(mode), right_(right), token_(std::move(token)) {}

  Result<std::unique_ptr<Client>> client(bool writes) override {
    Session session = BAILEY_TRY(broker_->session());
    session::Region opened = BAILEY_TRY(session.open_region(
        OwnBroker::region, writes ? Access::read_write : Access::read_only, token_ ? &*token_ : nullptr));
    table::Table table = BAILEY_TRY(table::Table::open(std::move(opened.view), opened.geometry));
    if (right_ == Right::token_each)
      return std::make_unique<VerifyingDriver>(std::move(table), std::move(opened.credential));
    return std::make_unique<TableDriver>(std::move(table));
  }
  bool single_writer() const override { return mode_ == table::Mode::exclusive; }

 private:
  std::unique_ptr<OwnBroker> broker_;
  table::Mode mode_;
  Right right_;
  std::optional<Token> token_;
};

}  // namespace

Result<std::unique_ptr<Store>> make_brokered_table(const StoreOptions& options, table::Mode mode, Right right,
                                                   bool encrypted) {
  std::string more = fmt::format("records = {}\n", options.records);
  if (encrypted) more += "protect = [\"process\", \"encrypted\"]\n";
  std::unique_ptr<OwnBroker> broker = BAILEY_TRY(
      OwnBroker::start("table", mode, pool_bytes(options, encrypted ? BAILEY_SEALED_HEADER_BYTES : 0), more));
  std::optional<Token> token;
  if (right != Right::grant) {
    Session session = BAILEY_TRY(broker->session());
    token = BAILEY_TRY(session.mint_token(OwnBroker::region, {Access::read_write, OwnBroker::principal, 0}));
  }
  return std::make_unique<BrokeredStore>(std::move(broker), mode, right, std::move(token));
}

void add_brokered(std::vector<System>& systems) {
  const std::vector<Operation> operations = {Operation::get,    Operation::multi_get, Operation::insert,
                                             Operation::update, Operation::set,       Operation::multi_set};
  const auto by = [](Right right, bool encrypted = false) {
    return [right, encrypted](const StoreOptions& options) {
      return make_brokered_table(options, table::Mode::exclusive, right, encrypted);
    };
  };
  systems.push_back({"bailey-process", "Bailey's table, mode exclusive, of a broker (rung process)",
                     "bailey-process", operations, 1, by(Right::grant)});
  systems.push_back(
      {"bailey-token", "the same, opened with a token", "bailey-token", operations, 1, by(Right::token)});
  systems.push_back({"bailey-process-encrypted", "the same, opened by a grant and encrypted (AES-256-GCM)",
                     "bailey-process-encrypted", operations, 1, by(Right::grant, true)});
}

}  // namespace bailey::bench
