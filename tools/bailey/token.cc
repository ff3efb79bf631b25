// `bailey token`: grants that can be carried, and narrowed by whoever carries them.
#include "tools/bailey/token.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <memory>

#include "bailey/base/clock.h"
#include "bailey/crypto/secret.h"
#include "tools/bailey/command.h"

namespace bailey::tools {
namespace {

// Text of the longest token, with room to see that one is too long.
constexpr std::size_t text_bytes_max = 1024;

struct Options {
  Reach reach;
  std::string token = "-";
  std::string out;
  std::string region, rights = "r", holder, in, until, id;
  bool bearer = false;
  std::string offset, length, prefix;
  std::string narrower_rights;
  bool json = false;
};

Result<Access> access_of(const std::string& rights) {
  if (rights == "r") return Access::read_only;
  if (rights == "rw") return Access::read_write;
  return fail(Code::invalid_argument, By::library,
              fmt::format("\"{}\" is no rights of a token", printable(rights)), "use r or rw");
}

// "90s", "15m", "12h", "7d" from now on; or a second since 1970.
Result<std::uint64_t> moment(const std::string& in, const std::string& until) {
  auto wrong = [](const std::string& text) {
    return fail(Code::invalid_argument, By::library, fmt::format("\"{}\" is no time", printable(text)),
                "use --in with a number and s, m, h or d, such as 15m, or --until with seconds since 1970");
  };
  const std::string& text = until.empty() ? in : until;
  std::uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (error != std::errc{}) return wrong(text);
  if (!until.empty()) return unit.empty() ? Result<std::uint64_t>(number) : wrong(text);
  std::uint64_t seconds = unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : unit == "d" ? 86400 : 0;
  constexpr std::uint64_t number_max = 1'000'000;
  if (seconds == 0 || number == 0 || number > number_max) return wrong(text);
  return wall_ns() / 1'000'000'000 + number * seconds;
}

// A token is a secret: to a file of mode 0600 that was not there, or to standard output, which is a pipe more
// often than not.
Status write_token(const Token& token, const std::string& path) {
  std::string text = token.text() + "\n";
  Status written;
  if (path.empty()) {
    fmt::print("{}", text);
  } else {
    Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file)
      written = fail_os(errno, fmt::format("could not make the file {}", path),
                        "nothing is overwritten: name another");
    else if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
      written = fail_os(errno, fmt::format("could not write the token into {}", path));
  }
  crypto::wipe(std::as_writable_bytes(std::span(text)));
  return written;
}

Status mint(const Options& options) {
  if (options.bearer == !options.holder.empty())
    return fail(Code::invalid_argument, By::library, "a token is for a holder or for the bearer",
                "give --holder PRINCIPAL, or --bearer for whoever has it");
  Session::Mint mint{BAILEY_TRY(access_of(options.rights)), options.holder, 0};
  if (!options.in.empty() || !options.until.empty())
    mint.expires = BAILEY_TRY(moment(options.in, options.until));
  Session session = BAILEY_TRY(options.reach.connect());
  return write_token(BAILEY_TRY(session.mint_token(options.region, mint)), options.out);
}

Status narrow(const Options& options) {
  Token token = BAILEY_TRY(read_token(options.token));
  std::size_t before = token.caveats();
  if (!options.narrower_rights.empty())
    token = BAILEY_TRY(token.narrow(capability::Rights{BAILEY_TRY(access_of(options.narrower_rights))}));
  if (!options.in.empty() || !options.until.empty())
    token = BAILEY_TRY(token.narrow(capability::Expiry{BAILEY_TRY(moment(options.in, options.until))}));
  if (!options.holder.empty()) token = BAILEY_TRY(token.narrow(capability::Holder{options.holder}));
  if (!options.prefix.empty()) token = BAILEY_TRY(token.narrow(capability::Prefix{options.prefix}));
  if (options.offset.empty() != options.length.empty())
    return fail(Code::invalid_argument, By::library, "a range has an offset and a length", "give both");
  if (!options.offset.empty()) {
    capability::Range range;
    for (auto [text, number] :
         {std::pair(&options.offset, &range.offset), std::pair(&options.length, &range.length)}) {
      auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), *number);
      if (error != std::errc{} || end != text->data() + text->size())
        return fail(Code::invalid_argument, By::library,
                    fmt::format("\"{}\" is no number of bytes", printable(*text)), "use digits alone");
    }
    token = BAILEY_TRY(token.narrow(range));
  }
  if (token.caveats() == before)
    return fail(Code::invalid_argument, By::library, "nothing was said that narrows the token",
                "give --rights, --in, --until, --holder, --prefix, or --offset and --length");
  return write_token(token, options.out);
}

