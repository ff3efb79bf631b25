// The audit log: one JSON object a line, for whoever asks later who did what.
//
// Denials are counted a second, principal, region and reason, so that whoever is refused can't fill the disk.
// Names of regions that others sent are theirs: they are quoted by JSON and cut. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "bailey/base/error.h"
#include "bailey/base/fd.h"

namespace bailey::broker {

class Audit {
 public:
  static constexpr std::size_t kinds_max = 1024;              // of denials that are told apart
  static constexpr std::uint64_t file_bytes_max = 16u << 20;  // then it becomes PATH.1, and a new one begins

  static Result<Audit> open(const std::string& path);

  // `fields` is an object. What can't be written is logged, never fatal.
  void event(const char* name, nlohmann::json fields);

  struct Denial {
    std::string who;     // "alice", "uid 1000"
    std::string region;  // or empty
    std::string reason;
    auto operator<=>(const Denial&) const = default;
  };
  // Returns whether it is the first since flush(), which then is to be called within a second.
  bool denial(Denial denial);
  void flush();
  // Totals since the broker started.
  nlohmann::json denials() const;

 private:
  void write(const std::string& line);

  std::string path_;
  Fd file_;
  struct Count {
    std::uint64_t unwritten = 0;
    std::uint64_t total = 0;
  };
  std::map<Denial, Count> denials_;
  bool pending_ = false;
};

}  // namespace bailey::broker
