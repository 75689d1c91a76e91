// Integer tiles for x86: AVX-512 VNNI, AVX-VNNI, and AVX2 without either.
//
// VNNI multiplies unsigned by signed bytes and adds four products without saturation: exact. AVX2's vpmaddubsw
// saturates at 16 bits when pairs of 255 x 127 meet; taking |x - 128| <= 127 as the unsigned operand and giving its
// sign to the weight keeps a pair within 2 x 127 x 127 = 32258: exact too.
//
// Not through Highway: 1.0.3 knows no such instructions, and g++ 12 spills accumulators of its 512-bit integer type (a
// plain vector type is fine).
#include "engine/kernels/q8_tile.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

#include <utility>

#include "hwy/base.h"

namespace tern {
namespace {

template <size_t kCount>
struct TileRow {
  Q8TileFn fn[kCount];
};

using Int16 = int __attribute__((vector_size(64)));
using Int8 = int __attribute__((vector_size(32)));

bool HasAvxVnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
}

}  // namespace

#define TERN_Q8_WIDEST 8
HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
namespace {
namespace avx512_vnni {
using Vec = Int16;
constexpr int kWideTile = 14, kUnroll = 4;
HWY_INLINE Vec Set(int32_t v) {
  return (Vec)_mm512_set1_epi32(v);
}
HWY_INLINE Vec LoadBytes(const int8_t* p) {
  return (Vec)_mm512_load_si512(p);
}
HWY_INLINE Vec LoadSums(const int32_t* p) {
  return (Vec)_mm512_loadu_si512(p) * -128;
}
HWY_INLINE void Store(Vec v, int32_t* p) {
  _mm512_storeu_si512(p, (__m512i)v);
}
HWY_INLINE Vec Dot(Vec acc, Vec x, Vec w) {
  return (Vec)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)x, (__m512i)w);
}
#include "engine/kernels/q8_tile-inl.h"
}  // namespace avx512_vnni
}  // namespace
HWY_POP_ATTRIBUTES
#undef TERN_Q8_WIDEST

#define TERN_Q8_WIDEST 4
HWY_PUSH_ATTRIBUTES("avx2,avxvnni")
namespace {
namespace avx_vnni {
using Vec = Int8;
constexpr int kWideTile = 6, kUnroll = 4;
HWY_INLINE Vec Set(int32_t v) {
  return (Vec)_mm256_set1_epi32(v);
}
HWY_INLINE Vec LoadBytes(const int8_t* p) {
  return (Vec)_mm256_load_si256(reinterpret_cast<const __m256i*>(p));
}
HWY_INLINE Vec LoadSums(const int32_t* p) {
  return (Vec)_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)) * -128;
}
HWY_INLINE void Store(Vec v, int32_t* p) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
}
HWY_INLINE Vec Dot(Vec acc, Vec x, Vec w) {
  return (Vec)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)x, (__m256i)w);
}
#include "engine/kernels/q8_tile-inl.h"
}  // namespace avx_vnni
}  // namespace
HWY_POP_ATTRIBUTES

HWY_PUSH_ATTRIBUTES("avx2")
namespace {
namespace avx2 {
using Vec = Int8;
constexpr int kWideTile = 4, kUnroll = 1;
HWY_INLINE Vec Set(int32_t v) {
  return (Vec)_mm256_set1_epi32(v);
}
HWY_INLINE Vec LoadBytes(const int8_t* p) {
  return (Vec)_mm256_load_si256(reinterpret_cast<const __m256i*>(p));
}
HWY_INLINE Vec LoadSums(const int32_t*) {
  return (Vec)_mm256_setzero_si256();
}  // the zero point is taken off x
HWY_INLINE void Store(Vec v, int32_t* p) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
}
HWY_INLINE Vec Dot(Vec acc, Vec x, Vec w) {
  const __m256i q = _mm256_xor_si256((__m256i)x, _mm256_set1_epi8(-128));  // x - 128 as int8
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8((__m256i)w, q));
  return acc + (Vec)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#include "engine/kernels/q8_tile-inl.h"
}  // namespace avx2
}  // namespace
HWY_POP_ATTRIBUTES
#undef TERN_Q8_WIDEST

const Q8Tiles* Q8TilesAvx512Vnni() {
  return __builtin_cpu_supports("avx512vnni") ? &avx512_vnni::kAll : nullptr;
}
const Q8Tiles* Q8TilesAvxVnni() {
  return HasAvxVnni() ? &avx_vnni::kAll : nullptr;
}
const Q8Tiles* Q8TilesAvx2() {
  return &avx2::kAll;
}

}  // namespace tern

#else

namespace tern {
const Q8Tiles* Q8TilesAvx512Vnni() {
  return nullptr;
}
const Q8Tiles* Q8TilesAvxVnni() {
  return nullptr;
}
const Q8Tiles* Q8TilesAvx2() {
  return nullptr;
}
}  // namespace tern

#endif
