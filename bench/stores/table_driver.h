// A table of Bailey's as the benchmarks drive it, wherever it was opened.
#pragma once

#include <string>
#include <vector>

#include "bench/store.h"

namespace bailey::bench {

class TableDriver : public Client {
 public:
  explicit TableDriver(table::Table table) : table_(std::move(table)) {}

  std::ptrdiff_t get(std::string_view key, MutableBytes out) override {
    const Result<table::Found> found = table_.get(key, out);
    if (found) [[likely]]
      return static_cast<std::ptrdiff_t>(found->bytes);
    told(found);
    return -1;
  }
  bool get_many(std::span<Lookup> lookups) override { return told(table_.get_many(lookups)); }
  bool put(std::string_view key, std::string_view value) override { return told(table_.put(key, value)); }
  bool insert(std::string_view key, std::string_view value) override {
    return told(table_.insert(key, value));
  }
  bool update(std::string_view key, std::string_view value) override {
    return told(table_.update(key, value));
  }
  bool erase(std::string_view key) override { return told(table_.erase(key)); }
  bool put_many(std::span<Write> writes) override {
    if (!told(table_.apply(writes))) return false;
    for (const Write& write : writes)
      if (!write.ok) return failed(Error{write.code, By::library, 0, {}, {}}.to_string());
    return true;
  }
  std::ptrdiff_t scan(std::size_t items_max) override {
    items_.clear();
    if (cursor_.done) cursor_ = {};
    if (!told(table_.scan(cursor_, items_max, items_))) return -1;
    return static_cast<std::ptrdiff_t>(items_.size());
  }

 private:
  template <class T>
  bool told(const Result<T>& result) {
    if (result) [[likely]]
      return true;
    const bool plain_no = result.error().code == Code::not_found || result.error().code == Code::exists;
    return failed(plain_no ? std::string() : result.error().to_string());
  }
  table::Table table_;
  table::Cursor cursor_;
  std::vector<table::Item> items_;
};

}  // namespace bailey::bench
