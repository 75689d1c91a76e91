// Kernels that reduce a row: norms, softmax, maxima, sums.
#include <cmath>
#include <limits>

#include "engine/kernels/kernels.h"
#include "engine/kernels/targets.h"
#include "engine/kernels/top_k.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/rows.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After highway.h.
#include "engine/kernels/reduce-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {
namespace {

float SumRow(const float* x, int64_t n) {
  V acc[4 * kVectors];
  SetAll(acc, 0.0f);
  ForBlocks(n, acc, [x](V a, int64_t i) HWY_ATTR { return hn::Add(a, hn::LoadU(kD, x + i)); });
  if (n % 16 != 0) {
    const Tail tail(x, n, 0.0f);
    HWY_UNROLL(16)
    for (int64_t c = 0; c < kVectors; ++c) acc[c] = hn::Add(acc[c], hn::Load(kD, tail.lanes + c * kLanes));
  }
  return JoinSum(acc);
}

float DotRow(const float* a, const float* b, int64_t n) {
  V acc[4 * kVectors];
  SetAll(acc, 0.0f);
  ForBlocks(n, acc,
            [a, b](V s, int64_t i) HWY_ATTR { return hn::MulAdd(hn::LoadU(kD, a + i), hn::LoadU(kD, b + i), s); });
  if (n % 16 != 0) {
    const Tail p(a, n, 0.0f), q(b, n, 0.0f);
    HWY_UNROLL(16)
    for (int64_t c = 0; c < kVectors; ++c)
      acc[c] = hn::MulAdd(hn::Load(kD, p.lanes + c * kLanes), hn::Load(kD, q.lanes + c * kLanes), acc[c]);
  }
  return JoinSum(acc);
}

// sum (x - center)^2
HWY_INLINE float SumOfSquares(const float* x, float center, int64_t n) {
  V acc[4 * kVectors];
  SetAll(acc, 0.0f);
  ForBlocks(n, acc, [x, center](V s, int64_t i) HWY_ATTR {
    const V d = hn::Sub(hn::LoadU(kD, x + i), hn::Set(kD, center));
    return hn::MulAdd(d, d, s);
  });
  if (n % 16 != 0) {
    const Tail tail(x, n, center);
    HWY_UNROLL(16)
    for (int64_t c = 0; c < kVectors; ++c) {
      const V d = hn::Sub(hn::Load(kD, tail.lanes + c * kLanes), hn::Set(kD, center));
      acc[c] = hn::MulAdd(d, d, acc[c]);
    }
  }
  return JoinSum(acc);
}

// to = a + b
HWY_INLINE void AddInto(const float* a, const float* b, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) hn::StoreU(hn::Add(hn::LoadU(kD, a + i), hn::LoadU(kD, b + i)), kD, to + i);
  for (; i < n; ++i) to[i] = a[i] + b[i];
}

// y = (x - center) * factor * gamma + beta; null gamma: 1, null beta: 0.
HWY_INLINE void Normalize(const float* x, float center, float factor, const float* gamma, const float* beta, int64_t n,
                          float* y) {
  const V c = hn::Set(kD, center), f = hn::Set(kD, factor);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    V v = hn::Mul(hn::Sub(hn::LoadU(kD, x + i), c), f);
    if (gamma && beta)
      v = hn::MulAdd(v, hn::LoadU(kD, gamma + i), hn::LoadU(kD, beta + i));
    else if (gamma)
      v = hn::Mul(v, hn::LoadU(kD, gamma + i));
    else if (beta)
      v = hn::Add(v, hn::LoadU(kD, beta + i));
    hn::StoreU(v, kD, y + i);
  }
  if (i == n) return;
  HWY_ALIGN float v[kLanes] = {}, g[kLanes] = {}, b[kLanes] = {};
  for (int64_t j = 0; j < n - i; ++j) {
    v[j] = x[i + j];
    g[j] = gamma ? gamma[i + j] : 1.0f;
    b[j] = beta ? beta[i + j] : 0.0f;
  }
  const V scaled = hn::Mul(hn::Sub(hn::Load(kD, v), c), f);
  hn::Store(hn::MulAdd(scaled, hn::Load(kD, g), hn::Load(kD, b)), kD, v);
  for (int64_t j = 0; j < n - i; ++j) y[i + j] = v[j];
}

