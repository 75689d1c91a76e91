#include "engine/base/torch_random.h"

#include <cmath>
#include <random>

namespace tern {
namespace {

using Engine = std::mt19937;  // the same generator and initialisation as torch's

constexpr double kTwoPi = 6.283185307179586476925286766559;

// 53 bits of two draws, the first one high.
double Uniform53(Engine* engine) {
  const uint64_t high = (*engine)(), low = (*engine)();
  return static_cast<double>((high << 32 | low) & ((uint64_t{1} << 53) - 1)) * 0x1p-53;
}

float Uniform24(Engine* engine) { return static_cast<float>((*engine)() & ((1u << 24) - 1)) * 0x1p-24f; }

// Box-Muller over 16 uniforms: the first eight give radii, the last eight angles. The angle is rounded to f32, as the vector path of x86 forms it.
void Transform16(float* a) {
  for (int j = 0; j < 8; ++j) {
    const double u1 = static_cast<double>(1.0f - a[j]);
    const double radius = std::sqrt(-2.0 * std::log(u1));
    const double angle = static_cast<double>(static_cast<float>(kTwoPi) * a[j + 8]);
    a[j] = static_cast<float>(radius * std::cos(angle));
    a[j + 8] = static_cast<float>(radius * std::sin(angle));
  }
}

void FewNormals(Engine* engine, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += 2) {
    const double u1 = Uniform53(engine), u2 = Uniform53(engine);
    const double radius = std::sqrt(-2.0 * std::log1p(-u2)), angle = kTwoPi * u1;
    out[i] = static_cast<float>(radius * std::cos(angle));
    if (i + 1 < n) out[i + 1] = static_cast<float>(radius * std::sin(angle));
  }
}

}  // namespace

void TorchNormal(uint64_t seed, int64_t n, float* out) {
  Engine engine(static_cast<uint32_t>(seed & 0xffffffffu));
  if (n < 16) return FewNormals(&engine, n, out);
  for (int64_t i = 0; i < n; ++i) out[i] = Uniform24(&engine);
  for (int64_t i = 0; i + 16 <= n; i += 16) Transform16(out + i);
  if (n % 16 == 0) return;
  // The last sixteen are drawn anew.
  for (int64_t i = n - 16; i < n; ++i) out[i] = Uniform24(&engine);
  Transform16(out + n - 16);
}

}  // namespace tern
