// Packed matrices: the layout of a weight W [N, K] (N outputs, K inputs) in panels of 16 outputs, the same for every
// CPU and the same on disk. Plain C++: the file writer, the loader and the kernels share this header.
//
//   type        panel (N is padded to 16, K to the number in brackets, with zeros)       behind the last panel
//   f32         [K][16]                                                                   -
//   bf16, f16   [K/2][16][2]   (2)                                                        -
//   i8          [K/4][16][4]   (4)     W[n][k] = scale[n] * q[n][k], -127 <= q <= 127     f32 scale [N'], i32 column
//   sum of q [N'], N' = N padded
//
// Panels follow each other without a gap; panel p holds rows 16p .. 16p+15 of W. The data of a matrix is 64-byte
// aligned.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/base/checked.h"
#include "engine/base/dtype.h"

namespace tern {

constexpr int64_t kPanelColumns = 16;

// Elements along K that stand together for one output: K is padded to a multiple of it. 0: the type has no panel
// layout.
constexpr int64_t PanelInterleave(DType type) {
  switch (type) {
    case DType::f32:
      return 1;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::i8:
      return 4;
    default:
      return 0;
  }
}
constexpr bool HasPanelLayout(DType type) {
  return PanelInterleave(type) != 0;
}
constexpr int64_t PanelCount(int64_t n) {
  return CeilDiv(n, kPanelColumns);
}
// Bytes of one panel. REQUIRES: HasPanelLayout(type), k >= 0 and no overflow (as below).
constexpr int64_t PanelBytes(DType type, int64_t k) {
  return RoundUp(k, PanelInterleave(type)) * kPanelColumns * DTypeBytes(type);
}

// Bytes of a packed [n, k] matrix, scales and sums included. nullopt: the type has no panel layout, a size is negative,
// or the product overflows.
std::optional<int64_t> PackedBytes(DType type, int64_t n, int64_t k);

// A view; owns nothing. REQUIRES of data: PackedBytes(type, n, k) bytes, 64-byte aligned.
struct PackedMatrix {
  const void* data = nullptr;
  DType type = DType::f32;
  int64_t n = 0;  // outputs: rows of W, columns of y
  int64_t k = 0;  // inputs

  int64_t panels() const { return PanelCount(n); }
  int64_t panel_bytes() const { return PanelBytes(type, k); }
  const void* panel(int64_t p) const { return static_cast<const uint8_t*>(data) + p * panel_bytes(); }
  // i8 only.
  const float* scales() const { return static_cast<const float*>(panel(panels())); }
  const int32_t* column_sums() const { return reinterpret_cast<const int32_t*>(scales() + panels() * kPanelColumns); }
};

// Packs rows src[r * ld + 0..k), r < rows <= 16, into one panel at `panel` (PanelBytes(type, k) bytes; every byte is
// written, padding as zero). f32, bf16, f16: round to nearest even as engine/base/dtype.h.
void PackPanel(DType type, const float* src, int64_t ld, int64_t rows, int64_t k, void* panel);
// The same for i8: symmetric per row, scale = max|w| / 127, q = round to nearest even of w / scale. Writes 16 scales
// and 16 column sums (0 for padding). A row that holds a NaN or an infinity gets scale NaN, so that damage shows in the
// result.
void PackPanelQ8(const float* src, int64_t ld, int64_t rows, int64_t k, void* panel, float* scales,
                 int32_t* column_sums);
// Packs a whole matrix src [n, k] (leading dimension ld), scales and sums included. out: PackedBytes bytes.
void PackMatrix(DType type, const float* src, int64_t ld, int64_t n, int64_t k, void* out);

// out[0..k) = row `row` of W in f32: the embedding of a token whose table is tied to the output matrix. REQUIRES: 0 <=
// row < w.n.
void UnpackRow(const PackedMatrix& w, int64_t row, float* out);

// Are all padding elements zero (rows n..N', columns k..K')? A reader checks this before it trusts a file.
bool PaddingIsZero(const PackedMatrix& w);

}  // namespace tern
