// Expectations of Gaussian basis functions.
#include "engine/kernels/kernels.h"
#include "engine/kernels/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/continuous.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After highway.h.
#include "engine/kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {
namespace {

HWY_INLINE V Expectation(V mu, V variance, V center, V own) {
  const V r = hn::Div(hn::Set(kD, 1.0f), hn::Add(own, variance));
  const V d = hn::Sub(mu, center);
  const V e = Exp(hn::Mul(hn::Mul(hn::Mul(d, d), r), hn::Set(kD, -0.5f)));
  return hn::Mul(e, hn::Mul(hn::Sqrt(r), hn::Set(kD, 0.398942280f)));  // 1 / sqrt(2 pi)
}

void GaussianExpectation(float mu, float variance, const float* centers, const float* variances, int64_t n, float* y) {
  const V m = hn::Set(kD, mu), v = hn::Set(kD, variance);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    hn::StoreU(Expectation(m, v, hn::LoadU(kD, centers + i), hn::LoadU(kD, variances + i)), kD, y + i);
  if (i == n) return;
  HWY_ALIGN float c[kLanes] = {}, s[kLanes];
  for (int64_t k = 0; k < kLanes; ++k) s[k] = 1.0f;
  for (int64_t k = 0; k < n - i; ++k) c[k] = centers[i + k], s[k] = variances[i + k];
  hn::Store(Expectation(m, v, hn::Load(kD, c), hn::Load(kD, s)), kD, c);
  for (int64_t k = 0; k < n - i; ++k) y[i + k] = c[k];
}

}  // namespace

void FillContinuous(KernelTable* table) {
  table->gaussian_expectation = GaussianExpectation;
}

}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();
