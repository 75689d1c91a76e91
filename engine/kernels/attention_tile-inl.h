// The inner loops of attention, once per SIMD target: 16-float groups, 2^x, the two products of a tile, and the passes over a row of scores.
// A "panel" is 16 positions; every row length here is a multiple of 16. The order of additions of one output element never depends on the tile's shape.
#if defined(TERN_KERNELS_ATTENTION_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TERN_KERNELS_ATTENTION_TILE_INL_H_
#undef TERN_KERNELS_ATTENTION_TILE_INL_H_
#else
#define TERN_KERNELS_ATTENTION_TILE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {
namespace attention {

// ---- One vector. Highway where it has vectors; its one-lane and emulated baselines are replaced by the compilers' own four-lane vectors. ----
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
typedef float V __attribute__((vector_size(16)));
typedef int32_t VI __attribute__((vector_size(16)));
constexpr int kLanes = 4;
inline V Load(const float* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline void Store(V v, float* p) { __builtin_memcpy(p, &v, sizeof v); }
inline V Set(float x) { return V{x, x, x, x}; }
inline V Add(V a, V b) { return a + b; }
inline V Sub(V a, V b) { return a - b; }
inline V Mul(V a, V b) { return a * b; }
inline V Div(V a, V b) { return a / b; }
inline V MulAdd(V a, V b, V c) { return a * b + c; }
inline V Select(VI mask, V yes, V no) { return (V)(((VI)yes & mask) | ((VI)no & ~mask)); }
inline V Max(V a, V b) { return Select((VI)(a > b), a, b); }  // b if either is NaN, as maxps
inline V ScaleByPowerOf2(V p, V t) { return (V)((VI)p + ((VI)t << 23)); }
inline V ZeroBelow(V x, float limit, V v) { return Select((VI)(x < Set(limit)), Set(0), v); }
#else
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
static_assert(kLanes >= 4 && kLanes <= 16 && 16 % kLanes == 0, "a panel is a whole number of vectors");
HWY_INLINE V Load(const float* p) { return hn::LoadU(D(), p); }
HWY_INLINE void Store(V v, float* p) { hn::StoreU(v, D(), p); }
HWY_INLINE V Set(float x) { return hn::Set(D(), x); }
using hn::Add;
using hn::Div;
using hn::Max;
using hn::Mul;
using hn::MulAdd;
using hn::Sub;
HWY_INLINE V ScaleByPowerOf2(V p, V t) {
  const hn::RebindToSigned<D> di;
  return hn::BitCast(D(), hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, t))));
}
HWY_INLINE V ZeroBelow(V x, float limit, V v) { return hn::IfThenZeroElse(hn::Lt(x, Set(limit)), v); }
#endif

// Elements of key and value panels as they are stored, and one vector of them in f32.
struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};
HWY_INLINE V LoadPanel(const float* p) { return Load(p); }
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
inline V LoadPanel(const Bf16* p) { return (V)(VI{p[0].bits, p[1].bits, p[2].bits, p[3].bits} << 16); }
inline V LoadPanel(const F16* p) {
  const VI h = {p[0].bits, p[1].bits, p[2].bits, p[3].bits};
  const VI magnitude = (h & 0x7fff) << 13;
  const VI special = (VI)(magnitude >= (0x7c00 << 13)) & 0x7f800000;  // infinity and NaN keep the top exponent
  return (V)((VI)Mul((V)magnitude, Set(0x1p112f)) | special | (h & 0x8000) << 16);
}
#else
HWY_INLINE V LoadPanel(const Bf16* p) {
  const hn::Rebind<uint32_t, D> du;
  const hn::Rebind<uint16_t, D> dh;
  return hn::BitCast(D(), hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(dh, &p->bits))));
}
HWY_INLINE V LoadPanel(const F16* p) {
  const hn::Rebind<hwy::float16_t, D> dh;
  return hn::PromoteTo(D(), hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(p)));
}
#endif