Status inspect(const Options& options) {
  const Token token = BAILEY_TRY(read_token(options.token));
  const capability::Head head = token.head();
  nlohmann::json caveats = nlohmann::json::array();
  for (std::size_t i = 0; i < token.caveats(); ++i) caveats.push_back(capability::to_string(token.caveat(i)));
  const char* audience = head.audience == capability::Audience::broker ? "the broker" : "a session";
  const char* rights = head.access == Access::read_write ? "rw" : "r";
  if (options.json) {
    fmt::print("{}\n", nlohmann::json{{"id", capability::to_string(head.id)},
                                      {"audience", audience},
                                      {"pool", capability::to_string(head.pool)},
                                      {"region", capability::to_string(head.region)},
                                      {"rights", rights},
                                      {"bearer", head.bearer},
                                      {"caveats", caveats}}
                           .dump(2));
    return {};
  }
  fmt::print("id        {}\naudience  {}\npool      {}\nregion    {}\nrights    {}\nholder    {}\n",
             capability::to_string(head.id), audience, capability::to_string(head.pool),
             capability::to_string(head.region), rights, head.bearer ? "the bearer" : "as its caveats say");
  for (const nlohmann::json& caveat : caveats) fmt::print("caveat    {}\n", caveat.get<std::string>());
  fmt::print("This is what it says. Whether it holds `bailey token verify` asks the broker.\n");
  return {};
}

Status verify(const Options& options) {
  const Token token = BAILEY_TRY(read_token(options.token));
  Session session = BAILEY_TRY(options.reach.connect());
  fmt::print("{}", BAILEY_TRY(session.verify_token(token)));
  return {};
}

Status revoke(const Options& options) {
  const capability::Id id = options.id.empty() ? BAILEY_TRY(read_token(options.token)).id()
                                               : BAILEY_TRY(capability::parse_id(options.id));
  Session session = BAILEY_TRY(options.reach.connect());
  fmt::print("{}", BAILEY_TRY(session.revoke_token(id)));
  return {};
}

void add_times(CLI::App* command, Options& options) {
  auto* in = command->add_option("--in", options.in, "how long it holds from now on: 90s, 15m, 12h, 7d")
                 ->type_name("TIME");
  command->add_option("--until", options.until, "the second since 1970 from which on it holds no more")
      ->type_name("SECOND")
      ->excludes(in);
}
void add_out(CLI::App* command, Options& options) {
  command->add_option("--out", options.out, "a new file for it, mode 0600; else it goes to standard output")
      ->type_name("FILE");
}
// Whoever reads the file of a token has the token. A pipe that has a name is its maker's to look after.
Status check_mode(const std::string& path) {
  struct stat about{};
  if (::stat(path.c_str(), &about) != 0 || !S_ISREG(about.st_mode) || (about.st_mode & 077) == 0) return {};
  return fail(Code::denied, By::library,
              fmt::format("the token {} has mode {:04o}: others than its owner can use it", path,
                          about.st_mode & 07777),
              fmt::format("chmod 600 {}; if others may have read it, revoke it and mint another", path));
}

void add_file(CLI::App* command, Options& options) {
  command->add_option("FILE", options.token, "a file with the token; - (the default) is standard input");
}

}  // namespace

Result<Token> read_token(const std::string& path) {
  std::string text;
  if (path == "-") {
    char byte;
    for (ssize_t got; text.size() <= text_bytes_max && (got = ::read(STDIN_FILENO, &byte, 1)) != 0;) {
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return fail_os(errno, "could not read a token from standard input");
      text += byte;
    }
  } else {
    BAILEY_TRY(check_mode(path));
    text = BAILEY_TRY(read_file(path, text_bytes_max));
  }
  if (text.ends_with('\n')) text.pop_back();
  auto token = Token::from_text(text);
  crypto::wipe(std::as_writable_bytes(std::span(text)));
  if (!token)
    return fail(
        token.error().code, token.error().by,
        fmt::format("{} holds no token: {}", path == "-" ? "standard input" : path, token.error().message),
        "a token is one line of base64, as `bailey token mint` writes it");
  return token;
}

