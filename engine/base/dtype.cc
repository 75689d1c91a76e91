#include "engine/base/dtype.h"

#include <cmath>

namespace tern {

float F16ToF32(uint16_t bits) {
  uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  uint32_t exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24, exact in f32
    float f = std::ldexp(static_cast<float>(mantissa), -24);
    return sign ? -f : f;
  }
  uint32_t u = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | mantissa << 13;
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}

uint16_t F32ToF16(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  uint16_t sign = static_cast<uint16_t>(u >> 16 & 0x8000);
  u &= 0x7fffffff;
  if (u > 0x7f800000) return sign | 0x7e00;            // NaN
  if (u >= 0x477ff000) return sign | 0x7c00;           // rounds to infinity
  if (u < 0x38800000) {                                // below 2^-14: subnormal; the addition rounds to even for us
    float magic;
    uint32_t bits = 0x3f000000;                        // 0.5: its unit in the last place is 2^-24
    std::memcpy(&magic, &bits, 4);
    float a;
    std::memcpy(&a, &u, 4);
    a += magic;
    std::memcpy(&u, &a, 4);
    return static_cast<uint16_t>(sign | (u - bits));
  }
  u += 0xc8000000 + 0xfff + (u >> 13 & 1);             // rebias the exponent by -112, round to nearest even
  return static_cast<uint16_t>(sign | u >> 13);
}

}  // namespace tern
