#include "bailey/crypto/key_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "bailey/base/fd.h"
#include "bailey/crypto/base64.h"

namespace bailey::crypto {
namespace {

constexpr std::string_view secret_label = "bailey-secret-key-1 ";
constexpr std::size_t seed_text_bytes = 44;
constexpr std::size_t file_bytes_max = 256;

// Writes next to `path` and links it there: link() refuses where something is, so that a file is whole or
// absent, and never replaces another.
Status write_new_file(const std::string& path, Bytes content, mode_t mode) {
  std::string unfinished = fmt::format("{}.{}.new", path, ::getpid());
  Fd file(::open(unfinished.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!file) return fail_os(errno, fmt::format("could not create {}", unfinished));
  auto give_up = [&](int os, const char* what) {
    ::unlink(unfinished.c_str());
    return fail_os(os, fmt::format("could not {} {}", what, path));
  };
  // The umask may have taken bits away that a public file needs.
  if (::fchmod(file.get(), mode) != 0) return give_up(errno, "set the mode of");
  std::size_t at = 0;
  while (at < content.size()) {
    ssize_t wrote = ::write(file.get(), content.data() + at, content.size() - at);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return give_up(wrote < 0 ? errno : EIO, "write");
    at += static_cast<std::size_t>(wrote);
  }
  if (::fsync(file.get()) != 0) return give_up(errno, "write to disk:");
  if (::link(unfinished.c_str(), path.c_str()) != 0) {
    int os = errno;
    ::unlink(unfinished.c_str());
    if (os == EEXIST)
      return fail(Code::exists, By::library, fmt::format("{} is there; a key is never overwritten", path),
                  "choose another name, or move the old key away");
    return fail_os(os, fmt::format("could not create {}", path));
  }
  ::unlink(unfinished.c_str());
  std::size_t slash = path.rfind('/');
  std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  Fd folder_fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder_fd || ::fsync(folder_fd.get()) != 0)
    return fail_os(errno, fmt::format("{} is written, but its folder's entry may not be on disk", path));
  return {};
}

// The first line of an open small file into `out`; the number of bytes that it has, without its end.
Result<std::size_t> read_line(int fd, const std::string& path, MutableBytes out) {
  std::size_t length = 0;
  for (;;) {
    ssize_t got = ::read(fd, out.data() + length, out.size() - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_os(errno, fmt::format("could not read {}", path));
    if (got == 0) break;
    length += static_cast<std::size_t>(got);
    if (length == out.size())
      return fail(Code::corrupt, By::library,
                  fmt::format("{} is not a key file: it is longer than {} bytes", path, out.size() - 1));
  }
  if (length > 0 && out[length - 1] == std::byte{'\n'}) --length;
  return length;
}

}  // namespace

std::string public_key_text(const PublicKey& key) { return base64(std::as_bytes(std::span(key))); }

Result<PublicKey> parse_public_key(std::string_view text) {
  auto bytes = from_base64(text, sizeof(PublicKey));
  if (!bytes || bytes->size() != sizeof(PublicKey))
    return fail(Code::invalid_argument, By::library, "a public key is the base64 of 32 bytes: 44 characters",
                "copy the line of the .pub file that was made with the key");
  PublicKey key;
  std::memcpy(key.data(), bytes->data(), key.size());
  return key;
}

Status write_secret_key(const std::string& path, const SecretKey& key) {
  Secret seed = BAILEY_TRY(key.seed());
  Secret line = BAILEY_TRY(Secret::of_bytes(secret_label.size() + seed_text_bytes + 1));
  std::string text = base64(seed.span());
  std::memcpy(line.span().data(), secret_label.data(), secret_label.size());
  std::memcpy(line.span().data() + secret_label.size(), text.data(), seed_text_bytes);
  line.span().back() = std::byte{'\n'};
  wipe({reinterpret_cast<std::byte*>(text.data()), text.size()});
  return write_new_file(path, line.span(), 0600);
}

Result<SecretKey> read_secret_key(const std::string& path) {
  // O_NONBLOCK: a pipe put there must not hold us up. What is checked below is the opened file itself.
  Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file && errno == ELOOP)
    return fail(Code::denied, By::library,
                fmt::format("{} is a symbolic link, which a secret key may not be", path),
                "name the file itself");
  if (!file) return fail_os(errno, fmt::format("could not open the secret key {}", path));
  struct stat about;
  if (::fstat(file.get(), &about) != 0) return fail_os(errno, fmt::format("could not look at {}", path));
  if (!S_ISREG(about.st_mode))
    return fail(Code::corrupt, By::library, fmt::format("{} is not a regular file", path));
  Secret line = BAILEY_TRY(Secret::of_bytes(file_bytes_max));
  std::size_t length = BAILEY_TRY(read_line(file.get(), path, line.span()));
  std::string_view text = as_text(Bytes(line.span()).first(length));
  // Before its mode is judged: of a file that is no key nobody should change the mode.
  if (!text.starts_with(secret_label))
    return fail(Code::corrupt, By::library, fmt::format("{} is not a secret key file", path),
                path.ends_with(".pub") ? fmt::format("name {} instead", path.substr(0, path.size() - 4))
                                       : "it is one line: bailey-secret-key-1 and 44 characters of base64");
  if (about.st_uid != ::geteuid() && about.st_uid != 0)
    return fail(
        Code::denied, By::library,
        fmt::format("the secret key {} belongs to uid {}, who could read and replace it", path, about.st_uid),
        fmt::format("make it your own: chown {} {}", ::geteuid(), path));
  if ((about.st_mode & 077) != 0)
    return fail(Code::denied, By::library,
                fmt::format("the secret key {} has mode {:04o}: others than its owner can use it", path,
                            about.st_mode & 07777),
                fmt::format("if nobody else had it: chmod 600 {}; else make a new key", path));
  Secret seed = BAILEY_TRY(Secret::of_bytes(seed_bytes));
  bool good = text.size() == secret_label.size() + seed_text_bytes && text.starts_with(secret_label);
  if (good) {
    auto bytes = from_base64(text.substr(secret_label.size()), seed_bytes);
    good = bytes && bytes->size() == seed_bytes;
    if (good) {
      std::memcpy(seed.span().data(), bytes->data(), seed_bytes);
      wipe({reinterpret_cast<std::byte*>(bytes->data()), bytes->size()});
    }
  }
  if (!good)
    return fail(Code::corrupt, By::library, fmt::format("{} is not a secret key file", path),
                "it is one line: bailey-secret-key-1 and 44 characters of base64");
  auto* raw = reinterpret_cast<const std::uint8_t*>(seed.span().data());
  return SecretKey::from_seed(std::span<const std::uint8_t, seed_bytes>(raw, seed_bytes));
}

Status write_public_key(const std::string& path, const PublicKey& key) {
  return write_new_file(path, as_bytes(public_key_text(key) + "\n"), 0644);
}

Result<PublicKey> read_public_key(const std::string& path) {
  Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) return fail_os(errno, fmt::format("could not open the public key {}", path));
  std::byte line[file_bytes_max];
  std::size_t length = BAILEY_TRY(read_line(file.get(), path, line));
  auto key = parse_public_key(as_text(Bytes(line, length)));
  if (!key)
    return fail(Code::corrupt, By::library, fmt::format("{} is not a public key file", path),
                "it is one line: the base64 of 32 bytes, 44 characters");
  return *key;
}

Result<PublicKey> write_new_pair(const std::string& path) {
  SecretKey key = BAILEY_TRY(SecretKey::generate());
  BAILEY_TRY(write_secret_key(path, key));
  if (auto written = write_public_key(path + ".pub", key.public_key()); !written) {
    ::unlink(path.c_str());
    return std::unexpected(written.error());
  }
  return key.public_key();
}

}  // namespace bailey::crypto
