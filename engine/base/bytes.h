// ByteReader: the one checked reader that all parsers of Tern use on untrusted bytes.
//
// It keeps the bytes that remain and refuses to go past them; every count read from a file is compared with what remains before anything is
// allocated for it. Integers are little-endian. After a failure the reader stays where it was. Not thread-safe; does not own the bytes.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include "engine/base/status.h"

namespace tern {

class ByteReader {
 public:
  explicit ByteReader(std::span<const uint8_t> bytes, uint64_t base_offset = 0) : bytes_(bytes), base_(base_offset) {}
  explicit ByteReader(std::string_view text) : ByteReader({reinterpret_cast<const uint8_t*>(text.data()), text.size()}) {}

  uint64_t offset() const { return base_ + at_; }  // in the file, for messages
  uint64_t position() const { return at_; }        // in the span
  uint64_t remaining() const { return bytes_.size() - at_; }
  bool done() const { return at_ == bytes_.size(); }

  template <class T>  // an unsigned or signed integer, float or double
  Result<T> Read() {
    static_assert(std::is_arithmetic_v<T>);
    if (remaining() < sizeof(T)) return Short(sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  Result<std::span<const uint8_t>> Bytes(uint64_t count) {
    if (remaining() < count) return Short(count);
    auto out = bytes_.subspan(at_, count);
    at_ += count;
    return out;
  }
  Result<std::string_view> Text(uint64_t count) {
    TERN_ASSIGN(auto bytes, Bytes(count));
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  Status Skip(uint64_t count) {
    auto r = Bytes(count);
    return r.ok() ? Status() : r.status();
  }
  // Moves to `position` in the span.
  Status Seek(uint64_t position) {
    if (position > bytes_.size()) return Malformed(Str("position ", position, " lies behind the end, ", bytes_.size()));
    at_ = position;
    return {};
  }
  // Fails unless `count` items of at least `min_bytes` each could still follow: call before reserving memory for a count from the file.
  Status CheckCount(uint64_t count, uint64_t min_bytes) const {
    if (min_bytes != 0 && count > remaining() / min_bytes)
      return Malformed(Str("a count of ", count, " needs at least ", min_bytes, " bytes each, ", remaining(), " remain")).Where(Str("offset ", offset()));
    return {};
  }

 private:
  Status Short(uint64_t want) const {
    return Malformed("the file ends too early").Where(Str("offset ", offset())).Got(Str(remaining(), " bytes"), Str(want));
  }
  std::span<const uint8_t> bytes_;
  uint64_t at_ = 0;
  uint64_t base_ = 0;
};

}  // namespace tern
