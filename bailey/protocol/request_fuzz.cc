// What any bytes do to the broker's side of the codec: refused, or a request within the limits, which comes
// back the same when it is sent on.
#include <algorithm>
#include <cstdint>

#include "bailey/protocol/codec.h"

namespace bailey::protocol {
namespace {

// The limits once more, written without a look at the codec: what whoever acts on a request relies on.
struct WithinLimits {
  bool operator()(const Hello& body) const { return body.has_key || body.key == PublicKey{}; }
  bool operator()(const Prove& body) const { return body.has_key || body.signature == Signature{}; }
  bool operator()(const OpenRegion& body) const {
    return !body.region.empty() && body.region.size() <= 63 && body.region.find('/') == std::string::npos &&
           body.region.find('\0') == std::string::npos && body.token.size() <= 512;
  }
  bool operator()(const MapSegments& body) const { return grant(body) && list(body.segments, 200); }
  bool operator()(const Dropped& body) const { return grant(body) && list(body.segments, 4096); }
  bool operator()(const SegmentMapped& body) const { return grant(body) && body.segment != 0; }
  bool operator()(const RetireSegment& body) const { return grant(body) && body.segment != 0; }
  bool operator()(const CreateSegment& body) const { return grant(body) && body.record_bytes <= 1ull << 50; }
  bool operator()(const ApplyPolicy& body) const {
    return body.policy.size() <= 60'000 && body.file.size() <= 4096 && body.folder.size() <= 4096 &&
           (body.policy + body.file + body.folder).find('\0') == std::string::npos;
  }
  bool operator()(const GetStatus&) const { return true; }
  bool operator()(const MintToken& body) const {
    return !body.region.empty() && body.region.size() <= 63 && body.holder.size() <= 255;
  }
  bool operator()(const RevokeToken&) const { return true; }
  bool operator()(const VerifyToken& body) const { return !body.token.empty() && body.token.size() <= 512; }
  bool operator()(const RotateKey& body) const {
    return !body.region.empty() && body.region.size() <= 63 && body.region.find('/') == std::string::npos &&
           body.region.find('\0') == std::string::npos;
  }
  bool operator()(const GetWriterKeys& body) const {
    return grant(body) && body.writer >= 1 && body.writer < 1u << 31;
  }
  template <class Message>
  bool operator()(const Message& body) const {
    return grant(body);
  }

 private:
  template <class Message>
  static bool grant(const Message& body) {
    return body.grant < 8192;
  }
  static bool list(const std::vector<std::uint16_t>& segments, std::size_t count_max) {
    return segments.size() <= count_max && std::ranges::find(segments, 0) == segments.end();
  }
};

}  // namespace
}  // namespace bailey::protocol

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bailey::protocol;
  auto request = decode_request({reinterpret_cast<const std::byte*>(data), size});
  if (!request) return 0;
  BAILEY_ASSERT(std::visit(WithinLimits{}, request->body));
  if (const auto* hello = std::get_if<Hello>(&request->body); hello && hello->protocol != protocol_version)
    return 0;  // of another version: not to be sent on
  auto bytes = encode(*request);
  BAILEY_ASSERT(bytes.has_value());
  auto again = decode_request(bailey::as_bytes(*bytes));
  BAILEY_ASSERT(again.has_value() && again->number == request->number && again->body == request->body);
  return 0;
}
