#include "bailey/crypto/base64.h"

#include <fmt/format.h>
#include <sodium.h>

#include "bailey/crypto/secret.h"

namespace bailey::crypto {

std::string base64(Bytes bytes) {
  // The library's length counts a terminating zero, which std::string has room for by itself.
  std::string text(sodium_base64_encoded_len(bytes.size(), sodium_base64_VARIANT_ORIGINAL) - 1, '\0');
  sodium_bin2base64(text.data(), text.size() + 1, reinterpret_cast<const unsigned char*>(bytes.data()),
                    bytes.size(), sodium_base64_VARIANT_ORIGINAL);
  return text;
}

Result<std::string> from_base64(std::string_view text, std::size_t bytes_max) {
  if (text.size() % 4 != 0)
    return fail(Code::invalid_argument, By::library,
                fmt::format("{} characters are not base64, which comes in groups of four", text.size()));
  std::string bytes(text.size() / 4 * 3, '\0');
  std::size_t length = 0;
  const char* end = nullptr;
  int outcome = sodium_base642bin(reinterpret_cast<unsigned char*>(bytes.data()), bytes.size(), text.data(),
                                  text.size(), nullptr, &length, &end, sodium_base64_VARIANT_ORIGINAL);
  if (outcome != 0 || end != text.data() + text.size()) {
    wipe({reinterpret_cast<std::byte*>(bytes.data()), bytes.size()});
    return fail(Code::invalid_argument, By::library, "the text is not base64 in its canonical form");
  }
  if (length > bytes_max) {
    wipe({reinterpret_cast<std::byte*>(bytes.data()), bytes.size()});
    return fail(Code::invalid_argument, By::library,
                fmt::format("base64 of {} bytes where at most {} are taken", length, bytes_max));
  }
  bytes.resize(length);
  return bytes;
}

}  // namespace bailey::crypto
