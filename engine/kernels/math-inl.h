// Elementary functions on vectors of f32: the one definition that elementwise kernels, softmax, attention and the
// epilogues of products share.
//
// Coefficients are our own weighted minimax fits. All use the same operations on every target; NaN stays NaN.
#include "engine/kernels/compat-inl.h"

#if defined(TERN_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TERN_MATH_INL_H_
#undef TERN_MATH_INL_H_
#else
#define TERN_MATH_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {

constexpr float kLog2E = 1.44269502f;
constexpr float kLn2High = 0.693359375f;  // ten bits: n times it is exact
constexpr float kLn2Low = -0.000212194442f;
constexpr float kExpLow = -87.3f;        // below: 0, so that no denormal ever slows what follows
constexpr float kExpHigh = 88.7228394f;  // above: infinity
constexpr float kRoundMagic =
    12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits

struct Reduced {
  V t;  // kRoundMagic (+ bias) + n as bits
  V r;  // x - n ln 2
};
// x = n ln 2 + r, |r| <= ln 2 / 2. `magic` is kRoundMagic plus what shall be added to n in the bits of t.
HWY_INLINE Reduced ReduceByLn2(V x, float magic) {
  const V m = hn::Set(kD, magic);
  const V t = hn::MulAdd(x, hn::Set(kD, kLog2E), m);
  const V n = hn::Sub(t, m);
  V r = hn::NegMulAdd(n, hn::Set(kD, kLn2High), x);
  r = hn::NegMulAdd(n, hn::Set(kD, kLn2Low), r);
  return {t, r};
}
// exp(r) for |r| <= ln 2 / 2, relative error of the fit 3e-9.
HWY_INLINE V ExpReduced(V r) {
  V p = hn::Set(kD, 0.00138145394f);
  p = hn::MulAdd(p, r, hn::Set(kD, 0.00836874545f));
  p = hn::MulAdd(p, r, hn::Set(kD, 0.041668389f));
  p = hn::MulAdd(p, r, hn::Set(kD, 0.166665211f));
  p = hn::MulAdd(p, r, hn::Set(kD, 0.49999994f));
  const V one = hn::Set(kD, 1.0f);
  p = hn::MulAdd(p, r, one);
  return hn::MulAdd(p, r, one);
}
HWY_INLINE V Pow2FromBits(V t) {
  return hn::BitCast(kD, hn::ShiftLeft<23>(hn::BitCast(kDI, t)));
}

// exp(x) for x <= 88 (softmax: x - max <= 0): 0 below -87.3.
HWY_INLINE V ExpBounded(V x) {
  const Reduced a = ReduceByLn2(x, kRoundMagic + 127);
  const V y = hn::Mul(ExpReduced(a.r), Pow2FromBits(a.t));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(kD, kExpLow)), y);
}
// exp(x) for every x.
HWY_INLINE V Exp(V x) {
  const Reduced a = ReduceByLn2(x, kRoundMagic);
  // The exponent is added, not multiplied, so that n = 128 still works.
  V y = hn::BitCast(kD, hn::Add(hn::BitCast(kDI, ExpReduced(a.r)), hn::BitCast(kDI, Pow2FromBits(a.t))));
  y = hn::IfThenElse(hn::Le(x, hn::Set(kD, kExpHigh)), y, hn::Add(x, hn::Inf(kD)));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(kD, kExpLow)), y);
}
// exp(x) - 1 with a small relative error near 0 too, for -30 <= x <= 80.
HWY_INLINE V Expm1(V x) {
  const Reduced a = ReduceByLn2(x, kRoundMagic + 127);
  V p = hn::Set(kD, 0.000199142291f);
  p = hn::MulAdd(p, a.r, hn::Set(kD, 0.00139410503f));
  p = hn::MulAdd(p, a.r, hn::Set(kD, 0.00833327323f));
  p = hn::MulAdd(p, a.r, hn::Set(kD, 0.041666355f));
  p = hn::MulAdd(p, a.r, hn::Set(kD, 0.166666672f));
  p = hn::MulAdd(p, a.r, hn::Set(kD, 0.5f));
  p = hn::MulAdd(hn::Mul(p, a.r), a.r, a.r);
  const V s = Pow2FromBits(a.t);
  return hn::MulAdd(p, s, hn::Sub(s, hn::Set(kD, 1.0f)));
}

HWY_INLINE V Sigmoid(V x) {
  const V one = hn::Set(kD, 1.0f);
  return hn::Div(one, hn::Add(one, Exp(hn::Neg(x))));
}
HWY_INLINE V Silu(V x) {
  return hn::Mul(x, Sigmoid(x));
}

HWY_INLINE V Tanh(V x) {
  const V a = hn::Abs(x);
  // tanh(10) rounds to 1. The comparison is false for NaN, which so goes on.
  const V bounded = hn::IfThenElse(hn::Gt(a, hn::Set(kD, 10.0f)), hn::Set(kD, 10.0f), a);
  const V e = Expm1(hn::Add(bounded, bounded));
  return hn::CopySign(hn::Div(e, hn::Add(e, hn::Set(kD, 2.0f))), x);
}

// x Phi(x), Phi the normal distribution. q(a) = -log Phi(-a), a = |x|, is a smooth function that a polynomial follows
// on [0, 6]; beyond it grows as a^2 / 2. So the left tail keeps its digits and no division is needed. Absolute error
// below 1e-7 max(1, |x|).
HWY_INLINE V Gelu(V x) {
  const V a = hn::Abs(x), six = hn::Set(kD, 6.0f);
  const V b = hn::IfThenElse(hn::Gt(a, six), six, a);
  V q = hn::Set(kD, 2.00263024e-08f);
  q = hn::MulAdd(q, b, hn::Set(kD, -5.98071381e-07f));
  q = hn::MulAdd(q, b, hn::Set(kD, 7.63892513e-06f));
  q = hn::MulAdd(q, b, hn::Set(kD, -5.31726801e-05f));
  q = hn::MulAdd(q, b, hn::Set(kD, 0.000194022999f));
  q = hn::MulAdd(q, b, hn::Set(kD, 1.08556401e-06f));
  q = hn::MulAdd(q, b, hn::Set(kD, -0.00481870864f));
  q = hn::MulAdd(q, b, hn::Set(kD, 0.0363533646f));
  q = hn::MulAdd(q, b, hn::Set(kD, 0.318305939f));
  q = hn::MulAdd(q, b, hn::Set(kD, 0.797884822f));
  q = hn::MulAdd(q, b, hn::Set(kD, 0.693147182f));
  const V beyond = hn::Mul(hn::Set(kD, 0.5f), hn::Mul(hn::Sub(a, b), hn::Add(a, b)));
  const V left = ExpBounded(hn::Neg(hn::Add(q, beyond)));  // Phi(-a)
  const V right = hn::Sub(hn::Set(kD, 1.0f), left);
  return hn::Mul(x, hn::IfThenElse(hn::Lt(x, hn::Zero(kD)), left, right));
}
HWY_INLINE V GeluNew(V x) {
  const V x2 = hn::Mul(x, x);
  const V inner =
      hn::Mul(hn::Mul(x, hn::Set(kD, 0.797884583f)), hn::MulAdd(x2, hn::Set(kD, 0.044715f), hn::Set(kD, 1.0f)));
  const V half = hn::Mul(x, hn::Set(kD, 0.5f));
  return hn::MulAdd(half, Tanh(inner), half);
}
HWY_INLINE V Relu(V x) {
  return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(kD)), x);
}

}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();
#endif  // TERN_MATH_INL_H_
