// `bailey table`: single reads and writes, and scans.
#include "bailey/table/table.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>

#include "bailey/base/fd.h"
#include "tools/bailey/command.h"
#include "tools/bailey/token.h"

namespace bailey::tools {
namespace {

constexpr std::size_t scan_items_a_call = 256;

struct Options {
  Reach reach;
  std::string table;
  std::string token;
  std::string key;
  std::string value;
  std::string file;
  bool from_stdin = false;
  bool insert = false;
  bool update = false;
  std::optional<std::uint64_t> if_version;
  std::uint64_t limit = 0;
  bool json = false;
};

Result<std::string> read_stdin() {
  std::string text;
  char buffer[65536];
  for (;;) {
    const ssize_t got = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_os(errno, "could not read standard input");
    if (got == 0) return text;
    text.append(buffer, static_cast<std::size_t>(got));
    if (text.size() > table::value_bytes_max)
      return fail(Code::too_large, By::library,
                  fmt::format("standard input has more than the {} bytes that a value can have",
                              table::value_bytes_max));
  }
}

Result<std::string> value_of(const Options& options) {
  if (options.from_stdin) return read_stdin();
  if (!options.file.empty()) return read_file(options.file, table::value_bytes_max);
  return options.value;
}

Result<Table> open(Session& session, const Options& options, Access access) {
  const std::optional<Token> token = BAILEY_TRY(read_token_if(options.token));
  return session.open_table(options.table, access, token ? &*token : nullptr);
}

Error with_key(Error error, const Options& options, std::string_view what) {
  // Errors of hot paths carry no text.
  if (error.message.empty())
    error.message = fmt::format("{} of key \"{}\" in {}: {}", what, printable(options.key.substr(0, 80)),
                                options.table, name(error.code));
  return error;
}

Status put(const Options& options) {
  const std::string value = BAILEY_TRY(value_of(options));
  Session session = BAILEY_TRY(options.reach.connect());
  Table table = BAILEY_TRY(open(session, options, Access::read_write));
  const Result<std::uint64_t> version = options.if_version
                                            ? table.put_if_version(options.key, value, *options.if_version)
                                        : options.insert ? table.insert(options.key, value)
                                        : options.update ? table.update(options.key, value)
                                                         : table.put(options.key, value);
  if (!version) return std::unexpected(with_key(version.error(), options, "put"));
  if (options.json) fmt::print("{}\n", nlohmann::json{{"version", *version}}.dump());
  return {};
}

Status write_bytes(std::FILE* file, std::string_view bytes, const std::string& where) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size() || std::fflush(file) != 0)
    return fail_os(errno, fmt::format("could not write the value to {}", where));
  return {};
}

Status get(const Options& options) {
  Session session = BAILEY_TRY(options.reach.connect());
  Table table = BAILEY_TRY(open(session, options, Access::read_only));
  std::string value;
  const Result<table::Found> found = table.get(options.key, value);
  if (!found) return std::unexpected(with_key(found.error(), options, "get"));
  if (options.json) {
    nlohmann::json row{{"version", found->version}};
    set_bytes(row, "key", options.key);
    set_bytes(row, "value", value);
    fmt::print("{}\n", row.dump());
    return {};
  }
  if (options.file.empty()) {
    // The bytes and nothing else, but for a person's terminal.
    if (::isatty(STDOUT_FILENO) != 0) value += '\n';
    return write_bytes(stdout, value, "standard output");
  }
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(options.file.c_str(), "wbe"),
                                                             std::fclose);
  if (!file) return fail_os(errno, fmt::format("could not open {}", options.file));
  return write_bytes(file.get(), value, options.file);
}

Status erase(const Options& options) {
  Session session = BAILEY_TRY(options.reach.connect());
  Table table = BAILEY_TRY(open(session, options, Access::read_write));
  const Status erased = table.erase(options.key);
  if (!erased) return std::unexpected(with_key(erased.error(), options, "del"));
  return {};
}

