// Element types of tensors in memory and in files. One list; everything else is derived from it.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

namespace tern {

//  name  bytes
#define TERN_DTYPES(X) \
  X(f32, 4)            \
  X(f16, 2)            \
  X(bf16, 2)           \
  X(f64, 8)            \
  X(i8, 1)             \
  X(u8, 1)             \
  X(i16, 2)            \
  X(i32, 4)            \
  X(i64, 8)            \
  X(boolean, 1)

enum class DType : uint8_t {
#define X(name, bytes) name,
  TERN_DTYPES(X)
#undef X
};

constexpr int64_t DTypeBytes(DType t) {
  switch (t) {
#define X(name, bytes) \
  case DType::name:    \
    return bytes;
    TERN_DTYPES(X)
#undef X
  }
  return 0;
}

constexpr std::string_view DTypeName(DType t) {
  switch (t) {
#define X(name, bytes) \
  case DType::name:    \
    return #name;
    TERN_DTYPES(X)
#undef X
  }
  return "?";
}

constexpr bool IsFloat(DType t) { return t == DType::f32 || t == DType::f16 || t == DType::bf16 || t == DType::f64; }

// IEEE 754 half and bfloat16 <-> float, round to nearest even; NaN stays NaN. Exact and the same on every target.
inline float Bf16ToF32(uint16_t bits) {
  uint32_t u = static_cast<uint32_t>(bits) << 16;
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
inline uint16_t F32ToBf16(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  if ((u & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(u >> 16 | 0x40);  // quiet NaN
  return static_cast<uint16_t>((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
float F16ToF32(uint16_t bits);
uint16_t F32ToF16(float f);

}  // namespace tern
