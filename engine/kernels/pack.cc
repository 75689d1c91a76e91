// Activations packed at run time, f32.
#include "engine/kernels/kernels.h"
#include "engine/kernels/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/pack.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After highway.h.
#include "engine/kernels/compat-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {
namespace {

// src [16, k] -> panel [k][16].
HWY_INLINE void TransposePanel(const float* HWY_RESTRICT src, int64_t ld, int64_t k, float* HWY_RESTRICT out) {
  int64_t c = 0;
#if !TERN_PLAIN
  // Squares of four: rows a, b, c, d become columns.
  const hn::FixedTag<float, 4> d;
  const hn::Repartition<double, decltype(d)> pairs;
  for (; c + 4 <= k; c += 4)
    for (int64_t r = 0; r < 16; r += 4) {
      const float* from = src + r * ld + c;
      const auto v0 = hn::LoadU(d, from), v1 = hn::LoadU(d, from + ld), v2 = hn::LoadU(d, from + 2 * ld),
                 v3 = hn::LoadU(d, from + 3 * ld);
      const auto low01 = hn::BitCast(pairs, hn::InterleaveLower(d, v0, v1)),
                 low23 = hn::BitCast(pairs, hn::InterleaveLower(d, v2, v3));
      const auto high01 = hn::BitCast(pairs, hn::InterleaveUpper(d, v0, v1)),
                 high23 = hn::BitCast(pairs, hn::InterleaveUpper(d, v2, v3));
      float* to = out + c * 16 + r;
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, low01, low23)), d, to);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, low01, low23)), d, to + 16);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, high01, high23)), d, to + 32);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, high01, high23)), d, to + 48);
    }
#endif
  for (; c < k; ++c)
    for (int64_t r = 0; r < 16; ++r) out[c * 16 + r] = src[r * ld + c];
}

void PackRows(const float* src, int64_t ld, int64_t n, int64_t k, float* out) {
  for (int64_t p = 0; p < n; p += 16, out += 16 * k) {
    if (n - p >= 16)
      TransposePanel(src + p * ld, ld, k, out);
    else
      PackPanel(DType::f32, src + p * ld, ld, n - p, k, out);
  }
}

void PackColumns(const float* src, int64_t ld, int64_t n, int64_t k, float* out) {
  for (int64_t p = 0; p < n; p += 16) {
    const int64_t columns = n - p < 16 ? n - p : 16;
    for (int64_t c = 0; c < k; ++c, out += 16) {
      const float* from = src + c * ld + p;
      if (columns == 16) {
        for (int64_t j = 0; j < 16; j += kLanes) hn::Store(hn::LoadU(kD, from + j), kD, out + j);
      } else {
        for (int64_t j = 0; j < 16; ++j) out[j] = j < columns ? from[j] : 0.0f;
      }
    }
  }
}

}  // namespace

void FillPack(KernelTable* table) {
  table->pack_rows = PackRows;
  table->pack_columns = PackColumns;
}

}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();
