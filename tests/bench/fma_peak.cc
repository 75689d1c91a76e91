#include "tests/bench/fma_peak.h"

#include <time.h>

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tern::bench {
namespace {

double Now() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

#if defined(__x86_64__)
// 24 (12) accumulators. The build aligns the loops to 64 bytes: across a fetch line they read up to 15 % less.
__attribute__((target("avx512f"), noinline)) float Loop512() {
  __m512 c[24];
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
#pragma GCC unroll 24
  for (int i = 0; i < 24; ++i) c[i] = _mm512_set1_ps(static_cast<float>(i));
  for (int k = 0; k < 1024; ++k) {
#pragma GCC unroll 24
    for (int i = 0; i < 24; ++i) c[i] = _mm512_fmadd_ps(c[i], a, b);
#pragma GCC unroll 24
    for (int i = 0; i < 24; ++i) asm volatile("" : "+v"(c[i]));
  }
  __m512 sum = c[0];
#pragma GCC unroll 24
  for (int i = 1; i < 24; ++i) sum = _mm512_add_ps(sum, c[i]);
  float f[16];
  _mm512_storeu_ps(f, sum);
  return f[0] + f[15];
}
__attribute__((target("avx2,fma"), noinline)) float Loop256() {
  __m256 c[12];
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
#pragma GCC unroll 12
  for (int i = 0; i < 12; ++i) c[i] = _mm256_set1_ps(static_cast<float>(i));
  for (int k = 0; k < 2048; ++k) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) c[i] = _mm256_fmadd_ps(c[i], a, b);
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) asm volatile("" : "+x"(c[i]));
  }
  __m256 sum = c[0];
#pragma GCC unroll 12
  for (int i = 1; i < 12; ++i) sum = _mm256_add_ps(sum, c[i]);
  float f[8];
  _mm256_storeu_ps(f, sum);
  return f[0] + f[7];
}
#endif

float LoopPlain() {
  typedef float V __attribute__((vector_size(16)));
  V c[8], a = {0.999f, 0.999f, 0.999f, 0.999f}, b = {0.001f, 0.001f, 0.001f, 0.001f};
  for (int i = 0; i < 8; ++i) c[i] = V{static_cast<float>(i), 0, 0, 0};
  for (int k = 0; k < 2048; ++k) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) c[i] = c[i] * a + b;
  }
  float s = 0;
  for (int i = 0; i < 8; ++i) s += c[i][0];
  return s;
}

}  // namespace

double FmaGflops(const std::string& target) {
  float (*loop)() = LoopPlain;
  double flops = 2048.0 * 8 * 4 * 2;
#if defined(__x86_64__)
  if (target == "avx512") loop = Loop512, flops = 1024.0 * 24 * 16 * 2;
  if (target == "avx2") loop = Loop256, flops = 2048.0 * 12 * 8 * 2;
#endif
  (void)target;
  // The mean, not the best: the kernels are timed over as long a window, and on a shared machine a lucky 30 us says nothing about either.
  volatile float sink = 0;
  int64_t calls = 0;
  const double start = Now();
  do {
    for (int i = 0; i < 4; ++i, ++calls) sink = sink + loop();
  } while (Now() - start < 0.001);
  return static_cast<double>(calls) * flops / (Now() - start) * 1e-9;
}

}  // namespace tern::bench
