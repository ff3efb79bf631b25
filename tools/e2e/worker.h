// A process that works on two tables without pause and checks all that it finds against the ledger: for tests
// that kill it. `orders` is shared, `accounts` exclusive.
//
// A worker never uses GoogleTest: what is wrong it writes on its post, which the test reads.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "bailey/base/clock.h"
#include "bailey/session/session.h"
#include "tools/e2e/ledger.h"

namespace bailey::e2e {

// What a worker tells, over all its lives, and is told.
struct alignas(64) Post {
  std::atomic<std::uint64_t> operations, scans, contended, longest_read_ns, longest_write_ns;
  std::atomic<std::uint32_t> open;  // this life has its tables
  std::atomic<std::uint32_t>
      stopped;                     // how often the test stopped it: what took long then is not its own doing
  std::atomic<std::uint32_t> end;  // it is to end
  char fault[400];                 // the first thing that must not be
};

class Worker {
 public:
  // Writer 3 has the exclusive table, 0 to 2 the shared one; from 4 on they read both.
  static constexpr unsigned exclusive_writer = Ledger::writers - 1;
  static bool is_writer(unsigned number) { return number < Ledger::writers; }

  Worker(const Ledger& ledger, Post& post, unsigned number)
      : ledger_(ledger), post_(post), number_(number), random_(std::random_device{}()) {}

  // Until it is to end: 0, or 1 where something was wrong.
  int work(const Options& options) {
    Result<Session> session = Session::connect(options);
    if (!session) return fault("connect", session.error());
    if (is_writer(number_)) {
      if (!open_own(*session)) return 1;
    } else if (!open("orders", *session) || !open("accounts", *session)) {
      return 1;
    }
    post_.open = 1;
    while (post_.end == 0) {
      const bool good = is_writer(number_) ? write_something() : read_something();
      if (!good) return 1;
      ++post_.operations;
    }
    return 0;
  }

  // Reads everything once, for the one who looks at the end.
  bool read_all(Session& session) {
    if (!open("orders", session) || !open("accounts", session)) return false;
    for (unsigned writer = 0; writer < Ledger::writers; ++writer)
      for (unsigned key = 0; key < Ledger::keys; ++key)
        if (!read(writer, key)) return false;
    for (unsigned counter = 0; counter < Ledger::counters; ++counter)
      if (!read_count(counter)) return false;
    return scan("orders") && scan("accounts");
  }

 private:
  static std::string region_of(unsigned writer) { return writer == exclusive_writer ? "accounts" : "orders"; }

  int fault(const std::string& text) {
    if (post_.fault[0] == 0) std::strncpy(post_.fault, text.c_str(), sizeof post_.fault - 1);
    return 1;
  }
  int fault(const std::string& what, const Error& error) { return fault(what + ": " + error.to_string()); }

  bool open(const std::string& region, Session& session) {
    Result<Table> table = session.open_table(region, Access::read_only);
    if (!table) return fault("open " + region, table.error()) == 0;
    tables_.emplace(region, std::move(*table));
    return true;
  }
  // The predecessor's death may not have been noticed yet; the killer measures how long that takes.
  bool open_own(Session& session) {
    const std::string region = region_of(number_);
    Result<Table> table = session.open_table(region, Access::read_write);
    for (const std::uint64_t until = monotonic_ns() + 5'000'000'000;
         !table && table.error().code == Code::busy && monotonic_ns() < until;) {
      ::usleep(500);
      table = session.open_table(region, Access::read_write);
    }
    if (!table) return fault("open " + region + " to write", table.error()) == 0;
    tables_.emplace(region, std::move(*table));
    return true;
  }

  // Notes how long an operation took, unless the process was stopped meanwhile.
  template <class Operation>
  auto timed(std::atomic<std::uint64_t>& longest_ns, Operation&& operation) {
    const std::uint32_t stopped = post_.stopped;
    const std::uint64_t start = monotonic_ns();
    auto result = operation();
    const std::uint64_t took = monotonic_ns() - start;
    if (stopped == post_.stopped && took > longest_ns) longest_ns = took;
    return result;
  }

  bool write_something() {
    const auto dice = static_cast<unsigned>(random_() % 16);
    if (dice == 0) return read(number_, static_cast<unsigned>(random_() % Ledger::keys));
    if (dice < 3 && number_ != exclusive_writer)
      return raise(static_cast<unsigned>(random_() % Ledger::counters));
    return write(static_cast<unsigned>(random_() % Ledger::keys));
  }

  bool write(unsigned key) {
    Ledger::Row& row = ledger_.row(number_, key);
    const std::uint32_t write = row.begun + 1;
    row.begun = write;
    Table& table = tables_.at(region_of(number_));
    const std::string text = Ledger::key_text(number_, key);
    const bool erases = Ledger::erases(key, write);
    if (!erases) Ledger::make_value(number_, key, write, value_);
    const Status done = timed(post_.longest_write_ns, [&]() -> Status {
      if (erases) return table.erase(text);
      const auto version = table.put(text, value_);
      if (!version) return std::unexpected(version.error());
      return {};
    });
    if (!done && done.error().code == Code::contended) {
      ++post_.contended;
      return true;
    }
    // The write before may be one of which only its killed writer knew that it did not happen.
    if (!done && !(erases && done.error().code == Code::not_found))
      return fault((erases ? "erase " : "put ") + text, done.error()) == 0;
    row.told = write;
    return true;
  }