constexpr int kPanel = 16;
constexpr int kVecs = kPanel / kLanes;  // vectors in a panel
constexpr int kBlockKeys = 256;         // keys per softmax step; blocks start at absolute multiples of it, so that no result depends on who asks
constexpr int kBlockPanels = kBlockKeys / kPanel;
constexpr int kRowStride = 304;  // floats between rows of scores: 256 keys, or 256 + 13 + 15 distances; an odd number of cache lines

constexpr int kQueryChunk = 128;  // widths up to this take one pass over the panels
constexpr int kQueryStride = 144;  // floats between packed queries: constant, so that rows are addressed without registers

// Under a sanitizer, small tiles: the checks of a large one, unrolled, take the compiler minutes, and the code is the same.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TERN_ATTENTION_SMALL_TILES 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TERN_ATTENTION_SMALL_TILES 1
#endif
#endif

// Rows of a tile such that rows * vectors accumulators, the loaded vectors and one broadcast fit the registers.
#if defined(TERN_ATTENTION_SMALL_TILES)
constexpr int kMaxRows = 4;
#elif HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
constexpr int kMaxRows = 14;  // 14 x 32: 28 + 2 + 1 of 32
#elif HWY_ARCH_X86 && (HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128)
constexpr int kMaxRows = 2;  // 2 x 16 of 4 lanes: 8 + 4 + 1 of 16
#else
constexpr int kMaxRows = 6;  // AVX2 6 x 16: 12 + 2 + 1 of 16; NEON 24 + 4 + 1 of 32
#endif

// 2^x for x <= 0 (relative error 8e-8), exactly 1 at 0 and exactly 0 below -126: a denormal result would slow the product with V tenfold. NaN stays NaN.
HWY_INLINE V Exp2(V x) {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  // x = floor(x) + r; scalef takes the floor itself. The polynomial is a minimax fit on [0, 1) with constant term 1.
  const __m512 r = _mm512_reduce_ps(x.raw, 0x09);
  V p = Set(0.00021612914861179888f);
  const V rv{r};
  p = MulAdd(p, rv, Set(0.0012467846972867846f));
  p = MulAdd(p, rv, Set(0.009675451554358006f));
  p = MulAdd(p, rv, Set(0.055485282093286514f));
  p = MulAdd(p, rv, Set(0.2402293086051941f));
  p = MulAdd(p, rv, Set(0.6931470632553101f));
  p = MulAdd(p, rv, Set(1.0f));
  const __mmask16 keep = _mm512_cmp_ps_mask(x.raw, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
  return V{_mm512_maskz_scalef_ps(keep, p.raw, x.raw)};
#else
  const V clamped = Max(Set(-127.0f), x);                // this order keeps a NaN
  const V shifted = Add(clamped, Set(12582912.0f));      // 1.5 * 2^23: the low bits now hold round(x)
  const V r = Sub(clamped, Sub(shifted, Set(12582912.0f)));  // in [-1/2, 1/2], where the polynomial is a minimax fit with constant term 1
  V p = Set(0.00015353361959569156f);
  p = MulAdd(p, r, Set(0.0013398873852565885f));
  p = MulAdd(p, r, Set(0.00961843691766262f));
  p = MulAdd(p, r, Set(0.055503323674201965f));
  p = MulAdd(p, r, Set(0.24022647738456726f));
  p = MulAdd(p, r, Set(0.6931471824645996f));
  p = MulAdd(p, r, Set(1.0f));
  return ZeroBelow(x, -126.0f, ScaleByPowerOf2(p, shifted));
#endif
}

// ---- Products ----

// s[r][0..16 NP) = sum over k < dh of a[r][k] * panel[k][..]: R rows of queries (kQueryStride apart) against NP panels; `resume` adds to what s holds.
// Meanwhile each step fetches one line of each panel `ahead` into the first-level cache and one line of `later` into the second.
template <int R, int NP, class T>
void ScoreTile(const float* HWY_RESTRICT a, const T* const* panels, const T* const* ahead, const T* later, int64_t offset, int64_t dh, bool resume,
               float* HWY_RESTRICT s) {
  V c[R][NP * kVecs];
  HWY_UNROLL(16)
  for (int r = 0; r < R; ++r) {
    HWY_UNROLL(32)
    for (int n = 0; n < NP * kVecs; ++n) c[r][n] = resume ? Load(s + r * kRowStride + n * kLanes) : Set(0.0f);
  }
  const T* b[NP];
  const T* next[NP];
  HWY_UNROLL(8)
  for (int n = 0; n < NP; ++n) {
    b[n] = panels[n] + offset;
    next[n] = ahead[n] + offset;
  }
  later += offset;
  for (int64_t k = 0; k < dh; ++k) {
    HWY_UNROLL(8)
    for (int n = 0; n < NP; ++n) __builtin_prefetch(next[n] + k * kPanel, 0, 3);
    if constexpr (R > 3) __builtin_prefetch(later + k * kPanel, 0, 2);
    V x[NP * kVecs];
    HWY_UNROLL(32)
    for (int n = 0; n < NP * kVecs; ++n) x[n] = LoadPanel(b[n / kVecs] + k * kPanel + (n % kVecs) * kLanes);
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) {
      const V q = Set(a[r * kQueryStride + k]);
      HWY_UNROLL(32)
      for (int n = 0; n < NP * kVecs; ++n) c[r][n] = MulAdd(q, x[n], c[r][n]);
    }
  }
  HWY_UNROLL(16)
  for (int r = 0; r < R; ++r) {
    HWY_UNROLL(32)
    for (int n = 0; n < NP * kVecs; ++n) Store(c[r][n], s + r * kRowStride + n * kLanes);
  }
}

