// Feature maps of FAVOR+ over rows, and its step of one token.
#include <limits>

#include "engine/kernels/kernels.h"
#include "engine/kernels/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/favor_features.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After highway.h.
#include "engine/kernels/reduce-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {
namespace {

// out[i] = f(vector of x at i, i); returns the sum, in the fixed lanes of reduce-inl.h.
template <class F>
HWY_INLINE float MapSum(const float* x, int64_t n, float* out, F f) {
  V acc[4 * kVectors];
  SetAll(acc, 0.0f);
  ForBlocks(n, acc, [x, out, f](V a, int64_t i) HWY_ATTR {
    const V e = f(hn::LoadU(kD, x + i), i);
    hn::StoreU(e, kD, out + i);
    return hn::Add(a, e);
  });
  if (n % 16 != 0) {
    Tail tail(x, n, 0.0f);
    HWY_UNROLL(16)
    for (int64_t c = 0; c < kVectors; ++c) {
      const V e = f(hn::Load(kD, tail.lanes + c * kLanes), -1 - c);
      hn::Store(e, kD, tail.lanes + c * kLanes);
    }
    tail.CopyTo(out);
    for (int64_t i = tail.count; i < 16; ++i) tail.lanes[i] = 0;
    HWY_UNROLL(16)
    for (int64_t c = 0; c < kVectors; ++c) acc[c] = hn::Add(acc[c], hn::Load(kD, tail.lanes + c * kLanes));
  }
  return JoinSum(acc);
}

float ExpFeatures(const float* x, float shift, float add, int64_t n, float* out) {
  return MapSum(x, n, out, [shift, add](V v, int64_t) HWY_ATTR {
    return hn::Add(ExpBounded(hn::Sub(v, hn::Set(kD, shift))), hn::Set(kD, add));
  });
}

float ExpColumns(const float* x, const float* shifts, int64_t n, float* out) {
  const Tail last(shifts, n, 0.0f);
  const float* lanes = last.lanes;
  return MapSum(x, n, out, [shifts, lanes](V v, int64_t i) HWY_ATTR {
    const V s = hn::LoadU(kD, i >= 0 ? shifts + i : lanes + (-1 - i) * kLanes);
    return ExpBounded(hn::Sub(v, s));
  });
}

float MapFeatures(FavorKernel kernel, const float* x, float add, int64_t n, float* out) {
  switch (kernel) {
    case FavorKernel::kElu1:
      return MapSum(x, n, out, [add](V v, int64_t) HWY_ATTR {
        const V one = hn::Set(kD, 1.0f), zero = hn::Zero(kD);
        const V below = ExpBounded(hn::IfThenElse(hn::Gt(v, zero), zero, v));
        return hn::Add(hn::IfThenElse(hn::Gt(v, zero), hn::Add(v, one), below), hn::Set(kD, add));
      });
    case FavorKernel::kExp:
      return MapSum(x, n, out, [add](V v, int64_t) HWY_ATTR {
        const V most = hn::Set(kD, 60.0f);
        return hn::Add(ExpBounded(hn::IfThenElse(hn::Gt(v, most), most, v)), hn::Set(kD, add));
      });
    case FavorKernel::kSigmoid:
      return MapSum(x, n, out, [add](V v, int64_t) HWY_ATTR { return hn::Add(Sigmoid(v), hn::Set(kD, add)); });
    default:
      return MapSum(x, n, out, [add](V v, int64_t) HWY_ATTR { return hn::Add(Relu(v), hn::Set(kD, add)); });
  }
}

// Four sums per lane hide the latency of the multiply-add.
void FavorStep(float* HWY_RESTRICT s, int64_t m, int64_t panels, float alpha, const float* HWY_RESTRICT k, const float* HWY_RESTRICT v,
               const float* HWY_RESTRICT q, float* HWY_RESTRICT out) {
  const V a = hn::Set(kD, alpha);
  for (int64_t p = 0; p < panels; ++p)
    for (int64_t c = 0; c < 16; c += kLanes) {
      float* HWY_RESTRICT column = s + p * m * 16 + c;
      const V value = hn::LoadU(kD, v + p * 16 + c);
      V sums[4] = {hn::Zero(kD), hn::Zero(kD), hn::Zero(kD), hn::Zero(kD)};
      int64_t f = 0;
      for (; f + 4 <= m; f += 4) {
        HWY_UNROLL(4)
        for (int64_t j = 0; j < 4; ++j) {
          float* at = column + (f + j) * 16;
          const V now = hn::MulAdd(a, hn::LoadU(kD, at), hn::Mul(hn::Set(kD, k[f + j]), value));
          hn::StoreU(now, kD, at);
          sums[j] = hn::MulAdd(hn::Set(kD, q[f + j]), now, sums[j]);
        }
      }
      for (; f < m; ++f) {
        float* at = column + f * 16;
        const V now = hn::MulAdd(a, hn::LoadU(kD, at), hn::Mul(hn::Set(kD, k[f]), value));
        hn::StoreU(now, kD, at);
        sums[0] = hn::MulAdd(hn::Set(kD, q[f]), now, sums[0]);
      }
      hn::StoreU(hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])), kD, out + p * 16 + c);
    }
}

}  // namespace

void FillFavor(KernelTable* table) {
  table->exp_features = ExpFeatures;
  table->exp_columns = ExpColumns;
  table->map_features = MapFeatures;
  table->favor_step = FavorStep;
}

}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();
