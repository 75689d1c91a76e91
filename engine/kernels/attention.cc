// Attention of a block of queries: the order of work, masks and biases. The inner loops are in attention_tile-inl.h.
//
// Per block of at most kBlockRows query rows: for each 256 keys (an absolute block, so that no result depends on how queries are split), for each tile of at
// most kMaxRows rows: scores of the panels the tile can see -> biases -> masks -> running softmax -> product with the values. The scores of a tile (17 KB) stay
// in the first-level cache, keys and values of the block (128 KB at width 64) in the second while all tiles of the block use them.
// Scores are kept in base 2: queries are multiplied by scale * log2(e) when they are packed.
#include "engine/kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/kernels/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/attention.cc"
#include "engine/kernels/targets.h"
#include "hwy/foreach_target.h"
//
#include "hwy/cache_control.h"
#include "hwy/highway.h"
//
#include "engine/kernels/attention_tile-inl.h"

#ifndef TERN_KERNELS_ATTENTION_ONCE
#define TERN_KERNELS_ATTENTION_ONCE
namespace tern {
namespace attention {

constexpr int64_t kBlockRows = 84;  // a multiple of every target's tile
constexpr int64_t kRowFloats = 304, kQueryFloats = 144, kKeptFloats = 32;
constexpr int64_t kTileRows = 14;
constexpr int64_t kKeys = 256;
constexpr float kLog2E = 1.44269504088896340736f;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Not the standard library's: its templates must not be instantiated under a target's flags.
constexpr int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t Max(int64_t a, int64_t b) { return a > b ? a : b; }
constexpr int64_t Clamp(int64_t x, int64_t lo, int64_t hi) { return Min(Max(x, lo), hi); }
constexpr int64_t FloorPanel(int64_t x) { return x >= 0 ? x / 16 : -((15 - x) / 16); }
constexpr int64_t RoundUp16(int64_t n) { return (n + 15) / 16 * 16; }

// The scratch of one call, in floats from a 64-byte aligned start.
struct Scratch {
  float *q, *qv;        // packed queries [chunk][kBlockRows][kQueryFloats]: with u, with v
  float* o;             // [rows][dv16] sums of p v so far
  float* m;             // [rows] running maximum
  float* sums;          // [rows][16] running sums of p, by lane
  float* far;           // [rows] position score at the clamp
  float *s, *g;         // [kTileRows][kRowFloats] scores; skewed addends
  float* kept;          // [rows][kKeptFloats] position scores for the next block of keys
  float* line;          // [kKeys]
  float *alpha, *top;   // [16] each, of a tile
  float *k_wide, *v_wide;  // a block of keys and values widened from 16 bits
  int64_t floats;

