#include "tools/bailey/session_store.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

namespace bailey::tools {
namespace {

class SessionClient : public bench::Client {
 public:
  SessionClient(Session session, Table table) : session_(std::move(session)), table_(std::move(table)) {}

  std::ptrdiff_t get(std::string_view key, MutableBytes out) override {
    const Result<table::Found> found = table_.get(key, out);
    if (found) [[likely]]
      return static_cast<std::ptrdiff_t>(found->bytes);
    said(found);
    return -1;
  }
  bool get_many(std::span<bench::Lookup> lookups) override { return said(table_.get_many(lookups)); }
  bool put(std::string_view key, std::string_view value) override { return said(table_.put(key, value)); }
  bool insert(std::string_view key, std::string_view value) override {
    return said(table_.insert(key, value));
  }
  bool update(std::string_view key, std::string_view value) override {
    return said(table_.update(key, value));
  }
  bool erase(std::string_view key) override { return said(table_.erase(key)); }
  bool put_many(std::span<bench::Write> writes) override {
    if (!said(table_.apply(writes))) return false;
    for (const bench::Write& write : writes)
      if (!write.ok) return failed(Error{write.code, By::library, 0, {}, {}}.to_string());
    return true;
  }
  std::ptrdiff_t scan(std::size_t items_max) override {
    items_.clear();
    if (cursor_.done) cursor_ = {};
    if (!said(table_.scan(cursor_, items_max, items_))) return -1;
    return static_cast<std::ptrdiff_t>(items_.size());
  }

 private:
  template <class T>
  bool said(const Result<T>& result) {
    if (result) [[likely]]
      return true;
    const bool plain_no = result.error().code == Code::not_found || result.error().code == Code::exists;
    return failed(plain_no ? std::string() : result.error().to_string());
  }
  Session session_;
  Table table_;
  table::Cursor cursor_;
  std::vector<table::Item> items_;
};

}  // namespace

Result<std::unique_ptr<bench::Client>> session_client(const Reach& reach, const std::string& region,
                                                      bool writes) {
  Session session = BAILEY_TRY(reach.connect());
  Table table = BAILEY_TRY(session.open_table(region, writes ? Access::read_write : Access::read_only));
  return std::make_unique<SessionClient>(std::move(session), std::move(table));
}

Result<std::unique_ptr<bench::Store>> SessionStore::make(const Reach& reach, const std::string& region,
                                                         const std::string& mode,
                                                         const std::vector<std::string>& protect) {
  if (region.empty())
    return fail(Code::invalid_argument, By::library, "which region of the broker to run on is not said",
                "give --region NAME, or --medium memory: for a table without a broker");
  Session session = BAILEY_TRY(reach.connect());
  const session::Region opened = BAILEY_TRY(session.open_region(region, Access::read_only));
  const bool exclusive = opened.geometry.mode == table::Mode::exclusive;
  const std::string is = exclusive ? "exclusive" : "shared";
  if (mode != is)
    return fail(Code::invalid_argument, By::broker, fmt::format("region {} is {}, not {}", region, is, mode),
                fmt::format("give --mode {}, or change the policy", is));
  for (const std::string& rung : protect)
    if (std::find(opened.protect.begin(), opened.protect.end(), rung) == opened.protect.end())
      return fail(
          Code::invalid_argument, By::broker,
          fmt::format("region {} has {} in force, not {}", region, fmt::join(opened.protect, ", "), rung),
          "leave --protect out, or change the policy");
  return std::unique_ptr<bench::Store>(new SessionStore(reach, region, exclusive));
}

}  // namespace bailey::tools