Status scan(const Options& options) {
  Session session = BAILEY_TRY(options.reach.connect());
  Table table = BAILEY_TRY(open(session, options, Access::read_only));
  table::Cursor cursor;
  std::vector<table::Item> items;
  for (std::uint64_t left = options.limit == 0 ? ~std::uint64_t{0} : options.limit;
       left > 0 && !cursor.done;) {
    items.clear();
    BAILEY_TRY(table.scan(cursor, static_cast<std::size_t>(std::min<std::uint64_t>(left, scan_items_a_call)),
                          items));
    for (const table::Item& item : items) {
      if (left == 0) break;
      --left;
      if (options.json) {
        nlohmann::json row{{"version", item.version}};
        set_bytes(row, "key", item.key);
        set_bytes(row, "value", item.value);
        fmt::print("{}\n", row.dump());
      } else {
        fmt::print("{}\t{}\n", printable(item.key), printable(item.value));
      }
    }
  }
  return {};
}

CLI::App* add_one(CLI::App* table, const char* name, const char* about,
                  const std::shared_ptr<Options>& options, bool key) {
  CLI::App* command = table->add_subcommand(name, about);
  command->add_option("TABLE", options->table, "the region")->required();
  if (key) command->add_option("KEY", options->key, "any bytes, up to 4096")->required();
  add_token_option(command, options->token);
  add_reach_options(command, options->reach);
  return command;
}

}  // namespace

void add_table(CLI::App& app, int& status) {
  CLI::App* table = app.add_subcommand("table", "read and write a table");
  table->require_subcommand(1);

  auto options = std::make_shared<Options>();
  CLI::App* command = add_one(table, "put",
                              "Stores a value under a key.\n\n"
                              "Example:\n"
                              "  bailey table put orders 4711 'two chairs'\n"
                              "  bailey table put orders photo --file photo.jpg --as keys/alice\n"
                              "  date | bailey table put orders now --stdin",
                              options, true);
  CLI::Option_group* from = command->add_option_group("value", "where the value comes from");
  from->add_option("VALUE", options->value, "the value itself");
  from->add_option("--file", options->file, "the whole of this file, up to 16 MiB")->type_name("FILE");
  from->add_flag("--stdin", options->from_stdin, "all of standard input");
  from->require_option(1);
  CLI::Option_group* how = command->add_option_group("how", "on what condition");
  how->add_flag("--insert", options->insert, "only where the key is not there");
  how->add_flag("--update", options->update, "only where the key is there");
  how->add_option("--if-version", options->if_version,
                  "only where the record has this version; 0: is not there")
      ->type_name("N");
  how->require_option(0, 1);
  command->add_flag("--json", options->json, "print the new version");
  on_run(command, status, [options] { return told(put(*options)); });

  options = std::make_shared<Options>();
  command =
      add_one(table, "get",
              "Prints the value of a key: its bytes and nothing else, on a terminal an end of line too.\n\n"
              "Example:\n"
              "  bailey table get orders 4711\n"
              "  bailey table get orders photo --file photo.jpg",
              options, true);
  command->add_option("--file", options->file, "write it here")->type_name("FILE");
  command->add_flag("--json", options->json, "key, value and version; what is not UTF-8 as base64");
  on_run(command, status, [options] { return told(get(*options)); });

  options = std::make_shared<Options>();
  command = add_one(table, "del",
                    "Removes a key; it is an error where the key is not there.\n\n"
                    "Example:\n"
                    "  bailey table del orders 4711",
                    options, true);
  on_run(command, status, [options] { return told(erase(*options)); });

  options = std::make_shared<Options>();
  command = add_one(
      table, "scan",
      "Prints keys and values, one record a line, in no order: KEY, a tab, VALUE, with \\xNN for what is\n"
      "not printable. Each key that is there throughout comes at least once.\n\n"
      "Example:\n"
      "  bailey table scan orders --limit 10",
      options, false);
  command->add_option("--limit", options->limit, "at most so many (all)")
      ->check(CLI::Validator(CLI::PositiveNumber).description(""))
      ->type_name("N");
  command->add_flag("--json", options->json, "one JSON object a line; what is not UTF-8 as base64");
  on_run(command, status, [options] { return told(scan(*options)); });
}

}  // namespace bailey::tools