// o[r][0..NV vectors) = alpha[r] * o[r] + sum over keys k0 <= k < k1 of p[r][k] * value[k]. values[k / 16] + (k % 16) * stride is the row of key k;
// p has kRowStride, o has o_stride.
template <int R, int NV, class T>
void ValueTile(const float* HWY_RESTRICT p, const T* const* values, int64_t column, int64_t stride, int64_t k0, int64_t k1,
               const float* HWY_RESTRICT alpha, float* HWY_RESTRICT o, int64_t o_stride) {
  V c[R][NV];
  HWY_UNROLL(16)
  for (int r = 0; r < R; ++r) {
    const V f = Set(alpha[r]);
    HWY_UNROLL(8)
    for (int n = 0; n < NV; ++n) c[r][n] = Mul(f, Load(o + r * o_stride + n * kLanes));
  }
  for (int64_t k = k0; k < k1;) {
    const T* row = values[k / kPanel] + (k % kPanel) * stride + column;
    const int64_t end = HWY_MIN(k1, (k / kPanel + 1) * kPanel);
    for (; k < end; ++k, row += stride) {
      V x[NV];
      HWY_UNROLL(8)
      for (int n = 0; n < NV; ++n) x[n] = LoadPanel(row + n * kLanes);
      HWY_UNROLL(8)
      for (int n = 0; n < NV; ++n) __builtin_prefetch(row + n * kLanes + (R > 3 ? 8 : 16) * stride, 0, 3);
      HWY_UNROLL(16)
      for (int r = 0; r < R; ++r) {
        const V w = Set(p[r * kRowStride + k]);
        HWY_UNROLL(8)
        for (int n = 0; n < NV; ++n) c[r][n] = MulAdd(w, x[n], c[r][n]);
      }
    }
  }
  HWY_UNROLL(16)
  for (int r = 0; r < R; ++r) {
    HWY_UNROLL(8)
    for (int n = 0; n < NV; ++n) Store(c[r][n], o + r * o_stride + n * kLanes);
  }
}

// ---- Choice of a compiled tile ----

template <class T>
using ScoreFn = void (*)(const float*, const T* const*, const T* const*, const T*, int64_t, int64_t, bool, float*);
template <class T>
using ValueFn = void (*)(const float*, const T* const*, int64_t, int64_t, int64_t, int64_t, const float*, float*, int64_t);

// Up to this many rows a product is bound by memory: 16-bit panels are then widened in registers, else once per block into scratch.
constexpr int kFewRows = 3;

