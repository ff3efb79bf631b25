// Keys from a key: HKDF-Expand with SHA-256 (RFC 5869, section 2.3), one block.
//
// What is derived under one label and context tells nothing of the key or of what is derived under others,
// so one root secret serves many uses. Labels are literals of ours, each used for one purpose in one place:
// "bailey PURPOSE 1", the number being its version.
//
// Thread-safe: functions of their arguments.
#pragma once

#include <string_view>

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"
#include "bailey/crypto/secret.h"

namespace bailey::crypto {

inline constexpr std::size_t derived_bytes = 32;

// `key` is 32 bytes that are as good as random. The context has fields of fixed sizes, so that two never read
// alike. Error no_space where memory can't be locked.
Result<Secret> derive(Bytes key, std::string_view label, Bytes context = {});

}  // namespace bailey::crypto
