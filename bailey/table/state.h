// What a Table holds. Inside the room only.
#pragma once

#include <optional>

#include "bailey/table/table.h"
#include "bailey/table/writer.h"

namespace bailey::table {

struct Table::State {
  State(std::unique_ptr<pool::View> with, const Geometry& shape) : view(std::move(with)), geometry(shape) {}

  // What a look for a key found. A word in place of a Result, with `failure` aside: to build and to take
  // apart an Error that is hardly ever there costs more than the lookup.
  enum class Look : std::uint8_t {
    found,
    absent,
    too_small,  // `sink(bytes)` gave null for its value of `found.bytes` bytes
    failed,     // `failure` says why
  };
  // Looks for a key of at most key_bytes_max bytes.
  template <class Sink>
  bool look_at_once(const Word* slot, const Home& home, std::string_view key, Found& found, Sink&& sink);
  template <class Sink>
  bool look_at_sealed_once(const Word* slot, Word seen, const Home& home, std::string_view key, Found& found,
                           Sink& sink);
  template <class Sink>
  Look look(const Home& home, std::string_view key, Found& found, Sink&& sink);
  Result<Found> get(std::string_view key, MutableBytes out, std::size_t* bytes_needed);
  const Word* first_candidate(const Home& home) const;
  Look gave_up();
  Error error_of(Look outcome);
  // `what` is the operation's name, for errors. write_closely: all that is not the usual case, from the
  // start; false: `failure` says why.
  Result<std::uint64_t> write(Op op, std::string_view key, std::string_view value,
                              std::uint64_t expected_version, std::string_view what);
  Writer::Outcome write_sealed_at_once(Op op, std::string_view key, std::string_view value,
                                       std::uint64_t expected_version, std::uint64_t& version);
  bool write_closely(Write& write, std::string_view what, const Presigned* presigned = nullptr);
  Status apply_signed(std::span<Write> writes);

  std::unique_ptr<pool::View> view;
  Geometry geometry;
  Counters counters;
  std::optional<Writer> writer;
  Error failure;  // why the last look or write failed
};

}  // namespace bailey::table