// Most rows for which NP panels are taken at once: enough independent sums to hide the latency, few enough for the registers.
template <int NP, class T>
constexpr int RowsOfPanels() {
  const int most = NP == 8 ? (kLanes == 16 ? 3 : 0) : NP == 4 ? (kLanes == 16 ? (kMaxRows < 7 ? kMaxRows : 7) : 1) : NP == 2 ? (kLanes == 16 ? kMaxRows : kLanes == 8 ? 3 : 1) : kMaxRows;
  return sizeof(T) == 4 || most < kFewRows ? most : kFewRows;
}
// Most rows for which NV vectors of values are taken at once.
template <int NV, class T>
constexpr int RowsOfVectors() {
  const int most = kLanes == 16 && NV == 4 ? (kMaxRows < 6 ? kMaxRows : 6) : kLanes == 16 && NV == 3 ? kFewRows : kMaxRows;
  return sizeof(T) == 4 || most < kFewRows ? most : kFewRows;
}

template <int NP, class T, int R = 1>
ScoreFn<T> ChooseScore(int64_t rows) {
  if constexpr (R < RowsOfPanels<NP, T>()) {
    if (rows > R) return ChooseScore<NP, T, R + 1>(rows);
  }
  return ScoreTile<R, NP, T>;
}

template <int NV, class T, int R = 1>
ValueFn<T> ChooseValue(int64_t rows) {
  if constexpr (R < RowsOfVectors<NV, T>()) {
    if (rows > R) return ChooseValue<NV, T, R + 1>(rows);
  }
  return ValueTile<R, NV, T>;
}

// What a product over here[0..n) reads and fetches: `ahead` are the panels that come after the last, later[p] is to be brought nearer while panel p is used.
template <class T>
struct Panels {
  const T* const* here;
  const T* const* ahead;
  const T* const* later;
  int64_t n;
};

// One pass, NP panels at a time from *done on, if that suits so many rows.
template <int NP, class T>
void ScoresBy(const float* a, int64_t rows, const Panels<T>& p, int64_t offset, int64_t width, bool resume, float* s, int64_t* done) {
  if constexpr (RowsOfPanels<NP, T>() > 0) {
    if (rows > RowsOfPanels<NP, T>()) return;
    const ScoreFn<T> f = ChooseScore<NP, T>(rows);
    for (; *done + NP <= p.n; *done += NP) {
      const int64_t i = *done;
      f(a, p.here + i, i + 2 * NP <= p.n ? p.here + i + NP : p.ahead, p.later[i], offset, width, resume, s + i * kPanel);
    }
  }
}

// s[rows][16 n] = scores of packed rows against n panels. Chunks of a row are chunk_stride floats apart.
template <class T>
void Scores(const float* a, int64_t chunk_stride, int64_t rows, const Panels<T>& p, int64_t dh, float* s) {
  for (int64_t c = 0; c == 0 || c < dh; c += kQueryChunk, a += chunk_stride) {  // once for width 0 too: scores of zero
    const int64_t width = dh - c < kQueryChunk ? dh - c : kQueryChunk, offset = c * kPanel;
    int64_t done = 0;
    ScoresBy<8>(a, rows, p, offset, width, c > 0, s, &done);
    ScoresBy<4>(a, rows, p, offset, width, c > 0, s, &done);
    ScoresBy<2>(a, rows, p, offset, width, c > 0, s, &done);
    ScoresBy<1>(a, rows, p, offset, width, c > 0, s, &done);
  }
}

template <int NV, class T>
void ValuesOfColumns(const float* p, int64_t rows, const T* const* values, int64_t column, int64_t stride, int64_t k0, int64_t k1, const float* alpha,
                     float* o) {
  constexpr int64_t most = RowsOfVectors<NV, T>();
  const int64_t parts = (rows + most - 1) / most;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t r0 = rows * part / parts, r1 = rows * (part + 1) / parts;
    ChooseValue<NV, T>(r1 - r0)(p + r0 * kRowStride, values, column, stride, k0, k1, alpha + r0, o + r0 * stride + column, stride);
  }
}

