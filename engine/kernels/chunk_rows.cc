// The passes over one row that attention by chunks needs: masks with the log-sum-exp rounded as published, and the nearest axis of a rotated vector.
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/kernels/kernels.h"
#include "engine/kernels/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/chunk_rows.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After highway.h.
#include "engine/kernels/reduce-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {
namespace {

constexpr float kMaskedScore = -1e9f, kSelfScore = -1e5f;

// The largest of the masked scores; NaN is skipped.
float MaskScores(float* scores, const int32_t* positions, const int32_t* from, int64_t n, int32_t query, bool exclude_self) {
  const auto q = hn::Set(kDI, query);
  const V masked = hn::Set(kD, kMaskedScore), self = hn::Set(kD, kSelfScore);
  V largest = hn::Set(kD, -kInfinity);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    V s = hn::LoadU(kD, scores + i);
    s = hn::IfThenElse(hn::RebindMask(kD, hn::Gt(hn::LoadU(kDI, from + i), q)), masked, s);
    if (exclude_self) s = hn::IfThenElse(hn::RebindMask(kD, hn::Eq(hn::LoadU(kDI, positions + i), q)), self, s);
    hn::StoreU(s, kD, scores + i);
    largest = MaxSkippingNan(s, largest);
  }
  float most = hn::GetLane(hn::MaxOfLanes(kD, largest));
  for (; i < n; ++i) {
    if (from[i] > query) scores[i] = kMaskedScore;
    if (exclude_self && positions[i] == query) scores[i] = kSelfScore;
    most = scores[i] > most ? scores[i] : most;
  }
  return most;
}

void ChunkSoftmax(float* scores, const int32_t* positions, const int32_t* visible_from, int64_t n, int32_t query, bool exclude_self, float* lse) {
  const float most = MaskScores(scores, positions, visible_from, n, query, exclude_self);
  const float log_sum = most + std::log(SumExp<true>(scores, most, n, scores));
  *lse = log_sum;
  // exp(score - L) = exp(score - most) exp(most - L): where L is coarse, the second factor has all of that.
  const float factor = std::exp(most - log_sum);
  const V f = hn::Set(kD, factor);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) hn::StoreU(hn::Mul(hn::LoadU(kD, scores + i), f), kD, scores + i);
  for (; i < n; ++i) scores[i] *= factor;
}

// The first i with x[i] == value, or n.
HWY_INLINE int64_t Find(const float* x, int64_t n, float value) {
  const V v = hn::Set(kD, value);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    if (!hn::AllFalse(kD, hn::Eq(hn::LoadU(kD, x + i), v))) break;
  while (i < n && x[i] != value) ++i;
  return i;
}

int32_t NearestAxis(const float* x, int64_t n) {
  V acc[4 * kVectors];
  SetAll(acc, -kInfinity);
  ForBlocks(n, acc, [x](V a, int64_t i) HWY_ATTR { return MaxSkippingNan(hn::Abs(hn::LoadU(kD, x + i)), a); });
  float most = JoinMax(acc);
  for (int64_t i = n / 16 * 16; i < n; ++i) {
    const float a = x[i] < 0 ? -x[i] : x[i];
    most = a > most ? a : most;
  }
  const int64_t up = Find(x, n, most);
  if (up < n) return static_cast<int32_t>(up);
  const int64_t down = Find(x, n, -most);
  return down < n ? static_cast<int32_t>(n + down) : 0;  // neither: all are NaN
}

}  // namespace

void FillChunkRows(KernelTable* table) {
  table->chunk_softmax = ChunkSoftmax;
  table->nearest_axis = NearestAxis;
}

}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();
