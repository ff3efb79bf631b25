// Reads the keys of one table of the policy: each call checks type and range, and reports what is wrong in
// place. Nothing is returned for what was wrong or absent.
//
// Thread safety: an object is for one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bailey/policy/diagnostic.h"
#include "bailey/policy/document.h"

namespace bailey::policy {

template <class T>
struct Placed {
  Position at;
  T value;
};

class TableReader {
 public:
  // `where` is how messages call the table: "[region.orders]". `whole` is Document::whole: where lines were
  // left out, an absent key is no mistake.
  TableReader(const Node& table, Position at, std::string where, bool whole, Diagnostics& out)
      : table_(table), at_(at), where_(std::move(where)), whole_(whole), out_(out) {}

  Position at() const { return at_; }
  const std::string& where() const { return where_; }

  // Reports every key that is not among `known`.
  void only(std::span<const std::string> known) const;
  // Reports the absence of a key; true where it is there.
  bool require(std::string_view key, std::string_view example) const;

  std::optional<Placed<std::string>> text(std::string_view key, std::string_view example) const;
  // A text, or an array of texts. Empty arrays are reported.
  std::optional<std::vector<Placed<std::string>>> texts(std::string_view key, std::string_view example,
                                                        std::size_t count_max) const;
  // A size as text or as a whole number of bytes; not zero.
  std::optional<Placed<std::uint64_t>> size(std::string_view key) const;
  // A whole number from 1 to `max`.
  std::optional<Placed<std::uint64_t>> count(std::string_view key, std::uint64_t max) const;
  // The number of the one among `known`.
  std::optional<std::size_t> choice(std::string_view key, std::span<const std::string> known) const;
  std::optional<bool> truth(std::string_view key) const;

 private:
  const Entry* typed(std::string_view key, Node::Kind kind, std::string_view example) const;
  void wrong_type(const Entry& entry, std::string_view wanted, std::string hint) const;

  const Node& table_;
  Position at_;
  std::string where_;
  bool whole_;
  Diagnostics& out_;
};

}  // namespace bailey::policy