Result<std::optional<Token>> read_token_if(const std::string& path) {
  if (path.empty()) return std::optional<Token>();
  return std::optional<Token>(BAILEY_TRY(read_token(path)));
}

void add_token_option(CLI::App* command, std::string& path) {
  command
      ->add_option("--token", path,
                   "act with the token in this file (- is standard input) and with no other right")
      ->type_name("FILE");
}

void add_token(CLI::App& app, int& status) {
  CLI::App* token =
      app.add_subcommand("token", "tokens: grants that can be carried, and narrowed by whoever has them");
  token->require_subcommand(1);

  auto options = std::make_shared<Options>();
  CLI::App* command = token->add_subcommand(
      "mint",
      "Has the broker mint a token for a region: for who has a grant of admin on it, and for the policy's\n"
      "admins (by default root and the broker's user, under whatever name).\n\n"
      "It is for one principal (--holder), whatever other grants that has, or for whoever has it\n"
      "(--bearer). A token is a secret: it goes to a file or a pipe, and is never an argument.\n"
      "Example:\n"
      "  bailey token mint orders --rights r --holder bob --in 12h --out orders.token\n"
      "  bailey table get --as keys/bob --token orders.token orders some-key");
  command->add_option("REGION", options->region, "the region's name")->required();
  command->add_option("--rights", options->rights, "r (the default) or rw")->type_name("RIGHTS");
  command->add_option("--holder", options->holder, "the principal that may use it")->type_name("PRINCIPAL");
  command->add_flag("--bearer", options->bearer, "whoever has it may use it");
  add_times(command, *options);
  add_out(command, *options);
  add_reach_options(command, options->reach);
  on_run(command, status, [options] { return told(mint(*options)); });

  options = std::make_shared<Options>();
  command =
      token->add_subcommand("narrow",
                            "Makes a token that allows less. No broker is asked, and nobody can undo it.\n\n"
                            "All that a token says must hold: narrowing it twice gives what both allow.\n"
                            "Example:\n"
                            "  bailey token narrow orders.token --rights r --in 15m --out less.token");
  add_file(command, *options);
  command->add_option("--rights", options->narrower_rights, "r")->type_name("RIGHTS");
  command->add_option("--holder", options->holder, "only for this principal")->type_name("PRINCIPAL");
  command->add_option("--prefix", options->prefix, "of a table: only keys that begin so")->type_name("TEXT");
  command->add_option("--offset", options->offset, "of a raw region: only bytes from here on")
      ->type_name("BYTES");
  command->add_option("--length", options->length, "and so many of them")->type_name("BYTES");
  add_times(command, *options);
  add_out(command, *options);
  on_run(command, status, [options] { return told(narrow(*options)); });

  options = std::make_shared<Options>();
  command = token->add_subcommand("inspect",
                                  "Prints what a token says, without asking whether it is true.\n\n"
                                  "Example:\n"
                                  "  bailey token inspect orders.token");
  add_file(command, *options);
  command->add_flag("--json", options->json, "for machines");
  on_run(command, status, [options] { return told(inspect(*options)); });

  options = std::make_shared<Options>();
  command = token->add_subcommand("verify",
                                  "Asks the broker whether you could use a token now, and for what.\n\n"
                                  "Example:\n"
                                  "  bailey token verify --as keys/bob orders.token");
  add_file(command, *options);
  add_reach_options(command, options->reach);
  on_run(command, status, [options] { return told(verify(*options)); });

  options = std::make_shared<Options>();
  command = token->add_subcommand(
      "revoke",
      "Takes a token back with all that was narrowed from it: for who may mint it.\n\n"
      "Returns when every session that used it has heard, or was cut off. Whoever was given\n"
      "files with it keeps the old bytes; nothing that is written from then on is in them.\n"
      "Example:\n"
      "  bailey token revoke orders.token\n"
      "  bailey token revoke --id 00112233445566778899aabbccddeeff");
  add_file(command, *options);
  command->add_option("--id", options->id, "its id, where the token is not at hand")->type_name("ID");
  add_reach_options(command, options->reach);
  on_run(command, status, [options] { return told(revoke(*options)); });
}

}  // namespace bailey::tools
