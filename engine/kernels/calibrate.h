// What this machine can do at most, measured: the figures that benchmarks print beside their own. One thread; the
// caller runs it where it wants it.
#pragma once

#include <cstdint>

namespace tern {

struct KernelTable;

struct CalibrationKernels {
  // Fused multiply-adds (baseline: multiply and add) between registers, nothing else; returns how many floating-point
  // operations were done.
  int64_t (*fma_loop)(int64_t iterations);
  // Multiply-adds of int8 between registers in the fastest form that gemm_q8 uses; returns integer operations (2 per
  // product).
  int64_t (*q8_loop)(int64_t iterations);
  // Reads n floats, n a multiple of 64, 64-byte aligned.
  float (*read_loop)(const float* data, int64_t n);
};

// The best of several windows of about 10 ms over `seconds`.
double PeakGflops(const KernelTable& kernels, double seconds = 0.1);
double PeakQ8Gops(const KernelTable& kernels, double seconds = 0.1);
// Reads `bytes` at `data` again and again (a buffer larger than the last cache for memory bandwidth); GB/s, 10^9. At
// least one pass.
double ReadGbps(const KernelTable& kernels, const void* data, int64_t bytes, double seconds = 0.1);

}  // namespace tern
