#include "tools/corpus/sliding_minimum.h"

#include <cstring>

namespace tern::corpus {
namespace {

// values[i] = min(values[i], values[i + shift]) for i < n, W lanes at a time. (Compiler vectors: this room has no Highway.)
template <int W>
__attribute__((always_inline)) inline void MinShifted(uint64_t* values, int64_t n, int64_t shift) {
  typedef uint64_t V __attribute__((vector_size(W * 8)));
  int64_t i = 0;
  for (; i + W <= n; i += W) {
    V a, b;
    std::memcpy(&a, values + i, sizeof a);
    std::memcpy(&b, values + i + shift, sizeof b);
    a = a < b ? a : b;
    std::memcpy(values + i, &a, sizeof a);
  }
  for (; i < n; ++i) values[i] = values[i] < values[i + shift] ? values[i] : values[i + shift];
}

template <int W>
__attribute__((always_inline)) inline void Minima(uint64_t* values, int64_t count, int64_t width) {
  int64_t have = 1;
  for (; 2 * have <= width; have *= 2) MinShifted<W>(values, count - 2 * have + 1, have);
  if (have < width) MinShifted<W>(values, count - width + 1, width - have);
}

using MinimaFn = void (*)(uint64_t*, int64_t, int64_t);
#if defined(__x86_64__)
__attribute__((target("avx512f,avx512vl"))) void MinimaAvx512(uint64_t* v, int64_t count, int64_t width) { Minima<8>(v, count, width); }
__attribute__((target("avx2"))) void MinimaAvx2(uint64_t* v, int64_t count, int64_t width) { Minima<4>(v, count, width); }
#endif
void MinimaBaseline(uint64_t* v, int64_t count, int64_t width) { Minima<2>(v, count, width); }

MinimaFn Choose() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) return MinimaAvx512;
  if (__builtin_cpu_supports("avx2")) return MinimaAvx2;
#endif
  return MinimaBaseline;
}

}  // namespace

void SlidingMinimum(uint64_t* values, int64_t count, int64_t width) {
  static const MinimaFn minima = Choose();
  minima(values, count, width);
}

}  // namespace tern::corpus
