// Kernels of continuous attention (Martins et al. 2020, as the infinity-former uses it).
#pragma once

#include <cstdint>

namespace tern {

struct ContinuousKernels {
  // y[i] = integral over t of N(t; mu, variance) psi_i(t), psi_i the normal density with center centers[i] and variance variances[i]:
  // exp(-(mu - c)^2 / (2 s)) / sqrt(2 pi s), s = variances[i] + variance. REQUIRES: s > 0. n >= 0, no alignment; y overlaps nothing. Relative error below
  // 4e-7 max(1, exponent); 0 where the exponent is below -87.3. NaN in, NaN out.
  void (*gaussian_expectation)(float mu, float variance, const float* centers, const float* variances, int64_t n, float* y);
};

}  // namespace tern
