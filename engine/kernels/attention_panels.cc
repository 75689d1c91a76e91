// The layouts that attention reads: key/value panels in a ring, distance panels. Plain code: each number is written once and read many times.
#include <algorithm>
#include <cstring>

#include "engine/kernels/attention.h"

namespace tern {
namespace {

constexpr int64_t kPanel = 16;

constexpr int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};
inline void Narrow(float f, Bf16* to) { to->bits = F32ToBf16(f); }
inline void Narrow(float f, F16* to) { to->bits = F32ToF16(f); }

// to[c][16], columns [slot, slot + rows) = from[rows][width] transposed.
template <class T>
void Transpose(const float* from, int64_t stride, int64_t rows, int64_t width, T* to) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < width; ++c) Narrow(from[r * stride + c], to + c * kPanel + r);
  }
}

typedef float Four __attribute__((vector_size(16)));

// Four rows by four columns in registers.
inline void Transpose4(const float* from, int64_t stride, float* to) {
  Four a, b, c, d;
  std::memcpy(&a, from, 16);
  std::memcpy(&b, from + stride, 16);
  std::memcpy(&c, from + 2 * stride, 16);
  std::memcpy(&d, from + 3 * stride, 16);
  const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const Four columns[4] = {__builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
                           __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5), __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7)};
  for (int i = 0; i < 4; ++i) std::memcpy(to + i * kPanel, &columns[i], 16);
}

template <>
void Transpose(const float* from, int64_t stride, int64_t rows, int64_t width, float* to) {
  const int64_t whole_rows = rows / 4 * 4, whole = width / 4 * 4;
  for (int64_t r = 0; r < whole_rows; r += 4) {
    for (int64_t c = 0; c < whole; c += 4) Transpose4(from + r * stride + c, stride, to + c * kPanel + r);
    for (int64_t i = r; i < r + 4; ++i) {
      for (int64_t c = whole; c < width; ++c) to[c * kPanel + i] = from[i * stride + c];
    }
  }
  for (int64_t r = whole_rows; r < rows; ++r) {
    for (int64_t c = 0; c < width; ++c) to[c * kPanel + r] = from[r * stride + c];
  }
}

template <class T>
void CopyRow(const float* from, int64_t width, T* to) {
  for (int64_t c = 0; c < width; ++c) Narrow(from[c], to + c);
}
template <>
void CopyRow(const float* from, int64_t width, float* to) {
  if (width > 0) std::memcpy(to, from, static_cast<size_t>(width) * sizeof(float));
}

template <class T>
void Append(const KvPanels& kv, int64_t position, int64_t n, const float* k, int64_t k_stride, const float* v, int64_t v_stride) {
  const int64_t dv16 = RoundUp(kv.dv, kPanel);
  for (int64_t done = 0; done < n;) {
    const int64_t at = position + done, panel = kv.panel_of(at), slot = at % kPanel;
    const int64_t rows = std::min(n - done, kPanel - slot);
    Transpose(k + done * k_stride, k_stride, rows, kv.dh, static_cast<T*>(kv.k) + panel * kv.dh * kPanel + slot);
    for (int64_t r = 0; r < rows; ++r) {
      T* row = static_cast<T*>(kv.v) + (panel * kPanel + slot + r) * dv16;
      CopyRow(v + (done + r) * v_stride, kv.dv, row);
      std::memset(static_cast<void*>(row + kv.dv), 0, static_cast<size_t>(dv16 - kv.dv) * sizeof(T));
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