// x, or x + residual in `sum` (in y if sum is null).
HWY_INLINE const float* Residual(const float* x, const float* residual, int64_t n, float* sum, float* y) {
  float* to = sum ? sum : y;
  if (residual)
    AddInto(x, residual, n, to);
  else if (sum && sum != x)
    for (int64_t i = 0; i < n; ++i) to[i] = x[i];
  else
    return x;
  return to;
}

void LayerNormRow(const float* x, const float* residual, const float* gamma, const float* beta, float eps, int64_t n,
                  float* sum, float* y) {
  if (n <= 0) return;
  x = Residual(x, residual, n, sum, y);
  const float mean = SumRow(x, n) / static_cast<float>(n);
  const float variance = SumOfSquares(x, mean, n) / static_cast<float>(n);
  Normalize(x, mean, 1.0f / std::sqrt(variance + eps), gamma, beta, n, y);
}

void RmsNormRow(const float* x, const float* residual, const float* gamma, float eps, int64_t n, float* sum, float* y) {
  if (n <= 0) return;
  x = Residual(x, residual, n, sum, y);
  const float mean_square = SumOfSquares(x, 0.0f, n) / static_cast<float>(n);
  Normalize(x, 0.0f, 1.0f / std::sqrt(mean_square + eps), gamma, nullptr, n, y);
}

void SoftmaxRow(const float* x, int64_t n, float* y) {
  float shift = MaxRow(x, n);
  if (shift == -kInfinity) shift = 0.0f;  // all terms become 0, or NaN where x is
  const float sum = SumExp<true>(x, shift, n, y);
  const float factor = sum == 0.0f ? 0.0f : 1.0f / sum;
  const V f = hn::Set(kD, factor);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) hn::StoreU(hn::Mul(hn::LoadU(kD, y + i), f), kD, y + i);
  for (; i < n; ++i) y[i] *= factor;
}

float LogSumExpRow(const float* x, int64_t n) {
  const float max = MaxRow(x, n), shift = max == -kInfinity ? 0.0f : max;
  const float sum = SumExp<false>(x, shift, n, nullptr);
  return static_cast<float>(static_cast<double>(shift) + std::log(static_cast<double>(sum)));
}

void LogSoftmaxRow(const float* x, int64_t n, float* y) {
  const float lse = LogSumExpRow(x, n);
  const V s = hn::Set(kD, lse);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) hn::StoreU(hn::Sub(hn::LoadU(kD, x + i), s), kD, y + i);
  for (; i < n; ++i) y[i] = x[i] - lse;
}

int64_t ArgmaxRow(const float* x, int64_t n) {
  return n <= 0 ? -1 : IndexOfMax(x, n, MaxRow(x, n));
}
float Max(const float* x, int64_t n) {
  return MaxRow(x, n);
}

void TopKRow(const float* x, int64_t n, int64_t k, float* values, int32_t* indices) {
  if (k <= 0) return;
  TopK top{values, indices, k};
  for (int64_t i = 0; i < k; ++i) {
    values[i] = x[i] == x[i] ? x[i] : -kInfinity;
    indices[i] = static_cast<int32_t>(i);
  }
  top.Heapify();
  int64_t i = k;
  for (; i + kLanes <= n; i += kLanes) {
    if (hn::AllFalse(kD, hn::Gt(hn::LoadU(kD, x + i), hn::Set(kD, values[0])))) continue;
    for (int64_t j = i; j < i + kLanes; ++j)
      if (x[j] > values[0]) top.ReplaceWorst(x[j], static_cast<int32_t>(j));
  }
  for (; i < n; ++i)
    if (x[i] > values[0]) top.ReplaceWorst(x[i], static_cast<int32_t>(i));
  top.Sort();
}

}  // namespace

void FillRows(KernelTable* table) {
  table->layer_norm = LayerNormRow;
  table->rms_norm = RmsNormRow;
  table->softmax = SoftmaxRow;
  table->log_softmax = LogSoftmaxRow;
  table->log_sum_exp = LogSumExpRow;
  table->max = Max;
  table->argmax = ArgmaxRow;
  table->top_k = TopKRow;
  table->sum = SumRow;
  table->dot = DotRow;
}

}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();
