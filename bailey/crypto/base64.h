// Base64 (RFC 4648, standard alphabet, padded), in its one canonical form.
//
// Thread-safe: functions of their arguments.
#pragma once

#include <string>
#include <string_view>

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"

namespace bailey::crypto {

std::string base64(Bytes bytes);

// The bytes, of which there may be `bytes_max` at most. Error invalid_argument for anything but what base64()
// would have written: white space, missing padding and stray bits after the last byte are refused, so that
// one value has one text.
Result<std::string> from_base64(std::string_view text, std::size_t bytes_max);

}  // namespace bailey::crypto
