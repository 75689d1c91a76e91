// Log-sum-exp of logits that are never written as a whole: a block of columns at a time, in scratch that stays in the cache.
#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/kernels/kernels.h"

namespace tern {
namespace {

// Rows whose block of logits is held at once: 96 x 512 floats are 192 KB, within an L2.
constexpr int64_t kRowsAtOnce = 96;

int64_t LogitsBytes(int64_t m) { return std::min(m, kRowsAtOnce) * kLseColumns * 4; }

// `logits` [n] is overwritten.
LsePart PartOf(const KernelTable& kernels, float* logits, int64_t n, int64_t target) {
  LsePart part;
  part.argmax = kernels.argmax(logits, n);
  part.max = logits[part.argmax];
  if (target >= 0 && target < n) part.target = logits[target], part.has_target = 1;
  for (int64_t i = 0; i < n; ++i) logits[i] -= part.max;  // NaN where max is -infinity or a logit is NaN: it shows in the sum
  kernels.exp(logits, n, logits);
  part.sum = kernels.sum(logits, n);
  return part;
}

}  // namespace

int64_t GemmLseScratchBytes(DType type, int64_t m, int64_t k) { return RoundUp(LogitsBytes(m), 64) + GemmScratchBytes(type, std::min(m, kRowsAtOnce), k); }

void GemmLse(const KernelTable& kernels, const GemmLseCall& call) {
  float* logits = static_cast<float*>(call.scratch);
  GemmCall g;
  g.ldx = call.ldx, g.w = call.w, g.bias = call.bias;
  g.scratch = static_cast<uint8_t*>(call.scratch) + RoundUp(LogitsBytes(call.m), 64);
  for (int64_t block = call.block_begin; block < call.block_end; ++block) {
    const int64_t first = block * kLseColumns, n = std::min(kLseColumns, call.w.n - first);
    g.panel_begin = block * kLsePanels, g.panel_end = std::min(call.w.panels(), g.panel_begin + kLsePanels);
    for (int64_t row = 0; row < call.m; row += kRowsAtOnce) {
      g.x = call.x + row * call.ldx;
      g.m = std::min(call.m - row, kRowsAtOnce);
      g.y = logits - first, g.ldy = kLseColumns;  // y is written at columns first .. first + n - 1 only
      kernels.gemm(g);
      for (int64_t r = 0; r < g.m; ++r) {
        const int64_t target = call.targets ? call.targets[row + r] - first : -1;
        LsePart part = PartOf(kernels, logits + r * kLseColumns, n, target);
        part.argmax += first;
        call.parts[block * call.m + row + r] = part;
      }
    }
  }
}

LseRow JoinLse(const LsePart* parts, int64_t blocks, int64_t stride) {
  LseRow row;
  row.max = -std::numeric_limits<double>::infinity();
  for (int64_t b = 0; b < blocks; ++b) {
    const LsePart& p = parts[b * stride];
    if (p.max > row.max) row.max = p.max, row.argmax = p.argmax;
    if (p.has_target) row.target = p.target, row.has_target = true;
  }
  double sum = 0;
  for (int64_t b = 0; b < blocks; ++b) sum += static_cast<double>(parts[b * stride].sum) * std::exp(static_cast<double>(parts[b * stride].max) - row.max);
  row.log_sum_exp = row.max + std::log(sum);
  return row;
}

}  // namespace tern
