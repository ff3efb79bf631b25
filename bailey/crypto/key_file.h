// Key pairs on disk.
//
// A secret file is one line, "bailey-secret-key-1 " and the base64 of the seed, mode 0600. A public file is
// one line: the base64 of the 32 bytes of the key, the same text that a policy takes after "key:".
//
// What a file holds is hostile until it has been checked; messages name the file and never its content.
#pragma once

#include <string>
#include <string_view>

#include "bailey/base/error.h"
#include "bailey/crypto/sign.h"

namespace bailey::crypto {

// Creates the file with mode 0600, whole or not at all, and on disk before it returns. Error exists where
// something is there: a key is never overwritten.
Status write_secret_key(const std::string& path, const SecretKey& key);

// Errors: denied where the file is readable or writable by others, or belongs to somebody who is neither this
// user nor root, or is a symbolic link; corrupt where it is not a secret key file; io where it can't be read.
Result<SecretKey> read_secret_key(const std::string& path);

// Mode 0644. Error exists as above.
Status write_public_key(const std::string& path, const PublicKey& key);
Result<PublicKey> read_public_key(const std::string& path);

// The line of a public file, without its end.
std::string public_key_text(const PublicKey& key);
// Error invalid_argument for anything but the base64 of 32 bytes.
Result<PublicKey> parse_public_key(std::string_view text);

// Draws a pair and writes PATH (secret) and PATH.pub. Where the second can't be written the first is removed.
Result<PublicKey> write_new_pair(const std::string& path);

}  // namespace bailey::crypto
