// What the reader and the writer of `.tern` files share: the numbers of the specification and the rule that places the
// data (model_file.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/checked.h"
#include "engine/base/json.h"
#include "engine/base/status.h"
#include "formats/model_file.h"

namespace tern::model_file {

inline constexpr std::string_view kMagic{"\x8aTERN\r\n\x1a", 8};
inline constexpr std::string_view kTrailerMagic{"TERN_END", 8};
inline constexpr uint32_t kByteOrder = 0x01020304;
inline constexpr uint64_t kHeaderBytes = 64, kTableHeadBytes = 32, kTensorBytes = 96, kBlobBytes = 32,
                          kTrailerBytes = 16;
inline constexpr uint64_t kMaxTableBytes = 64 << 20, kMaxMetadataBytes = 16 << 20;
inline constexpr uint64_t kMaxTensors = 65536, kMaxBlobs = 64, kMaxNameBytes = 512;
inline constexpr uint64_t kAlignment = 64, kPage = 4096, kSmallBytes = 64 << 10;
inline constexpr JsonLimits kMetadataLimits{.max_bytes = kMaxMetadataBytes, .max_depth = 8, .max_items = 1 << 20};

inline uint64_t RoundUpTo(uint64_t value, uint64_t step) {
  return (value + step - 1) / step * step;
}

// 1 small, 2 large, 3 grouped: the classes of the specification, in the order of the file.
inline int ClassOf(const TensorRecord& r) {
  return !r.group.empty() ? 3 : r.bytes >= kSmallBytes ? 2 : 1;
}

// Where each range must begin. REQUIRES: the caller has bounded the sizes, so that nothing overflows.
class Placement {
 public:
  explicit Placement(uint64_t table_end) : at_(RoundUpTo(table_end, kAlignment)) {}
  uint64_t BlobOffset() const { return RoundUpTo(at_, kAlignment); }
  uint64_t TensorOffset(const TensorRecord& r) const {
    bool page = ClassOf(r) == 2 || r.group != group_;  // leaving or entering a group
    return RoundUpTo(at_, page ? kPage : kAlignment);
  }
  // Each takes the range and gives its offset.
  uint64_t TakeBlob(uint64_t bytes) {
    uint64_t offset = BlobOffset();
    at_ = offset + bytes;
    return offset;
  }
  uint64_t TakeTensor(const TensorRecord& r) {
    uint64_t offset = TensorOffset(r);
    at_ = offset + r.bytes;
    group_ = r.group;
    return offset;
  }
  uint64_t end() const { return at_; }  // of what was placed so far, without padding
  uint64_t TrailerOffset() const { return RoundUpTo(at_, group_.empty() ? kAlignment : kPage); }

 private:
  uint64_t at_;
  std::string group_;
};

// 1..512 bytes of UTF-8 without control characters; the Status says what is wrong.
Status CheckName(std::string_view name);
// The keys the format knows have the types it says.
Status CheckMetadata(const Json& metadata);

}  // namespace tern::model_file