// o[rows][dv16] = alpha * o + p * V over keys [k0, k1) of the block.
template <class T>
void Values(const float* p, int64_t rows, const T* const* values, int64_t dv16, int64_t k0, int64_t k1, const float* alpha, float* o) {
  int64_t column = 0;
  if constexpr (kLanes == 16) {
    if (rows <= RowsOfVectors<4, T>()) {
      for (; column + 4 * kLanes <= dv16; column += 4 * kLanes) ValuesOfColumns<4>(p, rows, values, column, dv16, k0, k1, alpha, o);
    }
    if (rows <= kFewRows && dv16 - column == 3 * kLanes) {
      ValuesOfColumns<3>(p, rows, values, column, dv16, k0, k1, alpha, o);
      column += 3 * kLanes;
    }
    for (; column + 2 * kLanes <= dv16; column += 2 * kLanes) ValuesOfColumns<2>(p, rows, values, column, dv16, k0, k1, alpha, o);
    if (column < dv16) ValuesOfColumns<1>(p, rows, values, column, dv16, k0, k1, alpha, o);
  } else {
    for (; column < dv16; column += kPanel) ValuesOfColumns<kVecs>(p, rows, values, column, dv16, k0, k1, alpha, o);
  }
}

// ---- Passes over one row of scores; n is a multiple of 16 ----

HWY_INLINE void AddRow(const float* HWY_RESTRICT add, int64_t n, float* HWY_RESTRICT s) {
  for (int64_t c = 0; c < n; c += kLanes) Store(Add(Load(s + c), Load(add + c)), s + c);
}

HWY_INLINE void AddConstant(float add, int64_t n, float* HWY_RESTRICT s) {
  const V a = Set(add);
  for (int64_t c = 0; c < n; c += kLanes) Store(Add(Load(s + c), a), s + c);
}

HWY_INLINE void Fill(float value, int64_t n, float* s) {
  for (int64_t c = 0; c < n; ++c) s[c] = value;
}

// A NaN may or may not be the result; it comes out of the exponentials.
HWY_INLINE float MaxOfRow(const float* s, int64_t n) {
  V m[kVecs];
  HWY_UNROLL(4)
  for (int i = 0; i < kVecs; ++i) m[i] = Load(s + i * kLanes);
  for (int64_t c = kPanel; c < n; c += kPanel) {
    HWY_UNROLL(4)
    for (int i = 0; i < kVecs; ++i) m[i] = Max(m[i], Load(s + c + i * kLanes));
  }
  HWY_UNROLL(4)
  for (int i = 1; i < kVecs; ++i) m[0] = Max(m[0], m[i]);
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  const float a = m[0][0] > m[0][1] ? m[0][0] : m[0][1], b = m[0][2] > m[0][3] ? m[0][2] : m[0][3];
  return a > b ? a : b;
#else
  return hn::GetLane(hn::MaxOfLanes(D(), m[0]));
#endif
}

// s = 2^(s - m), and per lane sums = alpha * sums + sum of s; sums is [16].
HWY_INLINE void ExpRow(float m, float alpha, int64_t n, float* HWY_RESTRICT s, float* HWY_RESTRICT sums) {
  const V mv = Set(m), f = Set(alpha);
  V t[kVecs];
  HWY_UNROLL(4)
  for (int i = 0; i < kVecs; ++i) t[i] = Mul(f, Load(sums + i * kLanes));
  for (int64_t c = 0; c < n; c += kPanel) {
    HWY_UNROLL(4)
    for (int i = 0; i < kVecs; ++i) {
      const V e = Exp2(Sub(Load(s + c + i * kLanes), mv));
      Store(e, s + c + i * kLanes);
      t[i] = Add(t[i], e);
    }
  }
  HWY_UNROLL(4)
  for (int i = 0; i < kVecs; ++i) Store(t[i], sums + i * kLanes);
}

}  // namespace attention
}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();
#endif  // per-target include guard
