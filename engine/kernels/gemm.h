// Matrix products over packed weights: y [M, N] = act(x [M, K] W [N, K]^T + bias [N]).
#pragma once

#include <cstdint>

#include "engine/kernels/packed.h"

namespace tern {

// What is done to a value of y before it is written. The functions are those of RowKernels (rows.h), bit for bit.
enum class Epilogue : uint8_t { kNone, kRelu, kGelu /* erf */, kGeluNew /* tanh form */, kSilu, kTanh };

// One product, or the part of it that stands in panels [panel_begin, panel_end). REQUIRES: 0 <= panel_begin <=
// panel_end <= w.panels(), m >= 0. Writes y[i * ldy + n] for i < m and 16 * panel_begin <= n < min(w.n, 16 *
// panel_end), nothing else. x, y, bias need no alignment. y overlaps no input.
struct GemmCall {
  const float* x = nullptr;  // [M, K]
  int64_t ldx = 0;           // >= K
  int64_t m = 0;
  PackedMatrix w;  // f32, bf16, f16
  int64_t panel_begin = 0, panel_end = 0;
  const float* bias = nullptr;  // [N] or null
  Epilogue epilogue = Epilogue::kNone;
  bool accumulate = false;  // y += instead of y =
  float* y = nullptr;
  int64_t ldy = 0;          // >= N
  void* scratch = nullptr;  // GemmScratchBytes(w.type, m, w.k) bytes, 64-byte aligned; one per concurrent call
};

// Bytes of scratch of one gemm call with at most m rows (monotone in m, not in k).
int64_t GemmScratchBytes(DType type, int64_t m, int64_t k);

// The running log-sum-exp of one row over one block of kLseColumns columns, and what else scoring and greedy decoding
// ask of it.
struct LsePart {
  float max = 0;     // the largest logit of the block
  float sum = 0;     // sum of exp(logit - max)
  float target = 0;  // the target's logit if it stands in this block, else 0
  int32_t has_target = 0;
  int64_t argmax = 0;  // column of `max`, the lowest on ties
};
constexpr int64_t kLsePanels = 32;
constexpr int64_t kLseColumns = kLsePanels * kPanelColumns;
constexpr int64_t LseBlocks(int64_t n) {
  return CeilDiv(n, kLseColumns);
}

// Logits that are never written: for every row of x and every block of columns, an LsePart. Blocks are fixed
// (independent of threads), so the combined figure has the same bits whoever computes which block.
struct GemmLseCall {
  const float* x = nullptr;  // [M, K]
  int64_t ldx = 0;
  int64_t m = 0;
  PackedMatrix w;                          // f32, bf16, f16; n >= 1
  const float* bias = nullptr;             // [N] or null
  int64_t block_begin = 0, block_end = 0;  // of LseBlocks(w.n)
  const int64_t* targets = nullptr;        // [M] columns (negative: none), or null
  LsePart* parts = nullptr;                // parts[block * m + row]
  void* scratch = nullptr;                 // GemmLseScratchBytes(w.type, m, w.k)
};
int64_t GemmLseScratchBytes(DType type, int64_t m, int64_t k);

// Joins the parts of one row: parts[0], parts[stride], ... in this order; in double. log_sum_exp is NaN if a logit was.
struct LseRow {
  double log_sum_exp = 0;
  double target = 0;  // logit; log-probability = target - log_sum_exp
  bool has_target = false;
  double max = 0;
  int64_t argmax = 0;
};
LseRow JoinLse(const LsePart* parts, int64_t blocks, int64_t stride);

// int8 products. x is quantised per row: u = round(x / scale) + 128 in 1..255, symmetric with zero point 128, scale =
// max|x| / 127, so that y = scale_x * scale_w[n] * (sum u q - 128 sum q). The integer sum is exact on every target, and
// the f32 operations that follow are the same ones, so all targets give the same bits. REQUIRES: w.k <= kMostQ8Columns
// (the sum fits 32 bits).
struct GemmQ8Call {
  const uint8_t* x = nullptr;       // [M, K'] K' = K padded to 4 (padding: 128)
  const float* x_scales = nullptr;  // [M]
  int64_t ldx = 0;                  // >= K'
  int64_t m = 0;
  PackedMatrix w;  // i8
  int64_t panel_begin = 0, panel_end = 0;
  const float* bias = nullptr;
  Epilogue epilogue = Epilogue::kNone;
  bool accumulate = false;
  float* y = nullptr;
  int64_t ldy = 0;
};

struct GemmKernels {
  // Every value is acc = 0; for k = 0..K-1 in order: acc = fma(x[k], w[k], acc); acc += bias; acc = epilogue(acc); y =
  // acc, or y + acc if accumulate. The bits therefore do not depend on M, N, the panel range or the number of threads,
  // and avx2, avx512 and neon agree (baseline rounds the product too).
  void (*gemm)(const GemmCall&);
  void (*gemm_lse)(const GemmLseCall&);
  void (*gemm_q8)(const GemmQ8Call&);
  // x [k] -> u [k padded to 4] and its scale (0 for a row of zeros; NaN for a row with a NaN or infinity).
  void (*quantize_row)(const float* x, int64_t k, uint8_t* u, float* scale);
  // Packs activations at run time, f32. rows: src [n, k]; columns: src [k, n] (so that x src = gemm(x, packed)). out:
  // PackedBytes(f32, n, k), 64-byte aligned.
  void (*pack_rows)(const float* src, int64_t ld, int64_t n, int64_t k, float* out);
  void (*pack_columns)(const float* src, int64_t ld, int64_t n, int64_t k, float* out);
};

}  // namespace tern
