// What any bytes do to the session's side of the codec: refused, or a reply within the limits, which comes
// back the same when it is sent on.
#include <algorithm>
#include <cstdint>

#include "bailey/protocol/codec.h"

namespace bailey::protocol {
namespace {

// The limits once more, written without a look at the codec: what whoever acts on a reply relies on.
struct WithinLimits {
  // A text goes to a terminal: no escape sequences.
  static bool is_plain(const std::string& text) {
    return std::ranges::none_of(
        text, [](unsigned char c) { return c == 0x7f || (c < 0x20 && c != '\n' && c != '\t'); });
  }
  bool operator()(const Error& answer) const {
    auto code = static_cast<unsigned>(answer.code), by = static_cast<unsigned>(answer.by);
    return code >= 1 && code <= 21 && by >= 1 && by <= 4 && answer.os >= 0 && is_plain(answer.message) &&
           is_plain(answer.remedy) && answer.message.size() <= 4096 && answer.remedy.size() <= 4096;
  }
  bool operator()(const Welcome& answer) const {
    return answer.control_bytes > 0 && !answer.pool_name.empty() && answer.principals.size() <= 256;
  }
  bool operator()(const Opened& answer) const {
    return answer.number < 512 && answer.grant < 8192 && answer.mode <= 2 && answer.index_bytes > 0 &&
           answer.index_bytes <= 1ull << 50 && answer.writer < 1u << 31 && answer.protect.size() <= 16 &&
           (*this)(TokenMinted{answer.token});
  }
  bool operator()(const Segments& answer) const {
    return answer.rows.size() <= 200 && fds_of(Segments(answer)) <= fds_max &&
           std::ranges::all_of(answer.rows,
                               [](const SegmentRow& row) { return row.segment != 0 && row.bytes > 0; });
  }
  bool operator()(const SegmentCreated& answer) const {
    return answer.row.segment != 0 && answer.row.bytes > 0;
  }
  bool operator()(const Members& answer) const {
    return answer.desks.size() <= 4096 && answer.frozen.size() <= 4096 &&
           std::ranges::all_of(answer.desks, [](const DeskRow& row) {
             return row.writer >= 1 && row.writer < 1u << 31 && row.segment != 0;
           });
  }
  bool operator()(const Attention& answer) const {
    return answer.gone.size() <= 4096 && answer.new_index == (answer.index_bytes != 0);
  }
  bool operator()(const Writer& answer) const { return answer.writer >= 1 && answer.writer < 1u << 31; }
  bool operator()(const Text& answer) const { return answer.text.size() <= 60'000 && is_plain(answer.text); }
  bool operator()(const TokenMinted& answer) const {
    return !answer.token.empty() && answer.token.size() <= 512;
  }
  bool operator()(const WriterKeys& answer) const {
    return answer.rows.size() <= 256 && std::ranges::all_of(answer.rows, [](const WriterKey& row) {
             return row.writer >= 1 && row.writer < 1u << 31;
           });
  }
  bool operator()(const Challenge&) const { return true; }
  bool operator()(const IndexReady&) const { return true; }
  bool operator()(const Done&) const { return true; }
};

}  // namespace
}  // namespace bailey::protocol

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bailey::protocol;
  auto reply = decode_reply({reinterpret_cast<const std::byte*>(data), size});
  if (!reply) return 0;
  BAILEY_ASSERT(std::visit(WithinLimits{}, reply->answer));
  auto bytes = encode(*reply);
  BAILEY_ASSERT(bytes.has_value());
  auto again = decode_reply(bailey::as_bytes(*bytes));
  BAILEY_ASSERT(again.has_value() && again->number == reply->number);
  // An Error has no comparison; its form on the wire has.
  BAILEY_ASSERT(encode(*again).value() == *bytes);
  return 0;
}
