#include "bench/request.h"

namespace bailey::bench {

std::string_view name(Kind kind) {
  switch (kind) {
    case Kind::read:
      return "read";
    case Kind::update:
      return "update";
    case Kind::insert:
      return "insert";
    case Kind::scan:
      return "scan";
    case Kind::read_modify_write:
      return "read-modify-write";
    case Kind::erase:
      return "delete";
  }
  return "?";
}

void Block::clear() {
  requests_.clear();
  places_.clear();
  text_.clear();
}

void Block::add(Kind kind, std::string_view key, std::string_view value, unsigned scan_items,
                std::uint64_t insert_number) {
  places_.push_back({text_.size(), key.size(), 0, 0, false});
  text_.append(key);
  requests_.push_back({kind, {}, value, scan_items, insert_number});
}

void Block::add_with_value(Kind kind, std::string_view key, std::string_view value) {
  add(kind, key);
  places_.back().value_at = text_.size();
  places_.back().value_bytes = value.size();
  places_.back().own_value = true;
  text_.append(value);
}

const std::vector<Request>& Block::requests() {
  // Only now: adding may have moved the text.
  const std::string_view text = text_;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    const Place& place = places_[i];
    requests_[i].key = text.substr(place.key_at, place.key_bytes);
    if (place.own_value) requests_[i].value = text.substr(place.value_at, place.value_bytes);
  }
  return requests_;
}

}  // namespace bailey::bench
