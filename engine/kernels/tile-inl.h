// The register tile of a product: R rows of x times P panels of W, all of K, every element one chain of fused
// multiply-adds in the order of k.
#include "engine/kernels/compat-inl.h"

#if defined(TERN_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TERN_TILE_INL_H_
#undef TERN_TILE_INL_H_
#else
#define TERN_TILE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {

struct TileArgs {
  const float* x;  // row r, column k at r * ldx + k + k / 16 * jump
  int64_t ldx;
  int64_t jump;  // 0: rows as they are, ldx apart; packed rows (gemm-inl.h): what leads from one block of 16 columns to the next
  int64_t k;
  const uint8_t* panel;  // P panels, panel_bytes apart
  int64_t panel_bytes;
  const uint8_t* prefetch;  // from here on one line is fetched into L2 for every line of a panel
  const float* bias;        // [16 P] or null
  float* y;                 // [R, 16 P]
  int64_t ldy;
  bool resume;      // go on from the sums in y instead of from zero
  bool accumulate;
  bool stream;  // y is larger than the caches and aligned: write around them
};
using TileFn = void (*)(const TileArgs&);

// How a weight type is read. kStep: k's per line of 64 bytes. Load: vector j of sixteen columns, one result per k.
// kMost16x2: the most rows of a tile of two AVX-512 vectors whose accumulators, weights and broadcast fit 32 registers.
struct ReadF32 {
  static constexpr int kStep = 1, kMost16x2 = 14;
#if TERN_PLAIN
  static float At(const uint8_t* line, int64_t column, int) {
    return reinterpret_cast<const float*>(line)[column];
  }
#else
  static HWY_INLINE void Load(const uint8_t* line, int64_t j, V* HWY_RESTRICT out) {
    out[0] = hn::Load(kD, reinterpret_cast<const float*>(line) + j * kLanes);
  }
#endif
};
struct ReadBf16 {
  static constexpr int kStep = 2, kMost16x2 = 12;
#if TERN_PLAIN
  static float At(const uint8_t* line, int64_t column, int s) {
    return Bf16ToF32(reinterpret_cast<const uint16_t*>(line)[2 * column + s]);
  }
#else
  static HWY_INLINE void Load(const uint8_t* line, int64_t j, V* HWY_RESTRICT out) {
    const auto pairs = hn::Load(kDI, reinterpret_cast<const int32_t*>(line) + j * kLanes);
    out[0] = hn::BitCast(kD, hn::ShiftLeft<16>(pairs));
    out[1] = hn::BitCast(kD, hn::And(pairs, hn::Set(kDI, static_cast<int32_t>(0xffff0000u))));
  }
#endif
};
struct ReadF16 {
  static constexpr int kStep = 2, kMost16x2 = 12;
#if TERN_PLAIN
  static float At(const uint8_t* line, int64_t column, int s) {
    return F16ToF32(reinterpret_cast<const uint16_t*>(line)[2 * column + s]);
  }
#else
  static HWY_INLINE void Load(const uint8_t* line, int64_t j, V* HWY_RESTRICT out) {
    const hn::Rebind<hwy::float16_t, D> dh;
    const auto* halves = reinterpret_cast<const hwy::float16_t*>(line) + 2 * j * kLanes;
    const V low = hn::PromoteTo(kD, hn::Load(dh, halves)), high = hn::PromoteTo(kD, hn::Load(dh, halves + kLanes));
    out[0] = hn::ConcatEven(kD, high, low);
    out[1] = hn::ConcatOdd(kD, high, low);
  }
#endif
};

#if TERN_PLAIN

constexpr int kMaxRows = 2;

template <class W, int R, int P>
void RunTile(const TileArgs& t) {
  static_assert(P == 1);
  float acc[R][16] = {};
  if (t.resume)
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < 16; ++c) acc[r][c] = t.y[r * t.ldy + c];
  const uint8_t* line = t.panel;
  for (int64_t k = 0; k < t.k; k += W::kStep, line += 64) {
    const int64_t steps = t.k - k < W::kStep ? t.k - k : W::kStep;
    for (int s = 0; s < steps; ++s)
      for (int r = 0; r < R; ++r) {
        const float a = t.x[r * t.ldx + k + s + (k + s) / 16 * t.jump];
        for (int c = 0; c < 16; ++c) acc[r][c] += a * W::At(line, c, s);
      }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < 16; ++c) {
      const float v = t.bias ? acc[r][c] + t.bias[c] : acc[r][c];
      float* to = t.y + r * t.ldy + c;
      *to = t.accumulate ? *to + v : v;
    }
}

#else  // !TERN_PLAIN

// Rows of the widest-used tile: the accumulators, the weights of one k and one broadcast fit the registers (32 of them
// with AVX-512 and NEON, else 16).
#if HWY_TARGET == HWY_AVX3
constexpr int kMaxRows = 14;  // x 2 panels
#elif HWY_TARGET == HWY_AVX2 || HWY_ARCH_ARM_A64
constexpr int kMaxRows = 6;
#else
constexpr int kMaxRows = 2;
#endif

