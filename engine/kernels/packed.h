// Packed matrices: the layout of a weight W [N, K] (N outputs, K inputs) in panels of 16 outputs, the same for every
// CPU and the same on disk. Plain C++: the file writer, the loader and the kernels share this header.
//
//   type        panel (N is padded to 16, K to the number in brackets, with zeros)       behind the last panel
//   f32         [K][16]                                                                   -
//   bf16, f16   [K/2][16][2]   (2)                                                        -
//   i8          [K/4][16][4]   (4)     W[n][k] = scale[n] * q[n][k], -127 <= q <= 127     f32 scale [N'], i32 column
//   sum of q [N'], N' = N padded; i32 source column [E] of the split columns
//
// Split columns (i8 only; outlier channel splitting, Zhao et al. 2019): inputs that are much larger than the others of
// their row would take the whole range of eight bits. The column j of such an input stands m times in W, once in its
// place and m - 1 times among E further columns behind the last, and x[j] / m is multiplied with each: the row's range
// shrinks, the product stays. The copies of a weight are rounded at different places of the interval, so that their
// mean is m times as fine. K below counts the split columns too.
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
constexpr int64_t kMostQ8Columns = 65536;  // K of an i8 product: its sum fits 32 bits

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

// Bytes of a packed [n, k] matrix, scales, sums and the sources of `splits` of its columns included. nullopt: the type
// has no panel layout, a size is negative, more columns are split than there are, or the product overflows.
std::optional<int64_t> PackedBytes(DType type, int64_t n, int64_t k, int64_t splits = 0);

// A view; owns nothing. REQUIRES of data: PackedBytes(type, n, k) bytes, 64-byte aligned.
struct PackedMatrix {
  const void* data = nullptr;
  DType type = DType::f32;
  int64_t n = 0;  // outputs: rows of W, columns of y
  int64_t k = 0;  // inputs, split ones counted as often as they stand
  int64_t splits = 0;  // of k, those at the end that stand for another

  int64_t panels() const { return PanelCount(n); }
  int64_t panel_bytes() const { return PanelBytes(type, k); }
  const void* panel(int64_t p) const { return static_cast<const uint8_t*>(data) + p * panel_bytes(); }
  // i8 only.
  const float* scales() const { return static_cast<const float*>(panel(panels())); }
  const int32_t* column_sums() const { return reinterpret_cast<const int32_t*>(scales() + panels() * kPanelColumns); }
  const int32_t* split_sources() const { return column_sums() + panels() * kPanelColumns; }  // [splits], ascending
  int64_t inputs() const { return k - splits; }
};

// Packs rows src[r * ld + 0..k), r < rows <= 16, into one panel at `panel` (PanelBytes(type, k) bytes; every byte is
// written, padding as zero). f32, bf16, f16: round to nearest even as engine/base/dtype.h.
void PackPanel(DType type, const float* src, int64_t ld, int64_t rows, int64_t k, void* panel);
// The same for i8: symmetric per row, scale = max|w| / 127, q = round to nearest even of w / scale. Writes 16 scales
// and 16 column sums (0 for padding). A row that holds a NaN or an infinity gets scale NaN, so that damage shows in the
// result.
void PackPanelQ8(const float* src, int64_t ld, int64_t rows, int64_t k, void* panel, float* scales,
                 int32_t* column_sums);
// The same for one row that is only looked up: q [k] plain; gives the scale.
float QuantizeWeights(const float* row, int64_t k, int8_t* q);
// A row of weights with its split columns: out [k + splits]. largest = max|row|, which fixes where copies are rounded.
void SplitWeights(const float* row, int64_t k, const int32_t* sources, int64_t splits, float* out);
// A row of x with its split columns: out [k + splits], each copy x[j] / m. out may be x itself.
void SplitInputs(const float* x, int64_t k, const int32_t* sources, int64_t splits, float* out);
// Packs a whole matrix src [n, k] (leading dimension ld), scales and sums included. out: PackedBytes bytes.
void PackMatrix(DType type, const float* src, int64_t ld, int64_t n, int64_t k, void* out);

// out[0..w.inputs()) = row `row` of W in f32, split columns joined: the embedding of a token whose table is tied to the
// output matrix. REQUIRES: 0 <= row < w.n, and sources that CheckQ8 has seen.
void UnpackRow(const PackedMatrix& w, int64_t row, float* out);

// Are all padding elements zero (rows n..N', columns k..K')? A reader checks this before it trusts a file.
bool PaddingIsZero(const PackedMatrix& w);

// What else a reader checks of i8: null, or what is wrong. Sources are needed before anything is multiplied or looked
// up; the whole reads every byte (no -128, column sums as they must be; scales are numbers from 0 up, or NaN where a row
// was no number).
const char* CheckSplitSources(const PackedMatrix& w);
const char* CheckQ8(const PackedMatrix& w);

}  // namespace tern