  // One more, if nobody else was quicker.
  bool raise(unsigned counter) {
    Table& table = tables_.at("orders");
    const std::string text = Ledger::counter_text(counter);
    const auto found = table.get(text, value_);
    if (!found && found.error().code != Code::not_found && found.error().code != Code::contended)
      return fault("get " + text, found.error()) == 0;
    if (!found && found.error().code == Code::contended) return true;
    std::uint32_t count = 0;
    if (found) {
      const auto was = Ledger::count_of(counter, value_);
      if (!was) return fault(text + ": a value that is not its own") == 0;
      count = *was;
    }
    Ledger::make_count(counter, count + 1, value_);
    const auto raised = timed(post_.longest_write_ns,
                              [&] { return table.put_if_version(text, value_, found ? found->version : 0); });
    if (raised) {
      ledger_.told_count(counter, count + 1);
    } else if (raised.error().code == Code::contended) {
      ++post_.contended;
    } else if (raised.error().code != Code::version_mismatch) {
      return fault("raise " + text, raised.error()) == 0;
    }
    return true;
  }

  bool read_something() {
    const auto dice = static_cast<unsigned>(random_() % 2048);
    if (dice == 0) return scan(random_() % 2 == 0 ? "orders" : "accounts");
    if (dice < 128) return read_count(dice % Ledger::counters);
    return read(dice % Ledger::writers, static_cast<unsigned>(random_() % Ledger::keys));
  }

  bool read(unsigned writer, unsigned key) {
    const Ledger::Row& row = ledger_.row(writer, key);
    const std::uint32_t told = row.told;
    const auto found = timed(post_.longest_read_ns, [&] {
      return tables_.at(region_of(writer)).get(Ledger::key_text(writer, key), value_);
    });
    if (!found && found.error().code == Code::contended) {
      ++post_.contended;
      return true;
    }
    if (!found && found.error().code != Code::not_found)
      return fault("get " + Ledger::key_text(writer, key), found.error()) == 0;
    const std::string wrong = Ledger::wrong(
        writer, key, found ? std::optional<std::string_view>(value_) : std::nullopt, told, row.begun);
    return wrong.empty() || fault(wrong) == 0;
  }

  bool read_count(unsigned counter) {
    const std::uint32_t least = ledger_.count(counter);
    const std::string text = Ledger::counter_text(counter);
    const auto found = timed(post_.longest_read_ns, [&] { return tables_.at("orders").get(text, value_); });
    if (!found && found.error().code == Code::contended) return true;
    if (!found && (found.error().code != Code::not_found || least != 0))
      return fault("get " + text, found.error()) == 0;
    if (!found) return true;
    const auto count = Ledger::count_of(counter, value_);
    if (!count || *count < least)
      return fault(fmt::format("{} is {}, and {} was acknowledged", text, count.value_or(0), least)) == 0;
    return true;
  }

  // A whole scan: what was there before it began and never goes must come, and what comes must be right.
  bool scan(const std::string& region) {
    std::map<std::string, std::pair<std::uint32_t, bool>> rows;  // told before; whether it came
    std::map<std::string, std::pair<unsigned, unsigned>> names;
    for (unsigned writer = 0; writer < Ledger::writers; ++writer)
      for (unsigned key = 0; region_of(writer) == region && key < Ledger::keys; ++key) {
        rows[Ledger::key_text(writer, key)] = {ledger_.row(writer, key).told, false};
        names[Ledger::key_text(writer, key)] = {writer, key};
      }
    table::Cursor cursor;
    while (!cursor.done) {
      std::vector<table::Item> items;
      const Status scanned =
          timed(post_.longest_read_ns, [&] { return tables_.at(region).scan(cursor, 64, items); });
      if (!scanned && scanned.error().code == Code::contended) {
        ++post_.contended;
        return true;
      }
      if (!scanned) return fault("scan of " + region, scanned.error()) == 0;
      for (const table::Item& item : items) {
        if (item.key.starts_with("counter")) continue;
        const auto name = names.find(item.key);
        if (name == names.end()) return fault("scan found a key that nobody wrote: " + item.key) == 0;
        const auto [writer, key] = name->second;
        auto& [told, came] = rows[item.key];
        came = true;
        const std::string wrong =
            Ledger::wrong(writer, key, item.value, told, ledger_.row(writer, key).begun);
        if (!wrong.empty()) return fault("scan: " + wrong) == 0;
      }
    }
    for (const auto& [text, row] : rows)
      if (row.first != 0 && !row.second && !Ledger::may_be_erased(names.at(text).second))
        return fault("scan left out " + text) == 0;
    ++post_.scans;
    return true;
  }

  const Ledger& ledger_;
  Post& post_;
  unsigned number_;
  std::mt19937_64 random_;
  std::map<std::string, Table> tables_;
  std::string value_;
};

}  // namespace bailey::e2e
