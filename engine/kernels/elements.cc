// Elementwise kernels and conversions between element types.
#include <cstring>

#include "engine/base/dtype.h"
#include "engine/kernels/kernels.h"
#include "engine/kernels/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/elements.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After highway.h.
#include "engine/kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {
namespace {

// The last n < kLanes elements go through a buffer.
HWY_INLINE void CopyPart(const float* from, int64_t n, float* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}
// y[i] = f(x[i]).
template <class F>
HWY_INLINE void Map(const float* x, int64_t n, float* y, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) hn::StoreU(f(hn::LoadU(kD, x + i)), kD, y + i);
  if (i == n) return;
  HWY_ALIGN float part[kLanes] = {};
  CopyPart(x + i, n - i, part);
  hn::Store(f(hn::Load(kD, part)), kD, part);
  CopyPart(part, n - i, y + i);
}
// y[i] = f(a[i], b[i]).
template <class F>
HWY_INLINE void Map2(const float* a, const float* b, int64_t n, float* y, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) hn::StoreU(f(hn::LoadU(kD, a + i), hn::LoadU(kD, b + i)), kD, y + i);
  if (i == n) return;
  HWY_ALIGN float p[kLanes] = {}, q[kLanes] = {};
  CopyPart(a + i, n - i, p);
  CopyPart(b + i, n - i, q);
  hn::Store(f(hn::Load(kD, p), hn::Load(kD, q)), kD, p);
  CopyPart(p, n - i, y + i);
}

#define TERN_MAP(Name, F)                            \
  void Name(const float* x, int64_t n, float* y) {   \
    Map(x, n, y, [](V v) HWY_ATTR { return F(v); }); \
  }
TERN_MAP(ExpRow, Exp)
TERN_MAP(GeluRow, Gelu)
TERN_MAP(GeluNewRow, GeluNew)
TERN_MAP(ReluRow, Relu)
TERN_MAP(SiluRow, Silu)
TERN_MAP(TanhRow, Tanh)
TERN_MAP(SigmoidRow, Sigmoid)
#undef TERN_MAP

void AddRow(const float* a, const float* b, int64_t n, float* y) {
  Map2(a, b, n, y, [](V p, V q) HWY_ATTR { return hn::Add(p, q); });
}
void MulRow(const float* a, const float* b, int64_t n, float* y) {
  Map2(a, b, n, y, [](V p, V q) HWY_ATTR { return hn::Mul(p, q); });
}
void ScaleRow(const float* x, float s, int64_t n, float* y) {
  Map(x, n, y, [s](V v) HWY_ATTR { return hn::Mul(v, hn::Set(kD, s)); });
}
void AddScaledRow(const float* x, float s, int64_t n, float* y) {
  Map2(x, y, n, y, [s](V p, V q) HWY_ATTR { return hn::MulAdd(p, hn::Set(kD, s), q); });
}

using DU16 = hn::Rebind<uint16_t, D>;
constexpr DU16 kDU16;

void Bf16ToF32Row(const uint16_t* x, int64_t n, float* y) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const auto wide = hn::PromoteTo(kDI, hn::LoadU(kDU16, x + i));
    hn::StoreU(hn::BitCast(kD, hn::ShiftLeft<16>(wide)), kD, y + i);
  }
  for (; i < n; ++i) y[i] = Bf16ToF32(x[i]);
}
void F32ToBf16Row(const float* x, int64_t n, uint16_t* y) {
  int64_t i = 0;
  const auto low = hn::Set(kDI, 0xffff), one = hn::Set(kDI, 1), half = hn::Set(kDI, 0x7fff);
  for (; i + kLanes <= n; i += kLanes) {
    const V v = hn::LoadU(kD, x + i);
    const auto u = hn::BitCast(kDI, v);
    const auto even = hn::And(hn::ShiftRight<16>(u), one);
    const auto rounded = hn::ShiftRight<16>(hn::Add(u, hn::Add(even, half)));
    const auto quiet = hn::Or(hn::ShiftRight<16>(u), hn::Set(kDI, 0x40));
    const auto bits = hn::IfThenElse(hn::RebindMask(kDI, hn::Eq(v, v)), rounded, quiet);
    hn::StoreU(hn::DemoteTo(kDU16, hn::And(bits, low)), kDU16, y + i);
  }
  for (; i < n; ++i) y[i] = F32ToBf16(x[i]);
}

#if TERN_PLAIN || HWY_TARGET == (1LL << 14)  // no conversion instructions
void F16ToF32Row(const uint16_t* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = F16ToF32(x[i]);
}
void F32ToF16Row(const float* x, int64_t n, uint16_t* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = F32ToF16(x[i]);
}
#else
using DF16 = hn::Rebind<hwy::float16_t, D>;
constexpr DF16 kDF16;
void F16ToF32Row(const uint16_t* x, int64_t n, float* y) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const auto half = hn::BitCast(kDF16, hn::LoadU(kDU16, x + i));
    hn::StoreU(hn::PromoteTo(kD, half), kD, y + i);
  }
  for (; i < n; ++i) y[i] = F16ToF32(x[i]);
}
void F32ToF16Row(const float* x, int64_t n, uint16_t* y) {
  int64_t i = 0;
  const V nan = hn::BitCast(kD, hn::Set(kDI, 0x7fc00000));
  for (; i + kLanes <= n; i += kLanes) {
    V v = hn::LoadU(kD, x + i);
    v = hn::IfThenElse(hn::Eq(v, v), v, hn::CopySign(nan, v));
    hn::StoreU(hn::BitCast(kDU16, hn::DemoteTo(kDF16, v)), kDU16, y + i);
  }
  for (; i < n; ++i) y[i] = F32ToF16(x[i]);
}
#endif

}  // namespace

void FillElements(KernelTable* table) {
  table->exp = ExpRow;
  table->gelu = GeluRow;
  table->gelu_new = GeluNewRow;
  table->relu = ReluRow;
  table->silu = SiluRow;
  table->tanh = TanhRow;
  table->sigmoid = SigmoidRow;
  table->add = AddRow;
  table->mul = MulRow;
  table->scale = ScaleRow;
  table->add_scaled = AddScaledRow;
  table->bf16_to_f32 = Bf16ToF32Row;
  table->f16_to_f32 = F16ToF32Row;
  table->f32_to_bf16 = F32ToBf16Row;
  table->f32_to_f16 = F32ToF16Row;
}

}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();
