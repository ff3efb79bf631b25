// Messages to bytes and back.
//
// Decoding is the boundary: bytes of another party go in, values within all the limits of messages.h come
// out, or an error. Whoever acts on a decoded message need not check its shape again, only its meaning.
//
// Checked on the way in, and on the way out too, so that we never send what the other end must refuse:
//   - the whole message: 1..message_bytes_max bytes, one body that we know, no field that the schema lacks
//     (of a Hello of another protocol version only the two version numbers are taken);
//   - fixed sizes (keys, nonces, ids, signatures) exactly;
//   - region names: 1..name_bytes_max bytes of a-z A-Z 0-9 _ . - and not beginning with a dot or dash;
//   - kind, pool name, rungs and principals: 1..text_name_bytes_max printable ASCII bytes;
//   - other texts: text_bytes_max bytes, without control characters but tab and end of line; a policy: the
//   same
//     size, without NUL; its file and folder: path_bytes_max;
//   - lists: segments_in_message_max, gone_max, and the limits below; segment numbers 1..65535;
//   - enums: known values only (an unknown error code is refused, not passed on);
//   - writer ids below 2^31, grants below BAILEY_GRANT_WORDS, region numbers below BAILEY_REGIONS_MAX.
//
// Thread-safe: functions of their arguments.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "bailey/base/bytes.h"
#include "bailey/base/error.h"
#include "bailey/protocol/messages.h"

namespace bailey::protocol {

inline constexpr std::size_t text_name_bytes_max = 255;
inline constexpr std::size_t principals_max = 256;
inline constexpr std::size_t rungs_max = 16;
inline constexpr std::size_t desks_max = 4096;
inline constexpr std::size_t path_bytes_max = 4096;
inline constexpr std::uint32_t code_max = 21;  // of Code and By: the last ones that there are
inline constexpr std::uint32_t by_max = 4;
inline constexpr std::size_t error_text_bytes_max = 4096;  // of a message or a remedy; longer ones are cut

// Error too_large or invalid_argument (by the library) where the message is over a limit; nothing is sent
// then. An Error's texts are cut to their limit instead: a refusal must always get through.
Result<std::string> encode(const Request& request);
Result<std::string> encode(const Reply& reply);

// Error corrupt (by the peer), with what is wrong with which field.
Result<Request> decode_request(Bytes bytes);
Result<Reply> decode_reply(Bytes bytes);

// How many descriptors come with an answer; `what` they are is said in messages.h. Requests carry none.
std::size_t fds_of(const Answer& answer);

// A short name for logs: "Hello", "OpenRegion" ...
const char* name(const Body& body);
const char* name(const Answer& answer);

// The rule for region names, for whoever takes one from a person.
bool is_region_name(std::string_view name);

}  // namespace bailey::protocol
