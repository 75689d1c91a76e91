// The loops around the register tile: blocks of rows that stay in L2, groups of panels, tiles of rows.
#include "engine/kernels/epilogue-inl.h"
#include "engine/kernels/tile-inl.h"

#if defined(TERN_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TERN_GEMM_INL_H_
#undef TERN_GEMM_INL_H_
#else
#define TERN_GEMM_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {

// The most rows of a tile of P panels whose accumulators fit the registers; 0: such a tile does not exist. A 16-bit
// type keeps two k's of weights in registers and so has room for fewer rows.
template <class W>
constexpr int MaxRows(int panels) {
#if TERN_PLAIN
  return panels == 1 ? kMaxRows : 0;
#else
  if (kMaxRows == 14) {
    switch (panels) {
      case 1:
      case 2:
        return W::kMost16x2;
      case 4:
        return W::kStep == 1 ? 6 : 5;
      case 8:
        return W::kStep == 1 ? 3 : 1;
      default:
        return 0;
    }
  }
  if (kMaxRows == 6)
    return panels == 1 ? (W::kStep == 1 ? 6 : 5) : panels == 2 ? (W::kStep == 1 ? 3 : 1) : panels == 4 ? 1 : 0;
  return panels == 1 ? kMaxRows : panels == 2 ? 1 : 0;
#endif
}
// The widest group of panels that serves m rows in one tile, or the group for many rows.
constexpr int kManyRowsPanels = kMaxRows == 14 ? 2 : 1;
template <class W>
constexpr int GroupPanels(int64_t m) {
  for (int panels = 8; panels > 1; panels /= 2)
    if (m <= MaxRows<W>(panels)) return panels;
  return kManyRowsPanels;
}

template <class W, int P, int... R>
struct TileTable {
  static constexpr TileFn kTiles[] = {RunTile<W, R + 1, P>...};
};
template <class W, int P, int... R>
constexpr TileTable<W, P, R...> MakeTileTable(std::integer_sequence<int, R...>);
// The tile of `rows` rows, 1 <= rows <= MaxRows<W>(P).
template <class W, int P>
HWY_INLINE TileFn TileFor(int64_t rows) {
  return decltype(MakeTileTable<W, P>(std::make_integer_sequence<int, MaxRows<W>(P)>{}))::kTiles[rows - 1];
}

// Rows of the next tile when `left` remain: full ones, and an even split of what would otherwise end in a sliver.
HWY_INLINE int64_t TileRows(int64_t left, int64_t most) {
  if (left >= 2 * most) return most;
  return left > most ? (left + 1) / 2 : left;
}

// Rows of x as the tiles take them: as they are, or packed into scratch, tile after tile, each [ceil(K / 16)][rows][16]: sixteen columns of a tile are
// then neighbours, whatever the stride of x (rows a multiple of 4096 bytes apart all fall into the same few lines of L1).
struct Rows {
  const float* data;    // row `first`
  int64_t first;
  int64_t ldx;          // of x as it is
  int64_t packed_step;  // > 0: packed; floats per row, K rounded up to 16

  // For a tile of `rows` rows from `row` on.
  HWY_INLINE void Point(int64_t row, int64_t rows, TileArgs* t) const {
    t->x = data + (row - first) * (packed_step > 0 ? packed_step : ldx);
    t->ldx = packed_step > 0 ? 16 : ldx;
    t->jump = packed_step > 0 ? rows * 16 - 16 : 0;
  }
};

// Columns [begin, begin + k) of K. A deep product is taken slice by slice, so that rows and panels of one slice fit L2; between two slices y holds the sums
// so far, and the next tile takes them up again: still one chain of multiply-adds.
struct Slice {
  int64_t begin, k;
  bool first, last;
};

struct PanelGroup {
  const uint8_t* data;  // the group's panels, `bytes` apart
  int64_t bytes;
  int64_t column;       // of y, of the first panel
  const uint8_t* next;  // what follows, to be fetched into L2 meanwhile
  int64_t next_lines;
};

// Rows [x.first, row_end) of one group of panels and one slice of K; x points at the slice.
template <class W, int P>
void RunGroup(const GemmCall& c, const Rows& x, int64_t row_end, bool stream, const Slice& slice, const PanelGroup& g) {
  constexpr int kMost = MaxRows<W>(P);
  HWY_ALIGN float buffer[kMost * 16 * P];
  const int64_t columns = c.w.n - g.column < 16 * P ? c.w.n - g.column : 16 * P;
  const Epilogue epilogue = slice.last ? c.epilogue : Epilogue::kNone;
  const bool direct = columns == 16 * P && epilogue == Epilogue::kNone;
  const float* bias = c.bias && slice.last ? c.bias + g.column : nullptr;
  const int64_t skipped = slice.begin / W::kStep * 64;  // bytes of a panel before the slice
  TileArgs t;
  t.k = slice.k;
  t.panel = g.data + skipped;
  t.panel_bytes = g.bytes;
  t.bias = direct ? bias : nullptr;
  t.resume = !slice.first;
  t.accumulate = direct && c.accumulate;
  t.stream = direct && stream && slice.last;
  t.ldy = direct ? c.ldy : 16 * P;
  int64_t fetched = 0;
  for (int64_t row = x.first, rows; row < row_end; row += rows) {
    rows = TileRows(row_end - row, kMost);
    float* y = c.y + row * c.ldy + g.column;
    x.Point(row, rows, &t);
    t.y = direct ? y : buffer;
    t.prefetch = g.next + skipped + fetched;
    fetched = fetched + 2 * g.bytes <= g.next_lines * 64 ? fetched + g.bytes : 0;
    if (direct && !t.stream)
      for (int64_t r = 0; r < rows; ++r)
        for (int p = 0; p < P; ++p) __builtin_prefetch(y + r * c.ldy + 16 * p, 1);
    if (!direct && t.resume)
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t j = 0; j < columns; ++j) buffer[r * 16 * P + j] = y[r * c.ldy + j];
    TileFor<W, P>(rows)(t);
    if (!direct) Finish(epilogue, {buffer, 16 * P, rows, columns, bias, c.accumulate, y, c.ldy});
  }
}

