#include "engine/kernels/packed.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace tern {

std::optional<int64_t> PackedBytes(DType type, int64_t n, int64_t k, int64_t splits) {
  constexpr int64_t kLimit = std::numeric_limits<int64_t>::max() / 256;  // leaves room for the rounding below
  if (!HasPanelLayout(type) || n < 0 || k < 0 || n > kLimit || k > kLimit) return std::nullopt;
  if (splits < 0 || splits > k || (splits > 0 && type != DType::i8)) return std::nullopt;
  int64_t per_panel = PanelBytes(type, k);
  if (type == DType::i8) per_panel += kPanelColumns * 8;  // at most 64 k + 128 + padding: fits
  auto panels = CheckedMul(PanelCount(n), per_panel);
  return panels ? CheckedAdd(*panels, splits * 4) : std::nullopt;
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

// Calls put(c, q) for what is not zero; gives the scale.
template <class Put>
float Quantize(const float* row, int64_t k, Put&& put) {
  float largest = 0;
  bool finite = true;
  for (int64_t c = 0; c < k; ++c) {
    largest = std::max(largest, std::fabs(row[c]));
    finite = finite && std::isfinite(row[c]);
  }
  if (!finite) return std::numeric_limits<float>::quiet_NaN();
  // A denormal scale has no useful inverse: such a row is zero for every purpose.
  const float scale = largest / 127.0f;
  if (scale < std::numeric_limits<float>::min()) return 0;
  for (int64_t c = 0; c < k; ++c) put(c, static_cast<int8_t>(std::clamp(std::nearbyint(row[c] / scale), -127.0f, 127.0f)));
  return scale;
}

// How many split columns from e on have one source: that source stands once more than that.
int64_t Run(const int32_t* sources, int64_t splits, int64_t e) {
  int64_t run = 1;
  while (e + run < splits && sources[e + run] == sources[e]) ++run;
  return run;
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
    int32_t sum = 0;
    scales[r] = Quantize(src + r * ld, k, [&](int64_t c, int8_t q) {
      out[PanelIndex(DType::i8, r, c)] = q;
      sum += q;
    });
    column_sums[r] = sum;
  }
}

float QuantizeWeights(const float* row, int64_t k, int8_t* q) {
  std::fill_n(q, k, int8_t{0});
  return Quantize(row, k, [q](int64_t c, int8_t value) { q[c] = value; });
}

void SplitWeights(const float* row, int64_t k, const int32_t* sources, int64_t splits, float* out) {
  std::copy_n(row, k, out);
  if (splits == 0) return;
  float largest = 0;
  for (int64_t c = 0; c < k; ++c) largest = std::max(largest, std::fabs(row[c]));
  const float step = largest / 127.0f;
  for (int64_t e = 0, run; e < splits; e += run) {
    run = Run(sources, splits, e);
    // Copy i of m is rounded from (i + 1/2) / m - 1/2 of a step above the weight: the mean of all is within 1 / 2m.
    auto shifted = [&](int64_t i) {
      const float shift = (static_cast<float>(i) + 0.5f) / static_cast<float>(run + 1) - 0.5f;
      return std::clamp(row[sources[e]] + shift * step, -largest, largest);
    };
    out[sources[e]] = shifted(0);
    for (int64_t i = 1; i <= run; ++i) out[k + e + i - 1] = shifted(i);
  }
}

void SplitInputs(const float* x, int64_t k, const int32_t* sources, int64_t splits, float* out) {
  if (out != x) std::memcpy(out, x, static_cast<size_t>(k) * sizeof(float));
  for (int64_t e = 0, run; e < splits; e += run) {
    run = Run(sources, splits, e);
    const float part = x[sources[e]] / static_cast<float>(run + 1);
    out[sources[e]] = part;
    for (int64_t i = 0; i < run; ++i) out[k + e + i] = part;
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
    case DType::i8: {
      const auto* q = static_cast<const int8_t*>(panel);
      const float scale = w.scales()[row];
      for (int64_t c = 0; c < w.inputs(); ++c) out[c] = scale * q[PanelIndex(w.type, r, c)];
      const int32_t* sources = w.split_sources();
      for (int64_t e = 0, run; e < w.splits; e += run) {  // the mean of the copies
        run = Run(sources, w.splits, e);
        int32_t sum = q[PanelIndex(w.type, r, sources[e])];
        for (int64_t i = 0; i < run; ++i) sum += q[PanelIndex(w.type, r, w.inputs() + e + i)];
        out[sources[e]] = scale * (static_cast<float>(sum) / static_cast<float>(run + 1));
      }
      break;
    }
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

const char* CheckSplitSources(const PackedMatrix& w) {
  int32_t before = 0;
  for (int64_t e = 0; e < w.splits; ++e) {
    const int32_t source = w.split_sources()[e];
    if (source < before || source >= w.inputs()) return "the sources of the split columns are out of range or order";
    before = source;
  }
  return nullptr;
}

const char* CheckQ8(const PackedMatrix& w) {
  if (const char* wrong = CheckSplitSources(w)) return wrong;
  for (int64_t r = 0; r < w.n; ++r) {
    const auto* panel = static_cast<const int8_t*>(w.panel(r / kPanelColumns));
    int64_t sum = 0;
    for (int64_t c = 0; c < w.k; ++c) {
      const int8_t q = panel[PanelIndex(DType::i8, r % kPanelColumns, c)];
      if (q == -128) return "a number is -128";
      sum += q;
    }
    if (sum != w.column_sums()[r]) return "a column sum is wrong";
    if (w.scales()[r] < 0 || std::isinf(w.scales()[r])) return "a scale is negative or infinite";
  }
  return nullptr;
}

}  // namespace tern
