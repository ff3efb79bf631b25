// What a Table holds. Inside the room only.
#pragma once

#include <optional>

#include "bailey/table/table.h"
#include "bailey/table/writer.h"

namespace bailey::table {

struct Table::State {
  State(std::unique_ptr<pool::View> with, const Geometry& shape) : view(std::move(with)), geometry(shape) {}

  template <class Sink>
  Result<Found> find(const Home& home, std::string_view key, Sink&& sink);
  void prefetch_record(const Index& index, const Home& home, std::uint64_t value_bytes);
  Result<std::uint64_t> write(Op op, std::string_view what, std::string_view key, std::string_view value,
                              std::uint64_t expected);

  std::unique_ptr<pool::View> view;
  Geometry geometry;
  Counters counters;
  std::optional<Writer> writer;
  std::size_t needed = 0;  // of the last value that did not fit
};

}  // namespace bailey::table
