// Recording a history for lincheck, by several processes, one of which may be killed at any instruction.
//
// Each process has a Recorder of its own in an anonymous mapping that was made before the fork, so that the
// parent reads everything afterwards, also what a killed child had under way: an operation's start is stored
// before the call, and where no end was stored its outcome is unknown.
//
// Thread and process safety: one process records; others read once it has ended or is stopped.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bailey/base/clock.h"
#include "bailey/base/error.h"
#include "bailey/base/fd.h"
#include "bailey/table/lincheck.h"

namespace bailey::table {

// The clock before a call: nothing of the call is done before it is read.
inline std::uint64_t before_call_ns() {
  std::uint64_t now = monotonic_ns();
#if defined(__x86_64__)
  __builtin_ia32_lfence();  // no load of the call is done early
#endif
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return now;
}

// The clock after a call: all of the call's stores are visible before it is read. Without the fence a store
// could sit in this core's buffer after the "end" of its operation; no message could tell, since it would sit
// behind it, but clocks of two cores could.
inline std::uint64_t after_call_ns() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
#if defined(__x86_64__)
  __builtin_ia32_lfence();
#endif
  return monotonic_ns();
}

class Recorder {
 public:
  // Make it before the fork. Error: io where there is no memory.
  static Result<Recorder> create(std::uint32_t process, std::size_t operations_max);

  bool full() const { return header()->count == operations_max_; }
  std::size_t capacity() const { return operations_max_; }
  std::size_t size() const { return header()->count; }

  // An operation that starts now; the rest of its record is filled in by the caller before and after the
  // call. Several may be under way (a batch). The recorder must not be full.
  Operation& begin(Action action, std::uint64_t key, std::uint64_t written = 0, std::uint64_t expected = 0);
  // It ends now. Set `observed` and `version` before.
  void end(Operation& operation, Outcome outcome);
  // A record that is complete, as an item of a scan.
  void add(const Operation& operation);

  // Everything recorded; what has no end is unknown.
  void append_to(std::vector<Operation>& history) const;

 private:
  struct Header {
    std::size_t count;
  };
  static constexpr std::size_t records_offset = 64;

  Recorder(Mapping mapping, std::uint32_t process, std::size_t operations_max)
      : mapping_(std::move(mapping)), process_(process), operations_max_(operations_max) {}
  Header* header() const { return reinterpret_cast<Header*>(mapping_.data()); }
  Operation* records() const { return reinterpret_cast<Operation*>(mapping_.data() + records_offset); }

  Mapping mapping_;
  std::uint32_t process_;
  std::size_t operations_max_;
};

// ---- values that say who they are

// A value's id: process (12 bits), its number of the value (31 bits), bytes (20 bits). All of the value's
// bytes derive from it, so that a value made of two is noticed.
constexpr std::uint64_t value_id(std::uint32_t process, std::uint64_t number, std::size_t bytes) {
  return std::uint64_t{process} << 51 | (number & 0x7fff'ffff) << 20 | (bytes & 0xf'ffff);
}
constexpr std::size_t value_bytes(std::uint64_t id) { return id & 0xf'ffff; }
void make_value(std::uint64_t id, std::string& value);

// Values too short for their id are told by their image until the history says whose version it is.
inline constexpr std::size_t value_id_bytes = 8;
inline constexpr std::uint64_t short_value_bit = std::uint64_t{1} << 63;

// The id of a value, or its image where it is short. 0 where the bytes do not belong together: a torn value.
std::uint64_t value_id_of(std::string_view value);

// Replaces the images of short values by their ids, found by version. One that fits no write stays, and is
// then a value that nobody wrote. A short value of a write whose version nobody was told stays too: give
// writes that may be killed longer ones.
void resolve_short_values(std::vector<Operation>& history);

}  // namespace bailey::table
