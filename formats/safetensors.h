// safetensors: u64 header length, JSON header, then the tensors' bytes. Reader and writer.
//
// Layout rules that are checked: the header begins with '{' and holds each name once; data_offsets cover the buffer
// exactly, without overlap or hole; the bytes of a tensor are those of its type and shape. Types: F64 F32 F16 BF16 I64
// I32 I16 I8 U8 BOOL.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/shape.h"
#include "engine/base/status.h"

namespace tern {

inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 64 << 20;
inline constexpr uint64_t kMaxCheckpointTensors = 65'536;

// Immutable after Open; safe to share between threads.
class Safetensors {
 public:
  struct Item {
    std::string name;
    ConstTensor tensor;
  };

  // Maps the file. Every tensor's data is aligned for its type: one that lies unaligned in the file is copied.
  static Result<Safetensors> Open(const std::string& path);
  // Reads the header only; data point into `bytes`, which must outlive the object, and may be unaligned.
  static Result<Safetensors> Parse(std::span<const uint8_t> bytes);

  const std::vector<Item>& items() const { return items_; }  // in the order of their bytes
  const ConstTensor* Find(std::string_view name) const;      // nullptr if absent
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  std::shared_ptr<const MappedFile> file_;
  std::vector<std::vector<uint64_t>> copies_;
  std::vector<Item> items_;
  std::map<std::string, size_t, std::less<>> by_name_;
  std::map<std::string, std::string> metadata_;
};

// True if '{' stands behind the eight bytes of the header length.
bool LooksLikeSafetensors(std::span<const uint8_t> bytes);

// Writes a safetensors file in one go, through FileWriter: the old file stays until the new one is complete. Tensors
// lie in the order given, the header is padded so that data starts 8-byte aligned (tensors of wide types should come
// first where alignment matters to readers). Errors: kUsage for a name that stands twice or is not allowed, kIo.
Status WriteSafetensors(const std::string& path, const std::vector<Safetensors::Item>& items,
                        const std::map<std::string, std::string>& metadata = {});

// How messages and this format spell a type: "F32".
std::string_view SafetensorsTypeName(DType type);

}  // namespace tern