// One line of every panel: kSteps k's, added to the accumulators.
template <class W, int R, int P, int kSteps>
HWY_INLINE void Step(const uint8_t* HWY_RESTRICT line, int64_t panel_bytes, const float* HWY_RESTRICT x,
                     const float* HWY_RESTRICT x7, int64_t ldx, int64_t at, V (&acc)[R][P * kVectors]) {
  constexpr int kPerPanel = static_cast<int>(kVectors), kColumns = P * kPerPanel;
  V b[kColumns][W::kStep];
  HWY_UNROLL(16)
  for (int p = 0; p < P; ++p) {
    HWY_UNROLL(16)
    for (int j = 0; j < kPerPanel; ++j) W::Load(line + p * panel_bytes, j, b[p * kPerPanel + j]);
  }
  HWY_UNROLL(16)
  for (int s = 0; s < kSteps; ++s) {
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) {
      const float* row = r < 7 ? x + r * ldx : x7 + (r - 7) * ldx;
      const V a = hn::Set(kD, row[at + s]);
      HWY_UNROLL(16)
      for (int j = 0; j < kColumns; ++j) acc[r][j] = hn::MulAdd(a, b[j][s], acc[r][j]);
    }
  }
}

template <class W, int R, int P>
void RunTile(const TileArgs& t) {
  constexpr int kColumns = P * static_cast<int>(kVectors);
  V acc[R][kColumns];
  HWY_UNROLL(16)
  for (int r = 0; r < R; ++r) {
    HWY_UNROLL(16)
    for (int j = 0; j < kColumns; ++j) acc[r][j] = hn::Zero(kD);
  }
  if (t.resume) {
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) HWY_UNROLL(16)
    for (int j = 0; j < kColumns; ++j) acc[r][j] = hn::LoadU(kD, t.y + r * t.ldy + j * kLanes);
  }

  // Two bases, so that few registers address many rows.
  const float* HWY_RESTRICT x = t.x;
  const float* HWY_RESTRICT x7 = R > 7 ? t.x + 7 * t.ldx : t.x;
  const int64_t ldx = t.ldx;
  const uint8_t* HWY_RESTRICT line = t.panel;
  const uint8_t* HWY_RESTRICT prefetch = t.prefetch;
  const int64_t panel_bytes = t.panel_bytes;
  // Unrolled: every integer instruction saved is a slot for a multiply-add.
  constexpr int kUnroll = 4, kTurns = 16 / (kUnroll * W::kStep);
  const int64_t jump = t.jump;
  int64_t lines = t.k / W::kStep;
  for (int64_t turn = kTurns; lines >= kUnroll; lines -= kUnroll) {
    HWY_UNROLL(16)
    for (int u = 0; u < kUnroll; ++u) {
      __builtin_prefetch(prefetch + u * 64, 0, 2);
      Step<W, R, P, W::kStep>(line + u * 64, panel_bytes, x, x7, ldx, u * W::kStep, acc);
    }
    prefetch += kUnroll * 64;
    line += kUnroll * 64;
    x += kUnroll * W::kStep;
    x7 += kUnroll * W::kStep;
    if (--turn == 0) {
      turn = kTurns;
      x += jump;
      x7 += jump;
    }
  }
  for (; lines > 0; --lines) {
    Step<W, R, P, W::kStep>(line, panel_bytes, x, x7, ldx, 0, acc);
    line += 64;
    x += W::kStep;
    x7 += W::kStep;
  }
  if (W::kStep == 2 && t.k % 2 != 0) Step<W, R, P, 1>(line, panel_bytes, x, x7, ldx, 0, acc);

  if (t.bias) {
    HWY_UNROLL(16)
    for (int j = 0; j < kColumns; ++j) {
      const V bias = hn::LoadU(kD, t.bias + j * kLanes);
      HWY_UNROLL(16)
      for (int r = 0; r < R; ++r) acc[r][j] = hn::Add(acc[r][j], bias);
    }
  }
  const int64_t ldy = t.ldy;
  float* HWY_RESTRICT y = t.y;
  if (t.stream) {
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) HWY_UNROLL(16)
    for (int j = 0; j < kColumns; ++j) hn::Stream(acc[r][j], kD, y + r * ldy + j * kLanes);
  } else if (t.accumulate) {
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) HWY_UNROLL(16)
    for (int j = 0; j < kColumns; ++j) {
      float* to = y + r * ldy + j * kLanes;
      hn::StoreU(hn::Add(hn::LoadU(kD, to), acc[r][j]), kD, to);
    }
  } else {
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) HWY_UNROLL(16)
    for (int j = 0; j < kColumns; ++j) hn::StoreU(acc[r][j], kD, y + r * ldy + j * kLanes);
  }
}

#endif  // TERN_PLAIN

}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();
#endif  // TERN_TILE_INL_H_
