// The infinity-former's long-term memory, slow and obvious, in double: formulas of the paper and of the public code, nothing folded or precomputed.
#pragma once

#include <vector>

#include "engine/graph/long_term_memory.h"

namespace tern {

class MemoryReference {
 public:
  explicit MemoryReference(const LongTermMemory& m);

  // B [N, e] after the rows x [l, e]: a fit if b is empty, else an update; `bins`: sticky samples at the bins' left edges, else evenly.
  std::vector<double> Renew(const std::vector<double>& b, const std::vector<double>& x, int64_t e, std::vector<double> bins = {}) const;
  // The integrals of the basis against the normal density, or the truncated parabola. [N]
  std::vector<double> Expectation(double mu, double variance, bool parabola) const;
  // What the heads read of B: q [T, A], weights [A, A] (out, in), w_mu and w_sigma [N] or empty (moments) -> [T, A].
  std::vector<double> Attend(const std::vector<double>& b, const std::vector<double>& q, const std::vector<double>& key, const std::vector<double>& value,
                             const std::vector<double>& out, const std::vector<double>& w_mu, const std::vector<double>& w_sigma) const;

 private:
  std::vector<double> Psi(double t) const;
  // F^T (F F^T + ridge I)^-1 [P, N]
  std::vector<double> Regression(const std::vector<double>& positions) const;

  LongTermMemory m_;
  std::vector<double> center_, width_;
};

// x sigmoid(g(x)), x [l, e]: a convolution over time with weight [e, e, 3], or a linear map of time with weight [l, l].
std::vector<double> MaskConvolution(const std::vector<double>& x, int64_t l, int64_t e, const std::vector<double>& weight, const std::vector<double>& bias);
std::vector<double> MaskAffine(const std::vector<double>& x, int64_t l, int64_t e, const std::vector<double>& weight, const std::vector<double>& bias);

}  // namespace tern
