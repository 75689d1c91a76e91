// Products over int8 panels: quantising rows of x, the loops around the integer tiles, and what makes f32 of their
// sums.
#include <cmath>
#include <limits>

#include "engine/kernels/cache.h"
#include "engine/kernels/kernels.h"
#include "engine/kernels/q8_tile.h"
#include "engine/kernels/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/q8.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After highway.h.
#include "engine/kernels/epilogue-inl.h"
#include "engine/kernels/reduce-inl.h"

#ifndef TERN_Q8_ONCE
#define TERN_Q8_ONCE
namespace tern {
namespace {

// The obvious loops, two rows of one panel at a time: baseline, and targets whose dot products are not written yet.
template <int R>
void PlainTile(const Q8TileArgs& t) {
  int32_t acc[R][16] = {};
  for (int64_t g = 0; g < t.groups; ++g)
    for (int r = 0; r < R; ++r) {
      const uint8_t* x = t.x + r * t.ldx + 4 * g;
      const int8_t* w = t.panel + 64 * g;
      const int x0 = x[0] - 128, x1 = x[1] - 128, x2 = x[2] - 128, x3 = x[3] - 128;
      for (int c = 0; c < 16; ++c)
        acc[r][c] += x0 * w[4 * c] + x1 * w[4 * c + 1] + x2 * w[4 * c + 2] + x3 * w[4 * c + 3];
    }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < 16; ++c) t.out[r * 16 + c] = acc[r][c];
}

int64_t PlainPeak(int64_t iterations) {
  alignas(64) int8_t w[64 * 16];
  uint8_t x[2 * 64];
  int32_t out[32], sums[16] = {};
  for (int i = 0; i < 64 * 16; ++i) w[i] = static_cast<int8_t>(i);
  for (int i = 0; i < 2 * 64; ++i) x[i] = static_cast<uint8_t>(i);
  for (int64_t n = 0; n < iterations; ++n) PlainTile<2>({x, 64, 16, w, 0, w, sums, out});
  return iterations * 2 * 16 * 64 * 2;
}

}  // namespace
}  // namespace tern
#endif

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {
namespace {

constexpr Q8TileFn kPlainTiles[] = {PlainTile<1>, PlainTile<2>};
constexpr Q8Tiles kPlain = {{2, 0, 0, 0}, {kPlainTiles, nullptr, nullptr, nullptr}, 0, PlainPeak};

// The best tiles that this processor runs and this target may use.
const Q8Tiles& Tiles() {
#if HWY_TARGET == HWY_AVX3
  static const Q8Tiles* const tiles = Q8TilesAvx512Vnni() ? Q8TilesAvx512Vnni() : Q8TilesAvx2();
  return *tiles;
#elif HWY_TARGET == HWY_AVX2
  static const Q8Tiles* const tiles = Q8TilesAvxVnni() ? Q8TilesAvxVnni() : Q8TilesAvx2();
  return *tiles;
#else
  return kPlain;
#endif
}

constexpr int64_t kMostTile = 512;  // values of any tile: 14 x 32, 7 x 64, 3 x 128, 6 x 16

// sums [rows, width], width whole panels -> y = (f32 of the sum) * (x scale * w scale) (+ bias).
HWY_INLINE void ScaleSums(const int32_t* HWY_RESTRICT sums, int64_t rows, int64_t width,
                          const float* HWY_RESTRICT x_scales, const float* HWY_RESTRICT w_scales,
                          const float* HWY_RESTRICT bias, float* HWY_RESTRICT y, int64_t ldy) {
  for (int64_t c = 0; c < width; c += kLanes) {
    const V sw = hn::LoadU(kD, w_scales + c), b = bias ? hn::LoadU(kD, bias + c) : hn::Zero(kD);
    for (int64_t r = 0; r < rows; ++r) {
      V v = hn::ConvertTo(kD, hn::Load(kDI, sums + r * width + c));
      v = hn::Mul(v, hn::Mul(hn::Set(kD, x_scales[r]), sw));
      if (bias) v = hn::Add(v, b);
      hn::StoreU(v, kD, y + r * ldy + c);
    }
  }
}

// Rows [row, row_end) of the group of 2^log panels that begins with panel p.
void RunGroupQ8(const GemmQ8Call& c, const Q8Tiles& tiles, int log, int64_t p, int64_t row, int64_t row_end,
                const int8_t* next, int64_t next_lines) {
  HWY_ALIGN int32_t sums[kMostTile];
  HWY_ALIGN float scaled[kMostTile];
  const int64_t most = tiles.max_rows[log], width = int64_t{16} << log, column = p * 16;
  const int64_t columns = c.w.n - column < width ? c.w.n - column : width;
  const float* bias = c.bias ? c.bias + column : nullptr;
  const float* w_scales = c.w.scales() + column;
  const bool direct = columns == width && c.epilogue == Epilogue::kNone && !c.accumulate;
  Q8TileArgs t;
  t.ldx = c.ldx;
  t.groups = (c.w.k + 3) / 4;
  t.panel = static_cast<const int8_t*>(c.w.panel(p));
  t.panel_bytes = c.w.panel_bytes();
  t.column_sums = c.w.column_sums() + column;
  t.out = sums;
  int64_t fetched = 0;
  for (int64_t rows; row < row_end; row += rows) {
    const int64_t left = row_end - row;
    rows = left >= 2 * most ? most : left > most ? (left + 1) / 2 : left;
    t.x = c.x + row * c.ldx;
    t.prefetch = next + fetched * 64;
    fetched = fetched + 2 * t.groups <= next_lines ? fetched + t.groups : 0;
    float* y = c.y + row * c.ldy + column;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t j = 0; j < columns; j += 16) __builtin_prefetch(y + r * c.ldy + j, 1);
    tiles.fn[log][rows - 1](t);
    if (direct) {
      ScaleSums(sums, rows, width, c.x_scales + row, w_scales, bias, y, c.ldy);
    } else {
      ScaleSums(sums, rows, width, c.x_scales + row, w_scales, nullptr, scaled, width);
      Finish(c.epilogue, {scaled, width, rows, columns, bias, c.accumulate, y, c.ldy});
    }
  }
}

void GemmQ8(const GemmQ8Call& c) {
  const Q8Tiles& tiles = Tiles();
  int log = 3;  // the widest group that takes all rows in one tile
  while (log > 0 && (tiles.max_rows[log] == 0 || c.m > tiles.max_rows[log])) --log;
  if (log < tiles.many) log = tiles.many;
  const int64_t most = tiles.max_rows[log];
  int64_t block = L2CacheBytes() / 2 / (c.w.k + 64) / most * most;
  block = block < 2 * most ? 2 * most : block > 256 ? 256 / most * most : block;
  const int64_t bytes = c.w.panel_bytes();
  for (int64_t row = 0; row < c.m; row += block)
    for (int64_t p = c.panel_begin; p < c.panel_end;) {
      int now = log;
      while (p + (int64_t{1} << now) > c.panel_end) --now;
      const int64_t after = p + (int64_t{1} << now), next = after < c.panel_end ? after : c.panel_begin;
      const int64_t ahead = c.panel_end - next < int64_t{1} << now ? c.panel_end - next : int64_t{1} << now;
      RunGroupQ8(c, tiles, now, p, row, row + block < c.m ? row + block : c.m,
                 static_cast<const int8_t*>(c.w.panel(next)), ahead * bytes / 64);
      p = after;
    }
}

// Every step is the same operation on every target (no fused one): all give the same bytes.
void QuantizeRow(const float* x, int64_t k, uint8_t* u, float* scale) {
  const int64_t padded = (k + 3) / 4 * 4;
  V largest = hn::Zero(kD), sum = hn::Zero(kD);
  int64_t i = 0;
  for (; i + kLanes <= k; i += kLanes) {
    const V v = hn::LoadU(kD, x + i);
    largest = hn::Max(hn::Abs(v), largest);
    sum = hn::Add(sum, hn::Sub(v, v));  // stays 0 unless a value is NaN or infinite
  }
  HWY_ALIGN float lanes[kLanes], sums[kLanes];
  hn::Store(largest, kD, lanes);
  hn::Store(sum, kD, sums);
  float max = 0.0f, check = 0.0f;
  for (int64_t j = 0; j < kLanes; ++j) {
    max = lanes[j] > max ? lanes[j] : max;
    check += sums[j];
  }
  for (int64_t j = i; j < k; ++j) {
    const float a = std::fabs(x[j]);
    max = a > max ? a : max;
    check += x[j] - x[j];
  }
  const bool finite = check == 0.0f;
  *scale = finite ? max / 127.0f : std::numeric_limits<float>::quiet_NaN();
  if (!finite || *scale < std::numeric_limits<float>::min()) {
    if (finite) *scale = 0.0f;
    for (int64_t j = 0; j < padded; ++j) u[j] = 128;
    return;
  }
  const float inverse = 127.0f / max;
  // Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, and leaves it in the low bits.
  const V magic = hn::Set(kD, 12582912.0f + 128.0f), f = hn::Set(kD, inverse);
  const hn::Rebind<uint8_t, D> bytes;
  const auto low = hn::Set(kDI, 255);
  for (i = 0; i + kLanes <= k; i += kLanes) {
    const auto bits = hn::BitCast(kDI, hn::Add(hn::Mul(hn::LoadU(kD, x + i), f), magic));
    hn::StoreU(hn::DemoteTo(bytes, hn::And(bits, low)), bytes, u + i);
  }
  for (; i < k; ++i) {
    const float v = x[i] * inverse + (12582912.0f + 128.0f);
    uint32_t bits;
    __builtin_memcpy(&bits, &v, 4);
    u[i] = static_cast<uint8_t>(bits & 255);
  }
  for (; i < padded; ++i) u[i] = 128;
}

int64_t Q8Loop(int64_t iterations) {
  return Tiles().peak_loop(iterations);
}

}  // namespace

void FillQ8(KernelTable* table) {
  table->gemm_q8 = GemmQ8;
  table->quantize_row = QuantizeRow;
  table->q8_loop = Q8Loop;
}

}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();
