// What the kernels say in place of Highway where 1.0.3 and later versions differ, and the sixteen lanes every reduction
// runs in.
#include "hwy/highway.h"

#if defined(TERN_COMPAT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TERN_COMPAT_INL_H_
#undef TERN_COMPAT_INL_H_
#else
#define TERN_COMPAT_INL_H_
#endif

// No vectors worth the name: bodies that need more than one-lane arithmetic have a plain loop under this.
#undef TERN_PLAIN
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
#define TERN_PLAIN 1
#else
#define TERN_PLAIN 0
#endif

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
using M = hn::Mask<D>;
constexpr D kD;
using DI = hn::RebindToSigned<D>;
constexpr DI kDI;
constexpr int64_t kLanes = static_cast<int64_t>(sizeof(V) / sizeof(float));
constexpr int64_t kVectors = 16 / kLanes;  // vectors in sixteen floats

// The larger of x and `best`; `best` where x is NaN.
HWY_INLINE V MaxSkippingNan(V x, V best) {
#if HWY_ARCH_X86 && !TERN_PLAIN
  return hn::Max(x, best);  // maxps gives its second operand if either is NaN
#else
  return hn::IfThenElse(hn::Gt(x, best), x, best);
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();
#endif  // TERN_COMPAT_INL_H_
