// What writers that may be killed at any instruction have begun and been told, and what others may therefore
// find.
//
// Each key of its own has one writer at a time, which writes 1, 2, 3 ... to it, successors of a killed one
// included: `begun` is stored before a write, `told` after its acknowledgement. Whoever loads `told`, reads
// the key and then loads `begun` must find one of the writes between. Every eighth write of a fourth of the
// keys is an erase. The shared keys are counters that all writers raise by put_if_version.
//
// Values derive from writer, key and number (bailey/table/history.h), so that a torn one is noticed. In
// memory that is made before the fork; any process may die at any time.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "bailey/base/fd.h"
#include "bailey/table/history.h"

namespace bailey::e2e {

class Ledger {
 public:
  static constexpr unsigned writers = 4;
  static constexpr unsigned keys = 128;  // of each writer
  static constexpr unsigned counters = 8;

  Ledger() : page_(Mapping::anonymous(sizeof(Book)).value()) {}

  static bool may_be_erased(unsigned key) { return key % 4 == 3; }
  static bool erases(unsigned key, std::uint32_t write) { return may_be_erased(key) && write % 8 == 0; }
  static std::string key_text(unsigned writer, unsigned key) { return fmt::format("w{}.{}", writer, key); }
  static std::string counter_text(unsigned counter) { return fmt::format("counter{}", counter); }

  // Mostly small ones, now and then one that takes many pages.
  static void make_value(unsigned writer, unsigned key, std::uint32_t write, std::string& value) {
    const std::size_t bytes = write % 61 == 0 ? 20'000 + key : 16 + (write * 37 + key * 11) % 600;
    table::make_value(table::value_id(writer + 1, std::uint64_t{write} << 8 | key, bytes), value);
  }
  static void make_count(unsigned counter, std::uint32_t count, std::string& value) {
    table::make_value(table::value_id(counter_process + counter, count, 24), value);
  }
  // Which count a value of the counter is; nothing where it is no such value.
  static std::optional<std::uint32_t> count_of(unsigned counter, std::string_view value) {
    const std::uint64_t id = table::value_id_of(value);
    if (value.size() != 24 || id >> 51 != counter_process + counter) return std::nullopt;
    return static_cast<std::uint32_t>(id >> 20 & 0x7fff'ffff);
  }

  struct Row {
    std::atomic<std::uint32_t> begun, told;
  };
  Row& row(unsigned writer, unsigned key) const { return book().rows[writer][key]; }
  // The highest count that somebody was told to have written.
  std::atomic<std::uint32_t>& count(unsigned counter) const { return book().counts[counter]; }
  void told_count(unsigned counter, std::uint32_t told) const {
    std::uint32_t before = count(counter);
    while (before < told && !count(counter).compare_exchange_weak(before, told)) {}
  }

  // What is wrong with a value (nothing: the key was not there) of a key of its own, found between the two
  // loads; empty where nothing is.
  static std::string wrong(unsigned writer, unsigned key, std::optional<std::string_view> value,
                           std::uint32_t told, std::uint32_t begun) {
    const auto say = [&](const std::string& what) {
      return fmt::format("{}: {}, while write {} was acknowledged and {} begun", key_text(writer, key), what,
                         told, begun);
    };
    if (!value) {
      for (std::uint32_t write = told; write <= begun; ++write)
        if (write == 0 || erases(key, write)) return {};
      return say("not found");
    }
    const std::uint64_t id = table::value_id_of(*value);
    if (id == 0) return say(fmt::format("a torn value of {} bytes", value->size()));
    const std::uint64_t number = id >> 20 & 0x7fff'ffff;
    if (id >> 51 != writer + 1 || (number & 0xff) != key) return say("a value of another key");
    const std::uint64_t write = number >> 8;
    if (write < told || write > begun || erases(key, static_cast<std::uint32_t>(write)))
      return say(fmt::format("found write {}", write));
    return {};
  }

 private:
  static constexpr std::uint64_t counter_process = 100;
  struct Book {
    Row rows[writers][keys];
    std::atomic<std::uint32_t> counts[counters];
  };
  Book& book() const { return *reinterpret_cast<Book*>(page_.data()); }
  Mapping page_;
};

}  // namespace bailey::e2e
