// One set of integer tiles, included once per instruction set inside its own namespace, which has defined:
//   Vec          a vector of int32
//   kWideTile    the most rows of a tile of two vectors that fit the registers (14 of 32 registers, 6 or 4 of 16)
//   kUnroll      lines a turn
//   Set, LoadBytes, Store, Dot(acc, x, w) = acc + sum of four products, LoadSums = what the sum starts from: -128 * the
//   column sums if Dot takes x as it is
// No include guard on purpose.

constexpr int kLanes = static_cast<int>(sizeof(Vec) / 4);
constexpr int kVectors = 16 / kLanes;  // in a panel's line

template <int R, int P>
HWY_INLINE void Step(const int8_t* HWY_RESTRICT line, int64_t panel_bytes, const uint8_t* HWY_RESTRICT x,
                     const uint8_t* HWY_RESTRICT x7, int64_t ldx, int at, Vec (&acc)[R][P * kVectors]) {
  Vec w[P * kVectors];
  HWY_UNROLL(16)
  for (int p = 0; p < P; ++p) {
    HWY_UNROLL(16)
    for (int j = 0; j < kVectors; ++j) w[p * kVectors + j] = LoadBytes(line + p * panel_bytes + j * 4 * kLanes);
  }
  HWY_UNROLL(16)
  for (int r = 0; r < R; ++r) {
    const uint8_t* row = r < 7 ? x + r * ldx : x7 + (r - 7) * ldx;
    int32_t four;
    __builtin_memcpy(&four, row + at, 4);
    const Vec a = Set(four);
    HWY_UNROLL(16)
    for (int j = 0; j < P * kVectors; ++j) acc[r][j] = Dot(acc[r][j], a, w[j]);
  }
}

template <int R, int P>
void Tile(const Q8TileArgs& t) {
  constexpr int kColumns = P * kVectors;
  Vec acc[R][kColumns];
  HWY_UNROLL(16)
  for (int j = 0; j < kColumns; ++j) {
    const Vec start = LoadSums(t.column_sums + j * kLanes);
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) acc[r][j] = start;
  }
  const uint8_t* HWY_RESTRICT x = t.x;
  const uint8_t* HWY_RESTRICT x7 = R > 7 ? t.x + 7 * t.ldx : t.x;
  const int8_t* HWY_RESTRICT line = t.panel;
  const int8_t* HWY_RESTRICT prefetch = t.prefetch;
  const int64_t ldx = t.ldx, panel_bytes = t.panel_bytes;
  int64_t groups = t.groups;
  for (; groups >= kUnroll; groups -= kUnroll) {
    HWY_UNROLL(16)
    for (int u = 0; u < kUnroll; ++u) {
      __builtin_prefetch(prefetch + u * 64, 0, 2);
      Step<R, P>(line + u * 64, panel_bytes, x, x7, ldx, u * 4, acc);
    }
    prefetch += kUnroll * 64;
    line += kUnroll * 64;
    x += kUnroll * 4;
    x7 += kUnroll * 4;
  }
  for (; groups > 0; --groups) {
    Step<R, P>(line, panel_bytes, x, x7, ldx, 0, acc);
    line += 64;
    x += 4;
    x7 += 4;
  }
  HWY_UNROLL(16)
  for (int r = 0; r < R; ++r) {
    HWY_UNROLL(16)
    for (int j = 0; j < kColumns; ++j) Store(acc[r][j], t.out + r * 16 * P + j * kLanes);
  }
}

int64_t PeakLoop(int64_t iterations) {
  constexpr int kChains = 2 * kWideTile - 2;
  Vec acc[kChains];
  HWY_UNROLL(32)
  for (int i = 0; i < kChains; ++i) acc[i] = Set(i);
  Vec a = Set(0x01020304), w = Set(0x01010101);
  for (int64_t n = 0; n < iterations; ++n) {
    HWY_UNROLL(4)
    for (int u = 0; u < 4; ++u) {
      HWY_UNROLL(32)
      for (int i = 0; i < kChains; ++i) {
        // Another product every time, for all the compiler knows: two weights for one x.
        if (i % 2 == 0) asm volatile("" : "+v"(a));
        asm volatile("" : "+v"(w));
        acc[i] = Dot(acc[i], a, w);
      }
    }
  }
  HWY_UNROLL(32)
  for (int i = 1; i < kChains; ++i) acc[0] += acc[i];
  int32_t out[kLanes];
  Store(acc[0], out);
  [[maybe_unused]] static volatile int32_t sink;
  sink = out[0];
  return iterations * 4 * kChains * kLanes * 8;
}

template <int P, int... R>
constexpr TileRow<sizeof...(R)> MakeRow(std::integer_sequence<int, R...>) {
  return {{Tile<R + 1, P>...}};
}
constexpr int kRows[4] = {kWideTile, kLanes == 16 ? kWideTile : kWideTile / 2, kLanes == 16 ? 6 : 1,
                          kLanes == 16 ? 3 : 0};
constexpr auto kTiles1 = MakeRow<1>(std::make_integer_sequence<int, kRows[0]>{});
constexpr auto kTiles2 = MakeRow<2>(std::make_integer_sequence<int, kRows[1]>{});
constexpr auto kTiles4 = MakeRow<4>(std::make_integer_sequence<int, kRows[2]>{});
#if TERN_Q8_WIDEST == 8
constexpr auto kTiles8 = MakeRow<8>(std::make_integer_sequence<int, kRows[3]>{});
constexpr Q8TileFn const* kEight = kTiles8.fn;
#else
constexpr Q8TileFn const* kEight = nullptr;
#endif
constexpr Q8Tiles kAll = {{kRows[0], kRows[1], kRows[2], kRows[3]},
                          {kTiles1.fn, kTiles2.fn, kTiles4.fn, kEight},
                          kLanes == 16 ? 1 : 0,
                          PeakLoop};
