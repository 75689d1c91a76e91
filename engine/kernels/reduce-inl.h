// Reductions over a row, the same bits on any vector width: four accumulators of sixteen lanes, joined in a fixed
// order.
#include "engine/kernels/math-inl.h"

#if defined(TERN_REDUCE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TERN_REDUCE_INL_H_
#undef TERN_REDUCE_INL_H_
#else
#define TERN_REDUCE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// acc = f(acc, i) for all whole blocks of sixteen elements of 0..n-1. `acc` are four accumulators of sixteen lanes
// each, taken in turn so that four chains run at once: which element goes to which lane does not depend on the vector
// width.
template <class F>
HWY_INLINE void ForBlocks(int64_t n, V (&acc)[4 * kVectors], F f) {
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    HWY_UNROLL(16)
    for (int64_t c = 0; c < 4 * kVectors; ++c) acc[c] = f(acc[c], i + c * kLanes);
  }
  for (; i + 16 <= n; i += 16) {
    HWY_UNROLL(16)
    for (int64_t c = 0; c < kVectors; ++c) acc[c] = f(acc[c], i + c * kLanes);
  }
}
HWY_INLINE void SetAll(V (&acc)[4 * kVectors], float s) {
  HWY_UNROLL(16)
  for (int64_t c = 0; c < 4 * kVectors; ++c) acc[c] = hn::Set(kD, s);
}
// Sum of all lanes: the four accumulators pairwise, then sixteen lanes by a tree.
HWY_INLINE float JoinSum(const V (&acc)[4 * kVectors]) {
  HWY_ALIGN float t[16];
  HWY_UNROLL(16)
  for (int64_t c = 0; c < kVectors; ++c)
    hn::Store(hn::Add(hn::Add(acc[c], acc[c + kVectors]), hn::Add(acc[c + 2 * kVectors], acc[c + 3 * kVectors])), kD,
              t + c * kLanes);
  for (int step = 8; step > 0; step /= 2)
    for (int i = 0; i < step; ++i) t[i] += t[i + step];
  return t[0];
}
HWY_INLINE float JoinMax(const V (&acc)[4 * kVectors]) {
  HWY_ALIGN float t[16];
  HWY_UNROLL(16)
  for (int64_t c = 0; c < kVectors; ++c)
    hn::Store(hn::Max(hn::Max(acc[c], acc[c + kVectors]), hn::Max(acc[c + 2 * kVectors], acc[c + 3 * kVectors])), kD,
              t + c * kLanes);
  for (int i = 1; i < 16; ++i) t[0] = t[i] > t[0] ? t[i] : t[0];
  return t[0];
}

// The last n % 16 elements of a row, padded to a whole block.
struct Tail {
  HWY_ALIGN float lanes[16];
  int64_t begin, count;

  HWY_INLINE Tail(const float* x, int64_t n, float fill) : begin(n / 16 * 16), count(n % 16) {
    for (int64_t i = 0; i < 16; ++i) lanes[i] = i < count ? x[begin + i] : fill;
  }
  HWY_INLINE void CopyTo(float* y) const {
    for (int64_t i = 0; i < count; ++i) y[begin + i] = lanes[i];
  }
};

HWY_INLINE float MaxRow(const float* x, int64_t n) {
  V acc[4 * kVectors];
  SetAll(acc, -kInfinity);
  ForBlocks(n, acc, [x](V a, int64_t i) HWY_ATTR { return MaxSkippingNan(hn::LoadU(kD, x + i), a); });
  if (n % 16 != 0) {
    const Tail tail(x, n, -kInfinity);
    HWY_UNROLL(16)
    for (int64_t c = 0; c < kVectors; ++c) acc[c] = MaxSkippingNan(hn::Load(kD, tail.lanes + c * kLanes), acc[c]);
  }
  return JoinMax(acc);
}

// sum exp(x - shift); writes the terms to y unless it is null.
template <bool kWrite>
HWY_INLINE float SumExp(const float* x, float shift, int64_t n, float* y) {
  V acc[4 * kVectors];
  SetAll(acc, 0.0f);
  ForBlocks(n, acc, [x, shift, y](V a, int64_t i) HWY_ATTR {
    const V e = ExpBounded(hn::Sub(hn::LoadU(kD, x + i), hn::Set(kD, shift)));
    if (kWrite) hn::StoreU(e, kD, y + i);
    return hn::Add(a, e);
  });
  if (n % 16 != 0) {
    Tail tail(x, n, -kInfinity);
    HWY_UNROLL(16)
    for (int64_t c = 0; c < kVectors; ++c) {
      const V e = ExpBounded(hn::Sub(hn::Load(kD, tail.lanes + c * kLanes), hn::Set(kD, shift)));
      hn::Store(e, kD, tail.lanes + c * kLanes);
      acc[c] = hn::Add(acc[c], e);
    }
    if (kWrite) tail.CopyTo(y);
  }
  return JoinSum(acc);
}

// The lowest index of `max`, the row's MaxRow; 0 if that is -infinity. REQUIRES: n >= 1.
HWY_INLINE int64_t IndexOfMax(const float* x, int64_t n, float max) {
  if (max == -kInfinity) return 0;
  const V m = hn::Set(kD, max);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    if (!hn::AllFalse(kD, hn::Eq(hn::LoadU(kD, x + i), m))) break;
  while (x[i] != max) ++i;  // it is there
  return i;
}

}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();
#endif  // TERN_REDUCE_INL_H_
