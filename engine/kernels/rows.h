// Row and elementwise kernels. All work on f32; n >= 0 elements; no alignment needed; y may be the same array as an
// input (but not overlap it shifted).
//
// Sums over a row run in 16 fixed lanes joined by a fixed tree, so avx2, avx512 and neon give the same bits; baseline
// differs only by unfused multiply-adds.
#pragma once

#include <cstdint>

namespace tern {

struct RowKernels {
  // s = x (+ residual); y = (s - mean(s)) / sqrt(var(s) + eps) * gamma + beta. Mean and variance in two passes.
  // residual, gamma, beta, sum may be null; `sum` receives s (it may be x or residual, not y). n >= 1.
  void (*layer_norm)(const float* x, const float* residual, const float* gamma, const float* beta, float eps, int64_t n,
                     float* sum, float* y);
  // s = x (+ residual); y = s / sqrt(mean(s^2) + eps) * gamma (T5's layer norm).
  void (*rms_norm)(const float* x, const float* residual, const float* gamma, float eps, int64_t n, float* sum,
                   float* y);

  // y = exp(x - max) / sum. A row of only -infinity gives zeros. -infinity gives exactly 0. NaN spreads over the row.
  void (*softmax)(const float* x, int64_t n, float* y);
  // y = x - log_sum_exp(x).
  void (*log_softmax)(const float* x, int64_t n, float* y);
  // -infinity if n == 0 or all are.
  float (*log_sum_exp)(const float* x, int64_t n);
  // -infinity if n == 0. NaN is skipped (a row of NaN gives -infinity).
  float (*max)(const float* x, int64_t n);
  // The lowest index of the largest value; NaN counts as -infinity; 0 if all are. -1 if n == 0.
  int64_t (*argmax)(const float* x, int64_t n);
  // The k largest (k <= n), values descending, equal values by ascending index; NaN counts as -infinity. Writes k
  // values and k indices.
  void (*top_k)(const float* x, int64_t n, int64_t k, float* values, int32_t* indices);
  float (*sum)(const float* x, int64_t n);
  float (*dot)(const float* a, const float* b, int64_t n);

  // Within 1.5 ULP; exactly 0 below -87.3 (never a denormal), infinity above 88.72.
  void (*exp)(const float* x, int64_t n, float* y);
  void (*gelu)(const float* x, int64_t n, float* y);      // x/2 (1 + erf(x / sqrt 2))
  void (*gelu_new)(const float* x, int64_t n, float* y);  // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
  void (*relu)(const float* x, int64_t n, float* y);      // NaN stays
  void (*silu)(const float* x, int64_t n, float* y);      // x sigmoid(x)
  void (*tanh)(const float* x, int64_t n, float* y);
  void (*sigmoid)(const float* x, int64_t n, float* y);

  void (*add)(const float* a, const float* b, int64_t n, float* y);  // y = a + b
  void (*mul)(const float* a, const float* b, int64_t n, float* y);  // y = a b
  void (*scale)(const float* x, float s, int64_t n, float* y);       // y = s x
  void (*add_scaled)(const float* x, float s, int64_t n, float* y);  // y = fma(s, x, y)

  // Exactly engine/base/dtype.h: round to nearest even; NaN stays NaN.
  void (*bf16_to_f32)(const uint16_t* x, int64_t n, float* y);
  void (*f16_to_f32)(const uint16_t* x, int64_t n, float* y);
  void (*f32_to_bf16)(const float* x, int64_t n, uint16_t* y);
  void (*f32_to_f16)(const float* x, int64_t n, uint16_t* y);
};

}  // namespace tern
