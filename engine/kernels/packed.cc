#include "engine/kernels/packed.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace tern {

std::optional<int64_t> PackedBytes(DType type, int64_t n, int64_t k) {
  constexpr int64_t kLimit = std::numeric_limits<int64_t>::max() / 256;  // leaves room for the rounding below
  if (!HasPanelLayout(type) || n < 0 || k < 0 || n > kLimit || k > kLimit) return std::nullopt;
  int64_t per_panel = PanelBytes(type, k);
  if (type == DType::i8) per_panel += kPanelColumns * 8;  // at most 64 k + 128 + padding: fits
  return CheckedMul(PanelCount(n), per_panel);
}

namespace {

uint16_t Narrow(DType type, float f) {
  return type == DType::bf16 ? F32ToBf16(f) : F32ToF16(f);
}

// Where W[r][c] stands in a panel, in elements.
int64_t PanelIndex(DType type, int64_t r, int64_t c) {
  int64_t step = PanelInterleave(type);
  return (c / step * kPanelColumns + r) * step + c % step;
}

}  // namespace

void PackPanel(DType type, const float* src, int64_t ld, int64_t rows, int64_t k, void* panel) {
  if (rows < kPanelColumns || k % PanelInterleave(type) != 0)
    std::memset(panel, 0, static_cast<size_t>(PanelBytes(type, k)));
  if (type == DType::f32) {
    auto* out = static_cast<float*>(panel);
    for (int64_t c = 0; c < k; ++c)
      for (int64_t r = 0; r < rows; ++r) out[c * kPanelColumns + r] = src[r * ld + c];
    return;
  }
  auto* out = static_cast<uint16_t*>(panel);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < k; ++c) out[PanelIndex(type, r, c)] = Narrow(type, src[r * ld + c]);
}

void PackPanelQ8(const float* src, int64_t ld, int64_t rows, int64_t k, void* panel, float* scales,
                 int32_t* column_sums) {
  auto* out = static_cast<int8_t*>(panel);
  std::memset(panel, 0, static_cast<size_t>(PanelBytes(DType::i8, k)));
  std::fill_n(scales, kPanelColumns, 0.0f);
  std::fill_n(column_sums, kPanelColumns, 0);
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = src + r * ld;
    float largest = 0;
    bool finite = true;
    for (int64_t c = 0; c < k; ++c) {
      largest = std::max(largest, std::fabs(row[c]));
      finite = finite && std::isfinite(row[c]);
    }
    if (!finite) {
      scales[r] = std::numeric_limits<float>::quiet_NaN();
      continue;
    }
    // A denormal scale has no useful inverse: such a row is zero for every purpose.
    float scale = largest / 127.0f;
    if (scale < std::numeric_limits<float>::min()) continue;
    scales[r] = scale;
    int32_t sum = 0;
    for (int64_t c = 0; c < k; ++c) {
      auto q = static_cast<int8_t>(std::clamp(std::nearbyint(row[c] / scale), -127.0f, 127.0f));
      out[PanelIndex(DType::i8, r, c)] = q;
      sum += q;
    }
    column_sums[r] = sum;
  }
}

void PackMatrix(DType type, const float* src, int64_t ld, int64_t n, int64_t k, void* out) {
  int64_t panels = PanelCount(n), bytes = PanelBytes(type, k);
  auto* base = static_cast<uint8_t*>(out);
  auto* scales = reinterpret_cast<float*>(base + panels * bytes);
  auto* sums = reinterpret_cast<int32_t*>(scales + panels * kPanelColumns);
  for (int64_t p = 0; p < panels; ++p) {
    const float* rows = src + p * kPanelColumns * ld;
    int64_t count = std::min(kPanelColumns, n - p * kPanelColumns);
    if (type == DType::i8)
      PackPanelQ8(rows, ld, count, k, base + p * bytes, scales + p * kPanelColumns, sums + p * kPanelColumns);
    else
      PackPanel(type, rows, ld, count, k, base + p * bytes);
  }
}

void UnpackRow(const PackedMatrix& w, int64_t row, float* out) {
  const void* panel = w.panel(row / kPanelColumns);
  int64_t r = row % kPanelColumns;
  switch (w.type) {
    case DType::f32:
      for (int64_t c = 0; c < w.k; ++c) out[c] = static_cast<const float*>(panel)[c * kPanelColumns + r];
      break;
    case DType::bf16:
      for (int64_t c = 0; c < w.k; ++c)
        out[c] = Bf16ToF32(static_cast<const uint16_t*>(panel)[PanelIndex(w.type, r, c)]);
      break;
    case DType::f16:
      for (int64_t c = 0; c < w.k; ++c)
        out[c] = F16ToF32(static_cast<const uint16_t*>(panel)[PanelIndex(w.type, r, c)]);
      break;
    case DType::i8:
      for (int64_t c = 0; c < w.k; ++c)
        out[c] = w.scales()[row] * static_cast<const int8_t*>(panel)[PanelIndex(w.type, r, c)];
      break;
    default:
      break;  // no such panel: a bug of the caller, who checked HasPanelLayout
  }
}

bool PaddingIsZero(const PackedMatrix& w) {
  int64_t bytes = DTypeBytes(w.type), step = PanelInterleave(w.type), padded_k = RoundUp(w.k, step);
  auto zero = [](const void* at, int64_t count) {
    const auto* b = static_cast<const uint8_t*>(at);
    for (int64_t i = 0; i < count; ++i)
      if (b[i] != 0) return false;
    return true;
  };
  for (int64_t p = 0; p < w.panels(); ++p) {
    const auto* panel = static_cast<const uint8_t*>(w.panel(p));
    int64_t rows = std::min(kPanelColumns, w.n - p * kPanelColumns);
    for (int64_t c = w.k; c < padded_k; ++c)
      for (int64_t r = 0; r < kPanelColumns; ++r)
        if (!zero(panel + PanelIndex(w.type, r, c) * bytes, bytes)) return false;
    if (rows == kPanelColumns) continue;
    for (int64_t c = 0; c < padded_k; c += step)
      if (!zero(panel + PanelIndex(w.type, rows, c) * bytes, (kPanelColumns - rows) * step * bytes)) return false;
  }
  if (w.type != DType::i8) return true;
  int64_t pad = w.panels() * kPanelColumns - w.n;
  return zero(w.scales() + w.n, pad * 4) && zero(w.column_sums() + w.n, pad * 4);
}

}  // namespace tern
