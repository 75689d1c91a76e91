#include "engine/kernels/calibrate.h"

#include <time.h>

#include <algorithm>

#include "engine/kernels/kernels.h"
#include "engine/kernels/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/calibrate.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After highway.h.
#include "engine/kernels/compat-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tern {
namespace HWY_NAMESPACE {
namespace {

int64_t FmaLoop(int64_t iterations) {
  constexpr int kChains = HWY_TARGET == HWY_AVX3 ? 24 : 12;  // latency x throughput is 8 to 10; a fair margin
  V acc[kChains];
  HWY_UNROLL(24)
  for (int i = 0; i < kChains; ++i) acc[i] = hn::Set(kD, 1.0f + static_cast<float>(i));
  const V a = hn::Set(kD, 0.999f), b = hn::Set(kD, 0.5f);
  for (int64_t n = 0; n < iterations; ++n) {
    HWY_UNROLL(4)
    for (int u = 0; u < 4; ++u) {
      HWY_UNROLL(24)
      for (int i = 0; i < kChains; ++i) acc[i] = hn::MulAdd(acc[i], a, b);
    }
  }
  HWY_UNROLL(24)
  for (int i = 1; i < kChains; ++i) acc[0] = hn::Add(acc[0], acc[i]);
  [[maybe_unused]] static volatile float sink;
  sink = hn::GetLane(acc[0]);
  return iterations * 4 * kChains * kLanes * 2;
}

float ReadLoop(const float* data, int64_t n) {
  V acc[8];
  HWY_UNROLL(8)
  for (int i = 0; i < 8; ++i) acc[i] = hn::Zero(kD);
  constexpr int64_t kStep = 8 * kLanes < 64 ? 8 * kLanes : 64;
  for (int64_t at = 0; at + kStep <= n; at += kStep) {
    HWY_UNROLL(8)
    for (int i = 0; i < kStep / kLanes; ++i) acc[i] = hn::Add(acc[i], hn::Load(kD, data + at + i * kLanes));
  }
  HWY_UNROLL(8)
  for (int i = 1; i < 8; ++i) acc[0] = hn::Add(acc[0], acc[i]);
  return hn::GetLane(acc[0]);
}

}  // namespace

void FillCalibrate(KernelTable* table) {
  table->fma_loop = FmaLoop;
  table->read_loop = ReadLoop;
}

}  // namespace HWY_NAMESPACE
}  // namespace tern
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tern {
namespace {

// Processor time of this thread: on a busy machine the wall clock measures the neighbours.
double Now() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Work per second: the best window of `seconds`.
template <class Loop>
double Best(double seconds, Loop loop) {
  int64_t iterations = 1000;
  double best = 0;
  for (double begin = Now(); Now() - begin < seconds;) {
    double start = Now();
    int64_t work = loop(iterations);
    double took = Now() - start;
    if (took < 0.002) {
      iterations *= 2;
      continue;
    }
    best = std::max(best, static_cast<double>(work) / took);
  }
  return best;
}

}  // namespace

double PeakGflops(const KernelTable& kernels, double seconds) {
  return Best(seconds, kernels.fma_loop) * 1e-9;
}
double PeakQ8Gops(const KernelTable& kernels, double seconds) {
  return Best(seconds, kernels.q8_loop) * 1e-9;
}

double ReadGbps(const KernelTable& kernels, const void* data, int64_t bytes, double seconds) {
  const auto* floats = static_cast<const float*>(data);
  int64_t n = bytes / 256 * 64;
  double best = 0;
  double begin = Now();
  do {
    double start = Now();
    int64_t read = 0;
    do {
      [[maybe_unused]] static volatile float sink;
      sink = kernels.read_loop(floats, n);
      read += n * 4;
    } while (Now() - start < 0.005);
    best = std::max(best, static_cast<double>(read) / (Now() - start));
  } while (Now() - begin < seconds);
  return best * 1e-9;
}

}  // namespace tern
#endif  // HWY_ONCE
