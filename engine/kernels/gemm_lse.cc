// Logits that are reduced while they are still in the cache.
#include <cmath>
#include <limits>

#include "engine/kernels/kernels.h"
#include "engine/kernels/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/gemm_lse.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After highway.h.
#include "engine/kernels/reduce-inl.h"

#ifndef TERN_GEMM_LSE_ONCE
#define TERN_GEMM_LSE_ONCE
namespace tern {
constexpr int64_t kLseRows = 128;  // rows taken together: their logits (256 KB) stay in L2
constexpr int64_t LogitsBytes(int64_t m) {
  return (m < kLseRows ? m : kLseRows) * kLseColumns * 4;
}
}  // namespace tern
#endif

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {

void Gemm(const GemmCall& call);

namespace {

// logits [n] of columns first.. -> the part of one row.
LsePart ReduceLogits(const float* logits, int64_t first, int64_t n, int64_t target) {
  LsePart part;
  part.max = MaxRow(logits, n);
  part.sum = SumExp<false>(logits, part.max == -kInfinity ? 0.0f : part.max, n, nullptr);
  part.argmax = first + IndexOfMax(logits, n, part.max);
  part.has_target = target >= first && target < first + n;
  part.target = part.has_target ? logits[target - first] : 0.0f;
  return part;
}

void GemmLse(const GemmLseCall& call) {
  auto* logits = static_cast<float*>(call.scratch);
  for (int64_t block = call.block_begin; block < call.block_end; ++block) {
    const int64_t first = block * kLseColumns, n = call.w.n - first < kLseColumns ? call.w.n - first : kLseColumns;
    GemmCall g;
    g.ldx = call.ldx;
    g.w = {call.w.panel(block * kLsePanels), call.w.type, n, call.w.k};  // the block as a matrix of its own
    g.panel_end = PanelCount(n);
    g.bias = call.bias ? call.bias + first : nullptr;
    g.y = logits;
    g.ldy = kLseColumns;
    g.scratch = static_cast<uint8_t*>(call.scratch) + LogitsBytes(call.m);
    for (int64_t row = 0; row < call.m; row += kLseRows) {
      g.x = call.x + row * call.ldx;
      g.m = call.m - row < kLseRows ? call.m - row : kLseRows;
      Gemm(g);
      for (int64_t r = 0; r < g.m; ++r) {
        const int64_t target = call.targets ? call.targets[row + r] : -1;
        call.parts[block * call.m + row + r] = ReduceLogits(logits + r * kLseColumns, first, n, target);
      }
    }
  }
}

}  // namespace

void FillGemmLse(KernelTable* table) {
  table->gemm_lse = GemmLse;
}

}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tern {

int64_t GemmLseScratchBytes(DType type, int64_t m, int64_t k) {
  return LogitsBytes(m) + GemmScratchBytes(type, m < kLseRows ? m : kLseRows, k);
}

LseRow JoinLse(const LsePart* parts, int64_t blocks, int64_t stride) {
  LseRow row;
  row.max = -std::numeric_limits<double>::infinity();
  for (int64_t b = 0; b < blocks; ++b) {
    const LsePart& part = parts[b * stride];
    if (part.max > row.max) {
      row.max = part.max;
      row.argmax = part.argmax;
    }
    if (part.has_target) {
      row.has_target = true;
      row.target = part.target;
    }
  }
  // A part of nothing but -infinity or NaN was summed without a shift.
  const double shift = row.max == -std::numeric_limits<double>::infinity() ? 0 : row.max;
  double sum = 0;
  for (int64_t b = 0; b < blocks; ++b) {
    const LsePart& part = parts[b * stride];
    const double max = part.max == -std::numeric_limits<float>::infinity() ? shift : part.max;
    sum += part.sum * std::exp(max - shift);
  }
  row.log_sum_exp = shift + std::log(sum);
  return row;
}

}  // namespace tern
#endif  // HWY_ONCE
