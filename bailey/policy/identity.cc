#include "bailey/policy/identity.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <vector>

#include "bailey/base/fd.h"
#include "bailey/policy/diagnostic.h"
#include "bailey/policy/suggest.h"

namespace bailey::policy {
namespace {

constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::size_t key_text_bytes = 44;
constexpr std::size_t key_file_bytes_max = 4096;
constexpr std::size_t account_bytes_max = 1 << 20;
const std::string kind_names[] = {"user", "group", "key"};

std::unexpected<Error> refuse(std::string message, std::string remedy = {}) {
  return fail(Code::invalid_argument, By::library, std::move(message), std::move(remedy));
}

// getpwnam_r and getgrnam_r alike: the buffer grows until the entry fits, up to a bound.
template <class Entry, class Call>
Result<Entry> account(std::string_view what, const std::string& name, Call&& call) {
  std::vector<char> buffer(4096);
  for (;;) {
    Entry entry{};
    Entry* found = nullptr;
    int error = call(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (error == EINTR) continue;
    if (error == ERANGE && buffer.size() < account_bytes_max) {
      buffer.resize(buffer.size() * 2);
      continue;
    }
    if (error == 0 && found != nullptr) return entry;
    // The manual lists these as ways to say "no such name".
    if (error == 0 || error == ENOENT || error == ESRCH)
      return fail(Code::not_found, By::kernel, fmt::format("this machine has no {} {}", what, quote(name)));
    return fail_os(error, fmt::format("could not look up the {} {}", what, quote(name)));
  }
}

Result<KeyFile> read_key_file(const std::string& path) {
  // Opening a pipe or a terminal must neither block nor take it over.
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) return fail_os(errno, fmt::format("could not open the key file {}", quote(path)));
  struct stat about;
  if (::fstat(fd.get(), &about) != 0)
    return fail_os(errno, fmt::format("could not ask about the key file {}", quote(path)));
  if (!S_ISREG(about.st_mode)) return refuse(fmt::format("the key file {} is no regular file", quote(path)));
  KeyFile file;
  file.writable_by_all = (about.st_mode & S_IWOTH) != 0;
  char part[key_file_bytes_max + 1];
  std::size_t filled = 0;
  while (filled < sizeof part) {
    ssize_t got = ::read(fd.get(), part + filled, sizeof part - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_os(errno, fmt::format("could not read the key file {}", quote(path)));
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  if (filled > key_file_bytes_max)
    return refuse(fmt::format("the key file {} has more than {} bytes", quote(path), key_file_bytes_max));
  file.text.assign(part, filled);
  return file;
}

Result<ParsedIdentity> parse_account(Identity::Kind kind, std::string_view who, const Lookups& lookups) {
  bool is_user = kind == Identity::Kind::user;
  std::string_view what = is_user ? "user" : "group";
  if (who.empty())
    return refuse(fmt::format("\"{}:\" names nobody", what), fmt::format("such as \"{}:1000\"", what));
  if (who[0] == '-') return refuse(fmt::format("the {} number {} is negative", what, quote(who)));
  ParsedIdentity parsed;
  parsed.identity.kind = kind;
  if (who[0] >= '0' && who[0] <= '9') {
    std::uint32_t id = 0;
    auto [end, error] = std::from_chars(who.data(), who.data() + who.size(), id);
    // 2^32 - 1 is (uid_t)-1, which the kernel uses for "nobody given".
    if (error != std::errc() || end != who.data() + who.size() || id == UINT32_MAX)
      return refuse(fmt::format("{} is no {} number", quote(who), what), "numbers go from 0 to 4294967294");
    parsed.identity.id = id;
    return parsed;
  }
  if (who.size() > 256 || who.find('\0') != std::string_view::npos)
    return refuse(fmt::format("{} is no {} name", quote(who), what));
  auto id = is_user ? lookups.user(std::string(who)) : lookups.group(std::string(who));
  if (!id) {
    Error error = std::move(id).error();
    if (error.code == Code::not_found)
      error.remedy = fmt::format("create the {0}, or write its number, \"{0}:NUMBER\"", what);
    return std::unexpected(std::move(error));
  }
  parsed.identity.id = *id;
  return parsed;
}

Result<ParsedIdentity> parse_key(std::string_view where, const std::string& folder, const Lookups& lookups) {
  ParsedIdentity parsed;
  parsed.identity.kind = Identity::Kind::key;
  if (!where.starts_with('@')) {
    parsed.identity.key = BAILEY_TRY(parse_public_key(where));
    return parsed;
  }
  std::string file(where.substr(1));
  if (file.empty()) return refuse("\"key:@\" names no file", "such as \"key:@alice.pub\"");
  if (file.find('\0') != std::string::npos) return refuse("the key file's name has a zero byte");
  std::string path = file[0] == '/' || folder.empty() ? file : folder + "/" + file;
  auto read = lookups.key_file(path);
  if (!read) {
    Error error = std::move(read).error();
    if (error.os != 0) error.remedy = "`bailey principal add` makes a key pair";
    return std::unexpected(std::move(error));
  }
  std::string_view text = read->text;
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
  auto key = parse_public_key(text);
  if (!key) {
    Error error = std::move(key).error();
    error.message = fmt::format("the key file {}: {}", quote(path), error.message);
    return std::unexpected(std::move(error));
  }
  parsed.identity.key = *key;
  if (read->writable_by_all)
    parsed.warning = fmt::format(
        "the key file {} can be written by everybody, who can so become this principal", quote(path));
  return parsed;
}

}  // namespace

std::string Identity::to_string() const {
  if (kind == Kind::key) return "key:" + public_key_text(key);
  return fmt::format("{}:{}", kind == Kind::user ? "user" : "group", id);
}

Lookups Lookups::of_system() {
  return {
      [](const std::string& name) -> Result<std::uint32_t> {
        auto entry = account<passwd>("user", name, [](auto... rest) { return ::getpwnam_r(rest...); });
        if (!entry) return std::unexpected(std::move(entry).error());
        return entry->pw_uid;
      },
      [](const std::string& name) -> Result<std::uint32_t> {
        auto entry = account<::group>("group", name, [](auto... rest) { return ::getgrnam_r(rest...); });
        if (!entry) return std::unexpected(std::move(entry).error());
        return entry->gr_gid;
      },
      read_key_file,
  };
}

Result<ParsedIdentity> parse_identity(std::string_view text, const std::string& folder,
                                      const Lookups& lookups) {
  std::size_t colon = text.find(':');
  std::string_view kind = text.substr(0, colon);
  if (colon == std::string_view::npos) {
    bool number =
        !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
    bool word = !text.empty() && text.size() <= 32;
    return refuse(fmt::format("the identity {} has no kind", quote(text)),
                  number || word ? fmt::format("did you mean {}?", quote(fmt::format("user:{}", text)))
                                 : "an identity is user:WHO, group:WHO or key:BASE64");
  }
  std::string_view who = text.substr(colon + 1);
  if (kind == "user") return parse_account(Identity::Kind::user, who, lookups);
  if (kind == "group") return parse_account(Identity::Kind::group, who, lookups);
  if (kind == "key") return parse_key(who, folder, lookups);
  return refuse(fmt::format("the identity {} has an unknown kind", quote(text)),
                suggestion(kind, kind_names));
}

Result<PublicKey> parse_public_key(std::string_view base64) {
  if (base64.size() == 88)
    return refuse("the key has 64 bytes, a public key has 32", "is it the private key? keep that one secret");
  if (base64.size() != key_text_bytes || base64.back() != '=')
    return refuse(fmt::format("a public key is {} characters of base64 that end in \"=\"; this one has {}",
                              key_text_bytes, base64.size()));
  PublicKey key{};
  std::uint32_t bits = 0;
  unsigned held = 0;
  std::size_t filled = 0;
  for (char c : base64.substr(0, key_text_bytes - 1)) {
    std::size_t value = alphabet.find(c);
    if (value == std::string_view::npos)
      return refuse(fmt::format("the key has {}, which is not base64", quote(std::string_view(&c, 1))));
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    key[filled++] = static_cast<std::uint8_t>(bits >> held);
    bits &= (1u << held) - 1;
  }
  // 43 characters carry 258 bits; the two left over must be 0, or one key would have four texts.
  if (bits != 0) return refuse("the key's last character is not canonical base64");
  if (key == PublicKey{}) return refuse("the key is all zeros, which everybody can sign for");
  return key;
}

std::string public_key_text(const PublicKey& key) {
  std::string text;
  for (std::size_t at = 0; at < key.size(); at += 3) {
    std::uint32_t bits = 0;
    std::size_t count = std::min<std::size_t>(3, key.size() - at);
    for (std::size_t i = 0; i < 3; ++i) bits = bits << 8 | (i < count ? key[at + i] : 0u);
    for (std::size_t i = 0; i < 4; ++i) text += i <= count ? alphabet[bits >> (18 - 6 * i) & 63] : '=';
  }
  return text;
}

}  // namespace bailey::policy
