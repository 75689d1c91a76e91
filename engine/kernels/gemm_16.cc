// Products over bf16 and f16 panels: widened in registers for few rows, into a scratch panel for many; the dispatch on
// the weight type.
#include <utility>

#include "engine/base/dtype.h"
#include "engine/kernels/cache.h"
#include "engine/kernels/kernels.h"
#include "engine/kernels/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/gemm_16.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After highway.h.
#include "engine/kernels/gemm-inl.h"

#ifndef TERN_GEMM_16_ONCE
#define TERN_GEMM_16_ONCE
namespace tern {
constexpr int64_t kWidenRows =
    32;  // from here on a panel is widened once for all rows (except bf16 with AVX-512: always in registers)
constexpr int64_t kWidenPanels = 2;
}  // namespace tern
#endif

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {

void GemmF32(const GemmCall& call, const Following& following);

namespace {

// Widens one panel to f32: [K][16].
template <class W>
void WidenPanel(const uint8_t* line, int64_t k, float* HWY_RESTRICT out) {
#if TERN_PLAIN
  for (int64_t i = 0; i < k; ++i)
    for (int64_t c = 0; c < 16; ++c) out[i * 16 + c] = W::At(line + i / 2 * 64, c, static_cast<int>(i % 2));
#else
  for (int64_t i = 0; i < k; i += 2, line += 64) {
    __builtin_prefetch(line + 3072, 0, 2);
    for (int64_t j = 0; j < kVectors; ++j) {
      V b[2];
      W::Load(line, j, b);
      hn::Store(b[0], kD, out + i * 16 + j * kLanes);
      if (i + 1 < k) hn::Store(b[1], kD, out + (i + 1) * 16 + j * kLanes);
    }
  }
#endif
}

template <class W>
void Gemm16(const GemmCall& call, int64_t widen_rows) {
  if (call.m < widen_rows) return RunGemm<W>(call);
  auto* wide = static_cast<float*>(call.scratch);
  const int64_t n = call.w.n, bytes = call.w.panel_bytes(), block = RowBlock<ReadF32>(call.m, SliceInputs(call.w.k));
  for (int64_t row = 0; row < call.m; row += block)
    for (int64_t p = call.panel_begin; p < call.panel_end; p += kWidenPanels) {
      const int64_t count = call.panel_end - p < kWidenPanels ? call.panel_end - p : kWidenPanels;
      for (int64_t i = 0; i < count; ++i)
        WidenPanel<W>(static_cast<const uint8_t*>(call.w.panel(p + i)), call.w.k, wide + i * call.w.k * 16);
      GemmCall part = call;
      part.x = call.x + row * call.ldx;
      part.m = call.m - row < block ? call.m - row : block;
      part.w = {wide, DType::f32, n - p * 16 < count * 16 ? n - p * 16 : count * 16, call.w.k};
      part.panel_begin = 0;
      part.panel_end = count;
      part.bias = call.bias ? call.bias + p * 16 : nullptr;
      part.y = call.y + row * call.ldy + p * 16;
      const int64_t next = p + count < call.panel_end ? p + count : call.panel_begin;
      GemmF32(part, {static_cast<const uint8_t*>(call.w.panel(next)), count * bytes / 64});
    }
}

}  // namespace

void Gemm(const GemmCall& call) {
  switch (call.w.type) {
    case DType::f32:
      return GemmF32(call, {});
    case DType::bf16:
      return Gemm16<ReadBf16>(call, kMaxRows == 14 ? call.m + 1 : kWidenRows);
    case DType::f16:
      return Gemm16<ReadF16>(call, kWidenRows);
    default:
      return;  // REQUIRES of GemmCall
  }
}

void FillGemm(KernelTable* table) {
  table->gemm = Gemm;
}

}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tern {
int64_t GemmScratchBytes(DType type, int64_t m, int64_t k) {
  const int64_t widened = type == DType::f32 || m < kWidenRows ? 0 : kWidenPanels * k * kPanelColumns * 4;
  // x, packed: whole rows where K is not sliced (few rows, or y is added to), else a slice of more rows.
  auto bytes = [m](int64_t depth) {
    const int64_t most = MostBlockRows(depth);
    return (m < most ? m : most) * ((depth + 15) / 16 * 16) * 4;
  };
  const int64_t whole = bytes(k), sliced = bytes(SliceInputs(k));
  const int64_t packed = k < kPackInputs || m == 1 ? 0 : whole > sliced ? whole : sliced;
  return widened > packed ? widened : packed;  // never both: what is widened is multiplied two panels at a time
}
}  // namespace tern
#endif