// Rows of x that are taken together: they and a group of panels share L2.
template <class W>
HWY_INLINE int64_t RowBlock(int64_t m, int64_t k) {
  constexpr int64_t most = MaxRows<W>(kManyRowsPanels);
  const int64_t block = MostBlockRows(k) / most * most;  // at least two tiles: none is larger than 14 rows
  if (m <= block) return m;
  const int64_t blocks = (m + block - 1) / block;
  return ((m + blocks - 1) / blocks + most - 1) / most * most;
}

// y bypasses the caches if the whole product is larger than any of them and lies so that it can.
HWY_INLINE bool Streams(const GemmCall& c) {
  return !c.accumulate && c.m * c.w.n >= (int64_t{2} << 20) && c.ldy % 16 == 0 &&
         reinterpret_cast<uintptr_t>(c.y) % 64 == 0;
}

// What stands in memory behind the panels of a call and is fetched while the last of them are used.
struct Following {
  const uint8_t* data = nullptr;  // null: the call's first panels, for the next block of rows
  int64_t lines = 0;
};

// The call's panels for rows [x.first, row_end), `most` of them at a time.
template <class W>
void RunPanels(const GemmCall& c, const Rows& x, int64_t row_end, int most, bool stream, const Slice& slice, const Following& following) {
  const auto* base = static_cast<const uint8_t*>(c.w.data);
  const int64_t bytes = c.w.panel_bytes();
  for (int64_t p = c.panel_begin; p < c.panel_end;) {
    int count = most;
    while (p + count > c.panel_end) count /= 2;
    PanelGroup g{base + p * bytes, bytes, p * 16, nullptr, 0};
    const int64_t next = p + count < c.panel_end ? p + count : c.panel_begin;
    g.next = base + next * bytes;
    g.next_lines = (c.panel_end - next < count ? c.panel_end - next : count) * bytes / 64;
    if (next == c.panel_begin && following.data) {
      g.next = following.data;
      g.next_lines = following.lines;
    }
    switch (count) {
      case 1:
        RunGroup<W, 1>(c, x, row_end, stream, slice, g);
        break;
      case 2:
        if constexpr (MaxRows<W>(2) > 0) RunGroup<W, 2>(c, x, row_end, stream, slice, g);
        break;
      case 4:
        if constexpr (MaxRows<W>(4) > 0) RunGroup<W, 4>(c, x, row_end, stream, slice, g);
        break;
      case 8:
        if constexpr (MaxRows<W>(8) > 0) RunGroup<W, 8>(c, x, row_end, stream, slice, g);
        break;
    }
    p += count;
  }
}

// Rows are packed where that pays: they collide in L1, more than one tile of them meets enough panels, and there is scratch.
template <class W>
HWY_INLINE bool Packs(const GemmCall& c) {
  return c.scratch && RowsCollide(c.ldx, c.w.k) && c.m > MaxRows<W>(kManyRowsPanels) / 2 && c.panel_end - c.panel_begin >= kPackPanels;
}

// Rows [row, row_end) of a slice of x into `to`, in tiles of at most `most`.
HWY_INLINE void PackRows(const GemmCall& c, const Slice& slice, int64_t row, int64_t row_end, int64_t most, float* HWY_RESTRICT to) {
  for (int64_t rows; row < row_end; row += rows) {
    rows = TileRows(row_end - row, most);
    for (int64_t k = 0; k < slice.k; k += 16)
      for (int64_t r = 0; r < rows; ++r, to += 16) {
        const float* from = c.x + (row + r) * c.ldx + slice.begin + k;
        __builtin_prefetch(from + 64);
        if (k + 16 <= slice.k) __builtin_memcpy(to, from, 64);
        else __builtin_memcpy(to, from, static_cast<size_t>(slice.k - k) * 4);
      }
  }
}

template <class W>
void RunGemm(const GemmCall& c, const Following& following = {}) {
  const bool stream = Streams(c), packs = Packs<W>(c);
  // Few rows are bound by the reading of W, which goes on best from end to end.
  const int64_t depth = c.accumulate || c.m <= MaxRows<W>(kManyRowsPanels) ? c.w.k : SliceInputs(c.w.k);
  const int64_t block = RowBlock<W>(c.m, depth);
  for (int64_t row = 0; row < c.m; row += block) {
    const int64_t row_end = row + block < c.m ? row + block : c.m;
    const int group = GroupPanels<W>(row_end - row);
    int64_t k = 0;
    do {
      const Slice slice{k, c.w.k - k < depth ? c.w.k - k : depth, k == 0, k + depth >= c.w.k};
      Rows x{c.x + row * c.ldx + k, row, c.ldx, 0};
      if (packs && group == kManyRowsPanels) {
        PackRows(c, slice, row, row_end, MaxRows<W>(group), static_cast<float*>(c.scratch));
        x.data = static_cast<const float*>(c.scratch), x.packed_step = (slice.k + 15) / 16 * 16;
      }
      RunPanels<W>(c, x, row_end, group, stream, slice, following);
      k += depth;
    } while (k < c.w.k);
  }
  if (stream) hwy::FlushStream();
}

}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();
#endif  // TERN_GEMM_INL_H_
