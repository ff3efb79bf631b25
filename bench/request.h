// What a client is to do: blocks of requests, made before the clock starts so that drawing random numbers and
// parsing traces costs no measured time.
//
// Thread safety: an object is for one thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bailey/base/error.h"

namespace bailey::bench {

enum class Kind : std::uint8_t { read, update, insert, scan, read_modify_write, erase };
inline constexpr unsigned kinds = 6;
std::string_view name(Kind kind);

struct Request {
  Kind kind = Kind::read;
  std::string_view key;
  std::string_view value;           // of update, insert and read_modify_write
  unsigned scan_items = 0;          // of scan
  std::uint64_t insert_number = 0;  // of insert from a workload: to acknowledge
};

// Requests with the bytes of their keys. Values are the maker's and outlive the block, or are kept here too.
class Block {
 public:
  void clear();
  // Copies the key; `value` must outlive the block.
  void add(Kind kind, std::string_view key, std::string_view value = {}, unsigned scan_items = 0,
           std::uint64_t insert_number = 0);
  // Copies the key and the value.
  void add_with_value(Kind kind, std::string_view key, std::string_view value);
  // The requests; valid until the next add or clear.
  const std::vector<Request>& requests();
  std::size_t size() const { return requests_.size(); }

 private:
  struct Place {
    std::size_t key_at, key_bytes, value_at, value_bytes;
    bool own_value;
  };
  std::vector<Request> requests_;
  std::vector<Place> places_;
  std::string text_;
};

// Where requests come from: a workload's generator or a trace.
class RequestSource {
 public:
  virtual ~RequestSource() = default;
  // Fills the block (cleared first) with up to `requests_max` requests; none is the end.
  virtual Status next(Block& block, std::size_t requests_max) = 0;
};

}  // namespace bailey::bench
