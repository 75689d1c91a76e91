// Slow, obvious versions in double of what engine/kernels computes.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/kernels/gemm.h"

namespace tern::reference {

double Activate(Epilogue epilogue, double x);
double Sigmoid(double x);

// y [m, n] = act(x [m, k] w [n, k]^T + bias), dense. `magnitude` (if not null) receives sum |x w| + |bias| of every
// value: what rounding errors scale with.
std::vector<double> Gemm(const std::vector<float>& x, const std::vector<float>& w, const float* bias, int64_t m,
                         int64_t n, int64_t k, Epilogue epilogue, std::vector<double>* magnitude);

std::vector<double> LayerNorm(const std::vector<double>& x, const float* gamma, const float* beta, double eps);
std::vector<double> RmsNorm(const std::vector<double>& x, const float* gamma, double eps);
std::vector<double> Softmax(const std::vector<float>& x);
double LogSumExp(const std::vector<float>& x);

}  // namespace tern::reference