  Scratch(float* base, int64_t dh, int64_t dv, DType type) {
    const int64_t dv16 = RoundUp16(dv), wide = type == DType::f32 ? 0 : kKeys;
    int64_t at = 0;
    auto take = [&](int64_t n) {
      float* p = base == nullptr ? nullptr : base + at;
      at += RoundUp16(n);
      return p;
    };
    const int64_t chunks = (dh + 127) / 128;
    q = take(chunks * kBlockRows * kQueryFloats);
    qv = take(chunks * kBlockRows * kQueryFloats);
    o = take(kBlockRows * dv16);
    m = take(kBlockRows);
    sums = take(kBlockRows * 16);
    far = take(kBlockRows);
    s = take(kTileRows * kRowFloats);
    g = take(kTileRows * kRowFloats);
    kept = take(kBlockRows * kKeptFloats);
    line = take(kKeys);
    alpha = take(16);
    top = take(16);
    k_wide = take(wide * dh);
    v_wide = take(wide * dv16);
    floats = at;
  }
};

}  // namespace attention
}  // namespace tern
#endif  // once

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {
namespace attention {

using namespace ::tern::attention;
using ::tern::attention::Max;
static_assert(kRowStride == kRowFloats && kQueryStride == kQueryFloats && kQueryChunk == 128 && kBlockKeys == kKeys && kMaxRows <= kTileRows && kBlockRows % kMaxRows == 0);

// ---- Queries, keys, biases ----

constexpr int64_t kChunkStride = kBlockRows * kQueryStride;

struct Tile {
  int64_t row, rows;          // first row (token * G + head) and how many
  int64_t at, index;          // first row within the block's arrays; which tile of the block
  int64_t first_position, last_position;
  int64_t kept_first, kept;   // panels of position scores kept from the block of keys before
};

struct Range {
  int64_t lo, hi;  // inclusive; empty if hi < lo
};

// Valid keys of the query at position i. Both ends grow with i.
inline Range ValidKeys(const AttentionArgs& a, int64_t i) {
  Range r{a.first_key, a.last_key};
  if (a.causal || a.distances != nullptr) r.hi = Min(r.hi, i);
  if (a.window > 0) r.lo = Max(r.lo, i - a.window + 1);
  return r;
}

inline int64_t Position(const AttentionArgs& a, int64_t row) { return a.q_position + row / a.n_heads; }

// Row r of the block, chunk by chunk: (q + add) * factor, at to[chunk][r][kQueryStride].
void PackQuery(const float* HWY_RESTRICT q, const float* HWY_RESTRICT add, int64_t dh, float factor, float* HWY_RESTRICT to) {
  const V f = Set(factor);
  for (int64_t start = 0; start < dh; start += kQueryChunk, to += kChunkStride) {
    const int64_t width = Min(dh - start, kQueryChunk);
    int64_t c = 0;
    for (; c + kLanes <= width; c += kLanes) {
      V x = Load(q + start + c);
      if (add != nullptr) x = Add(x, Load(add + start + c));
      Store(Mul(x, f), to + c);
    }
    for (; c < width; ++c) to[c] = (add != nullptr ? q[start + c] + add[start + c] : q[start + c]) * factor;
  }
}

void PackQueries(const AttentionArgs& a, const Scratch& x, int64_t row0, int64_t rows) {
  const float factor = a.scale * kLog2E;
  const int64_t lines = (a.kv.dh + kPanel - 1) / kPanel, out_lines = (a.kv.dv + kPanel - 1) / kPanel;
  for (int64_t r = 0; r < rows; ++r) {  // rows of a wide matrix: no hardware prefetcher guesses the next
    const int64_t token = (row0 + r) / a.n_heads, head = (row0 + r) % a.n_heads;
    const float* q = a.q + token * a.q_stride + head * a.q_head_stride;
    const float* out = a.out + token * a.out_stride + head * a.out_head_stride;
    for (int64_t l = 0; l < lines; ++l) hwy::Prefetch(q + l * kPanel);
    for (int64_t l = 0; l < out_lines; ++l) hwy::Prefetch(out + l * kPanel);
  }
  for (int64_t r = 0; r < rows; ++r) {
    const float* q = a.q + (row0 + r) / a.n_heads * a.q_stride + (row0 + r) % a.n_heads * a.q_head_stride;
    PackQuery(q, a.distances == nullptr ? nullptr : a.u, a.kv.dh, factor, x.q + r * kQueryStride);
    if (a.distances != nullptr) PackQuery(q, a.v, a.kv.dh, factor, x.qv + r * kQueryStride);
  }
}

// The panels of a block of keys, then those of the next block (to fetch early; the present ones again where there is none).
template <class T>
struct KeyBlock {
  const T* k[2 * kBlockPanels + 2];
  const T* v[2 * kBlockPanels + 2];
};

// Panels first..last of the block at key0; the range of keys goes on to last_key. T is the type of the cache.
template <class T>
void FindPanels(const AttentionArgs& a, int64_t key0, int64_t first, int64_t last_key, KeyBlock<T>* b) {
  const KvPanels& kv = a.kv;
  const int64_t k_size = kv.dh * kPanel, v_size = RoundUp16(kv.dv) * kPanel;
  const int64_t end = Min((last_key - key0) / kPanel, 2 * kBlockPanels + 1);
  int64_t panel = (key0 / kPanel + first) % kv.n_panels;
  for (int64_t p = first; p <= end; ++p, panel = panel + 1 == kv.n_panels ? 0 : panel + 1) {
    const int64_t at = kv.pages == nullptr ? panel : kv.pages[panel];
    b->k[p] = static_cast<const T*>(kv.k) + at * k_size;
    b->v[p] = static_cast<const T*>(kv.v) + at * v_size;
  }
  for (int64_t p = 0; p < first; ++p) b->k[p] = b->k[first], b->v[p] = b->v[first];
  for (int64_t p = end + 1; p < 2 * kBlockPanels + 2; ++p) b->k[p] = b->k[end], b->v[p] = b->v[end];
}

// n numbers (a multiple of 16) to f32; as many from `soon` on are brought nearer.
template <class T>
void Widen(const T* from, const T* soon, int64_t n, float* to) {
  for (int64_t i = 0; i < n; i += kPanel) {
    __builtin_prefetch(soon + i, 0, 3);
    HWY_UNROLL(4)
    for (int64_t c = 0; c < kPanel; c += kLanes) Store(LoadPanel(from + i + c), to + i + c);
  }
}

// The same for a 16-bit cache that is widened into scratch: only this block, panels first..last.
template <class T>
void WidenPanels(const AttentionArgs& a, const Scratch& x, int64_t first, int64_t last, const KeyBlock<T>& from, KeyBlock<float>* b) {
  const int64_t k_size = a.kv.dh * kPanel, v_size = RoundUp16(a.kv.dv) * kPanel;
  for (int64_t p = 0; p < 2 * kBlockPanels + 2; ++p) {
    const int64_t to = Clamp(p, first, last);
    b->k[p] = x.k_wide + to * k_size;
    b->v[p] = x.v_wide + to * v_size;
  }
  for (int64_t p = first; p <= last; ++p) {
    Widen(from.k[p], from.k[p + 1], k_size, x.k_wide + p * k_size);
    Widen(from.v[p], from.v[p + 1], v_size, x.v_wide + p * v_size);
  }
}

// Position scores of the tile for keys key0 .. key0 + n - 1, added to s. In decreasing distance the addends of row r are those of the last row shifted by
// rows - 1 - r: one product over the n + rows - 1 distances that occur, then a skewed add. The last rows - 1 distances are also the first of the next block
// of keys: t.kept panels of them, from panel t.kept_first on, are kept for it.
void AddPositions(const AttentionArgs& a, const Scratch& x, Tile& t, int64_t key0, int64_t n, float* s) {
  const int64_t dh = a.kv.dh, table = a.max_distance / kPanel + 1;
  const int64_t first = a.max_distance - t.last_position + key0;  // entry of the last row and the first key
  const int64_t last = first + n - 1 + t.rows - 1;
  const float* far = x.far + t.at;
  if (last <= 0) {  // all beyond the clamp
    for (int64_t r = 0; r < t.rows; ++r) AddConstant(far[r], n, s + r * kRowStride);
    return;
  }
  const int64_t p0 = FloorPanel(first), p1 = Min(last / kPanel + 1, table);  // entries past the table belong to masked keys
  const int64_t kept = t.kept_first == p0 ? Min(t.kept, p1 - p0) : 0, behind = Max(kept, Min(-p0, p1 - p0));
  for (int64_t r = 0; r < t.rows; ++r) {
    float* g = x.g + r * kRowStride;
    for (int64_t c = 0; c < kept * kPanel; c += kLanes) Store(Load(x.kept + (t.at + r) * kKeptFloats + c), g + c);
    Fill(far[r], (behind - kept) * kPanel, g + kept * kPanel);
  }
  const float *panels[kRowStride / kPanel], *later[kRowStride / kPanel];
  int64_t count = 0;
  for (int64_t p = p0 + behind; p < p1; ++p, ++count) {
    panels[count] = a.distances + p * dh * kPanel;
    later[count] = t.index < 2 ? a.distances + Min(p + kBlockPanels + t.index, table - 1) * dh * kPanel : panels[count];
  }
  Scores<float>(x.qv + t.at * kQueryStride, kChunkStride, t.rows, {panels, panels, later, count}, dh, x.g + behind * kPanel);
  const int64_t have = (p1 - p0) * kPanel;
  t.kept_first = FloorPanel(first + n);
  t.kept = Max(p1 - t.kept_first, 0);
  for (int64_t r = 0; r < t.rows; ++r) {
    const float* g = x.g + r * kRowStride;
    const int64_t shift = first - p0 * kPanel + t.rows - 1 - r;
    AddRow(g + shift, Clamp(RoundUp16(have - shift), 0, n), s + r * kRowStride);
    const float* from = g + (t.kept_first - p0) * kPanel;
    for (int64_t c = 0; c < t.kept * kPanel; c += kLanes) Store(Load(from + c), x.kept + (t.at + r) * kKeptFloats + c);
  }
}

// line[c] += bias of head h at distance d0 + c, in base 2.
void RelativeLine(const AttentionArgs& a, int64_t h, int64_t d0, int64_t n, float* line) {
  Fill(0, n, line);
  if (a.relative_bias != nullptr) {
    const float* bias = a.relative_bias + h * a.relative_head_stride - a.relative_min;
    for (int64_t c = 0; c < n; ++c) line[c] = bias[Clamp(d0 + c, a.relative_min, a.relative_max)] * kLog2E;
  }
  if (a.alibi_slopes != nullptr) {
    const float slope = a.alibi_slopes[h];
    for (int64_t c = 0; c < n; ++c) line[c] += slope * static_cast<float>(d0 + c) * kLog2E;
  }
}

void AddBiases(const AttentionArgs& a, const Scratch& x, const Tile& t, int64_t key0, int64_t n, float* s) {
  if (a.relative_bias != nullptr || a.alibi_slopes != nullptr) {
    if (a.n_heads == 1) {  // one line, skewed
      RelativeLine(a, 0, key0 - t.last_position, n + t.rows - 1, x.g);
      for (int64_t r = 0; r < t.rows; ++r) AddRow(x.g + t.rows - 1 - r, n, s + r * kRowStride);
    } else {
      for (int64_t r = 0; r < t.rows; ++r) {
        RelativeLine(a, (t.row + r) % a.n_heads, key0 - Position(a, t.row + r), n, x.g);
        AddRow(x.g, n, s + r * kRowStride);
      }
    }
  }
  if (a.key_bias != nullptr) {
    for (int64_t c = 0; c < n; ++c) {
      const int64_t j = key0 + c;
      x.line[c] = j >= a.first_key && j <= a.last_key ? a.key_bias[j - a.first_key] * kLog2E : 0.0f;
    }
    for (int64_t r = 0; r < t.rows; ++r) AddRow(x.line, n, s + r * kRowStride);
  }
}

// Scores of keys outside a row's range become -inf; key0 is the position of column 0.
void Mask(const AttentionArgs& a, const Tile& t, int64_t key0, int64_t n, float* s) {
  for (int64_t r = 0; r < t.rows; ++r) {
    const Range valid = ValidKeys(a, Position(a, t.row + r));
    const int64_t lo = Clamp(valid.lo - key0, 0, n), hi = Clamp(valid.hi - key0 + 1, lo, n);
    Fill(kMinusInfinity, lo, s + r * kRowStride);
    Fill(kMinusInfinity, n - hi, s + r * kRowStride + hi);
  }
}

// Scores to weights; alpha[r] is what the row's earlier sums must be multiplied by.
void Softmax(const Scratch& x, const Tile& t, int64_t n, float* s) {
  float* m = x.m + t.at;
  for (int64_t r = 0; r < t.rows; ++r) {
    const float before = m[r], block = MaxOfRow(s + r * kRowStride, n), now = block > before ? block : before;
    m[r] = now;
    x.top[r] = now == kMinusInfinity ? 0.0f : now;  // -inf minus -inf must not happen
    x.alpha[r] = before - x.top[r];
  }
  for (int64_t r = t.rows; r < kPanel; ++r) x.alpha[r] = 0;
  for (int64_t r = 0; r < kPanel; r += kLanes) Store(Exp2(Load(x.alpha + r)), x.alpha + r);
  for (int64_t r = 0; r < t.rows; ++r) ExpRow(x.top[r], x.alpha[r], n, s + r * kRowStride, x.sums + (t.at + r) * kPanel);
}

// ---- The order of work ----

template <class T>
void AttendTile(const AttentionArgs& a, const Scratch& x, Tile& t, int64_t block, const KeyBlock<T>& keys) {
  const Range first = ValidKeys(a, t.first_position), last = ValidKeys(a, t.last_position);
  const int64_t lo = Max(first.lo, block), hi = Min(last.hi, block + kBlockKeys - 1);
  if (lo > hi) return;
  const int64_t p0 = (lo - block) / kPanel, p1 = (hi - block) / kPanel + 1;
  const int64_t key0 = block + p0 * kPanel, n = (p1 - p0) * kPanel;
  float* s = x.s + p0 * kPanel;
  // Two panels are used at a time, so four tiles can bring the keys and values of the next block into the second-level cache.
  const T* const* later[4] = {keys.k + kBlockPanels, keys.k + kBlockPanels + 1, keys.v + kBlockPanels, keys.v + kBlockPanels + 1};
  const T* const* ahead = t.rows > kFewRows ? keys.v + p0 : keys.k + kBlockPanels;
  Scores<T>(x.q + t.at * kQueryStride, kChunkStride, t.rows, {keys.k + p0, ahead, (t.index < 4 ? later[t.index] : keys.k) + p0, p1 - p0}, a.kv.dh, s);
  if (a.distances != nullptr) AddPositions(a, x, t, key0, n, s);
  AddBiases(a, x, t, key0, n, s);
  if (last.lo > key0 || first.hi < key0 + n - 1) Mask(a, t, key0, n, s);
  Softmax(x, t, n, s);
  const int64_t dv16 = RoundUp16(a.kv.dv);
  Values(x.s, t.rows, keys.v, dv16, lo - block, hi - block + 1, x.alpha, x.o + t.at * dv16);
}

// All tiles of a block of queries over all keys.
template <class T>
void AttendKeys(const AttentionArgs& a, const Scratch& x, const Range& all, Tile* tiles, int64_t n_tiles) {
  for (int64_t block = all.lo / kBlockKeys * kBlockKeys; block <= all.hi; block += kBlockKeys) {
    const int64_t first = Max(all.lo - block, 0) / kPanel, last = Min(all.hi - block, kBlockKeys - 1) / kPanel;
    KeyBlock<T> keys;
    FindPanels(a, block, first, all.hi, &keys);
    if constexpr (sizeof(T) == 2) {
      if (n_tiles > 1 || tiles[0].rows > kFewRows) {
        KeyBlock<float> wide;
        WidenPanels(a, x, first, last, keys, &wide);
        for (int64_t i = 0; i < n_tiles; ++i) AttendTile(a, x, tiles[i], block, wide);
        continue;
      }
    }
    for (int64_t i = 0; i < n_tiles; ++i) AttendTile(a, x, tiles[i], block, keys);
  }
}

// out = o / sum
void Finish(const AttentionArgs& a, const Scratch& x, int64_t row0, int64_t rows) {
  const int64_t dv = a.kv.dv, dv16 = RoundUp16(dv);
  for (int64_t r = 0; r < rows; ++r) {
    const float* lanes = x.sums + r * kPanel;
    float quarter[4];
    for (int i = 0; i < 4; ++i) quarter[i] = (lanes[i] + lanes[i + 4]) + (lanes[i + 8] + lanes[i + 12]);
    const float sum = (quarter[0] + quarter[1]) + (quarter[2] + quarter[3]);
    const int64_t token = (row0 + r) / a.n_heads, head = (row0 + r) % a.n_heads;
    float* o = x.o + r * dv16;
    const V divisor = Set(sum == 0 ? 1.0f : sum);
    for (int64_t c = 0; c < dv16; c += kLanes) Store(Div(Load(o + c), divisor), o + c);
    std::memcpy(a.out + token * a.out_stride + head * a.out_head_stride, o, static_cast<size_t>(dv) * sizeof(float));
    if (a.lse != nullptr) a.lse[token * a.lse_stride + head] = sum == 0 ? kMinusInfinity : (x.m[r] + std::log2(sum)) / kLog2E;
  }
}

// Rows [row0, row0 + rows), rows <= kBlockRows.
void AttendBlock(const AttentionArgs& a, const Scratch& x, int64_t row0, int64_t rows) {
  const int64_t dh = a.kv.dh, dv16 = RoundUp16(a.kv.dv);
  const int64_t n_tiles = (rows + kMaxRows - 1) / kMaxRows;
  const Range all{ValidKeys(a, Position(a, row0)).lo, ValidKeys(a, Position(a, row0 + rows - 1)).hi};
  PackQueries(a, x, row0, rows);
  Tile tiles[kBlockRows / kMaxRows];
  for (int64_t i = 0; i < n_tiles; ++i) {
    Tile& t = tiles[i];
    t.index = i;
    t.at = rows * i / n_tiles;
    t.row = row0 + t.at;
    t.rows = rows * (i + 1) / n_tiles - t.at;
    t.first_position = Position(a, t.row);
    t.last_position = Position(a, t.row + t.rows - 1);
    t.kept_first = t.kept = 0;
    if (a.distances != nullptr && a.max_distance - t.last_position + all.lo <= 0) {  // some key at or beyond the clamp
      const float* farthest = a.distances;
      Scores<float>(x.qv + t.at * kQueryStride, kChunkStride, t.rows, {&farthest, &farthest, &farthest, 1}, dh, x.g);
      for (int64_t r = 0; r < t.rows; ++r) x.far[t.at + r] = x.g[r * kRowStride];
    }
  }
  Fill(0, rows * dv16, x.o);
  Fill(0, rows * kPanel, x.sums);
  Fill(kMinusInfinity, rows, x.m);
  if (a.kv.type == DType::f32) AttendKeys<float>(a, x, all, tiles, n_tiles);
  if (a.kv.type == DType::bf16) AttendKeys<Bf16>(a, x, all, tiles, n_tiles);
  if (a.kv.type == DType::f16) AttendKeys<F16>(a, x, all, tiles, n_tiles);
  Finish(a, x, row0, rows);
}

void Attend(const AttentionArgs& a, int64_t begin, int64_t end, void* workspace) {
  const Scratch x(static_cast<float*>(workspace), a.kv.dh, a.kv.dv, a.kv.type);
  const int64_t row0 = begin * a.n_heads, rows = (end - begin) * a.n_heads, blocks = (rows + kBlockRows - 1) / kBlockRows;
  for (int64_t b = 0; b < blocks; ++b) AttendBlock(a, x, row0 + rows * b / blocks, rows * (b + 1) / blocks - rows * b / blocks);
}

}  // namespace attention

void FillAttention(KernelTable* table) { table->attend = attention::Attend; }

}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tern {

int64_t AttentionBlockTokens(int64_t n_tokens, int64_t n_heads) {
  if (n_tokens <= 0 || n_heads <= 0) return 1;
  const int64_t blocks = std::min(n_tokens, (n_tokens * n_heads + attention::kBlockRows - 1) / attention::kBlockRows);
  return (n_tokens + blocks - 1) / blocks;
}

int64_t AttentionWorkspaceBytes(int64_t dh, int64_t dv, DType type) {
  return attention::Scratch(nullptr, dh, dv, type).floats * static_cast<int64_t>(sizeof(float));
}

const AttentionKernels* AttentionFor(std::string_view target) { return KernelsFor(target); }

}  // namespace tern
#endif  // HWY_ONCE
