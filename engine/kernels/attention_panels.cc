// The layouts that attention reads: key/value panels in a ring, distance panels. Plain code: each number is written once and read many times.
#include <algorithm>
#include <cstring>

#include "engine/kernels/attention.h"

namespace tern {
namespace {

constexpr int64_t kPanel = 16;

constexpr int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

template <class T>
struct Narrow;
template <>
struct Narrow<float> {
  static float From(float f) { return f; }
};
struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};
template <>
struct Narrow<Bf16> {
  static Bf16 From(float f) { return {F32ToBf16(f)}; }
};
template <>
struct Narrow<F16> {
  static F16 From(float f) { return {F32ToF16(f)}; }
};

template <class T>
void Append(const KvPanels& kv, int64_t position, int64_t n, const float* k, int64_t k_stride, const float* v, int64_t v_stride) {
  const int64_t dv16 = RoundUp(kv.dv, kPanel);
  for (int64_t done = 0; done < n;) {
    const int64_t at = position + done, panel = at / kPanel % kv.n_panels, slot = at % kPanel;
    const int64_t rows = std::min(n - done, kPanel - slot);
    T* kp = static_cast<T*>(kv.k) + panel * kv.dh * kPanel + slot;
    T* vp = static_cast<T*>(kv.v) + (panel * kPanel + slot) * dv16;
    const float* kr = k + done * k_stride;
    for (int64_t r = 0; r < rows; ++r, kr += k_stride) {
      for (int64_t c = 0; c < kv.dh; ++c) kp[c * kPanel + r] = Narrow<T>::From(kr[c]);
    }
    const float* vr = v + done * v_stride;
    for (int64_t r = 0; r < rows; ++r, vr += v_stride, vp += dv16) {
      for (int64_t c = 0; c < kv.dv; ++c) vp[c] = Narrow<T>::From(vr[c]);
      for (int64_t c = kv.dv; c < dv16; ++c) vp[c] = Narrow<T>::From(0);
    }
    done += rows;
  }
}

}  // namespace

int64_t KvBytes(int64_t positions, int64_t dh, int64_t dv, DType type) {
  const int64_t panels = RoundUp(positions, kPanel) / kPanel, size = DTypeBytes(type);
  return RoundUp(panels * dh * kPanel * size, 64) + RoundUp(panels * kPanel * RoundUp(dv, kPanel) * size, 64);
}

KvPanels MakeKvPanels(void* memory, int64_t positions, int64_t dh, int64_t dv, DType type) {
  KvPanels kv;
  kv.n_panels = RoundUp(positions, kPanel) / kPanel;
  kv.dh = dh;
  kv.dv = dv;
  kv.type = type;
  kv.k = memory;
  kv.v = static_cast<char*>(memory) + RoundUp(kv.n_panels * dh * kPanel * DTypeBytes(type), 64);
  return kv;
}

void AppendKv(const KvPanels& kv, int64_t position, int64_t n, const float* k, int64_t k_stride, const float* v, int64_t v_stride) {
  if (kv.type == DType::bf16) return Append<Bf16>(kv, position, n, k, k_stride, v, v_stride);
  if (kv.type == DType::f16) return Append<F16>(kv, position, n, k, k_stride, v, v_stride);
  return Append<float>(kv, position, n, k, k_stride, v, v_stride);
}

int64_t DistancePanelsBytes(int64_t max_distance, int64_t dh) { return (max_distance / kPanel + 1) * kPanel * dh * 4; }

void PackDistances(const float* rk, int64_t rk_stride, int64_t max_distance, int64_t dh, float* panels) {
  const int64_t slots = (max_distance / kPanel + 1) * kPanel;
  for (int64_t x = 0; x < slots; ++x) {
    float* to = panels + x / kPanel * dh * kPanel + x % kPanel;
    const float* from = rk + (x <= max_distance ? max_distance - x : 0) * rk_stride;
    for (int64_t c = 0; c < dh; ++c) to[c * kPanel] = x <= max_distance ? from[c] : 0.0f;
  }
}

}  // namespace tern
