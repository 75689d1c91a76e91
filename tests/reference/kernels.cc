#include "tests/reference/kernels.h"

#include <algorithm>
#include <cmath>

namespace tern::reference {

double Sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

double Activate(Epilogue epilogue, double x) {
  switch (epilogue) {
    case Epilogue::kNone:
      return x;
    case Epilogue::kRelu:
      return x < 0 ? 0 : x;
    case Epilogue::kGelu:
      return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    case Epilogue::kGeluNew:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Epilogue::kSilu:
      return x * Sigmoid(x);
    case Epilogue::kTanh:
      return std::tanh(x);
  }
  return 0;
}

std::vector<double> Gemm(const std::vector<float>& x, const std::vector<float>& w, const float* bias, int64_t m,
                         int64_t n, int64_t k, Epilogue epilogue, std::vector<double>* magnitude) {
  std::vector<double> y(m * n);
  if (magnitude) magnitude->assign(m * n, 0);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0, size = 0;
      for (int64_t c = 0; c < k; ++c) {
        double term = static_cast<double>(x[i * k + c]) * w[j * k + c];
        sum += term;
        size += std::fabs(term);
      }
      if (bias) sum += bias[j], size += std::fabs(bias[j]);
      y[i * n + j] = Activate(epilogue, sum);
      if (magnitude) (*magnitude)[i * n + j] = size;
    }
  return y;
}

std::vector<double> LayerNorm(const std::vector<double>& x, const float* gamma, const float* beta, double eps) {
  double mean = 0, variance = 0;
  for (double v : x) mean += v / static_cast<double>(x.size());
  for (double v : x) variance += (v - mean) * (v - mean) / static_cast<double>(x.size());
  std::vector<double> y(x.size());
  for (size_t i = 0; i < x.size(); ++i)
    y[i] = (x[i] - mean) / std::sqrt(variance + eps) * (gamma ? gamma[i] : 1) + (beta ? beta[i] : 0);
  return y;
}

std::vector<double> RmsNorm(const std::vector<double>& x, const float* gamma, double eps) {
  double square = 0;
  for (double v : x) square += v * v / static_cast<double>(x.size());
  std::vector<double> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] / std::sqrt(square + eps) * (gamma ? gamma[i] : 1);
  return y;
}

double LogSumExp(const std::vector<float>& x) {
  double max = -INFINITY, sum = 0;
  for (double v : x) max = std::max(max, v);
  for (double v : x) sum += std::exp(v - max);
  return max + std::log(sum);
}

std::vector<double> Softmax(const std::vector<float>& x) {
  std::vector<double> y(x.size());
  double lse = LogSumExp(x);
  for (size_t i = 0; i < x.size(); ++i) y[i] = std::exp(x[i] - lse);
  return y;
}

}  // namespace tern::reference
