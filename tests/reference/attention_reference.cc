#include "tests/reference/attention_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tern::reference {
namespace {

double Score(const Attention& a, int64_t t, int64_t g, int64_t j) {
  const int64_t i = a.q_position + t;
  const float* q = a.q.data() + (t * a.G + g) * a.Dh;
  const float* k = a.k.data() + (j - a.first_position) * a.Dh;
  double s = 0;
  for (int64_t c = 0; c < a.Dh; ++c) s += (static_cast<double>(q[c]) + (a.rk.empty() ? 0.0 : a.bias_u[static_cast<size_t>(c)])) * k[c];
  if (!a.rk.empty()) {
    const float* r = a.rk.data() + std::min(i - j, a.max_distance) * a.Dh;
    for (int64_t c = 0; c < a.Dh; ++c) s += (static_cast<double>(q[c]) + a.bias_v[static_cast<size_t>(c)]) * r[c];
  }
  s *= a.scale;
  if (!a.relative_bias.empty()) {
    const int64_t d = std::clamp(j - i, a.relative_min, a.relative_max) - a.relative_min;
    s += a.relative_bias[static_cast<size_t>(g * (a.relative_max - a.relative_min + 1) + d)];
  }
  if (!a.slopes.empty()) s += static_cast<double>(a.slopes[static_cast<size_t>(g)]) * static_cast<double>(j - i);
  if (!a.key_bias.empty()) s += a.key_bias[static_cast<size_t>(j - a.first_key)];
  return s;
}

}  // namespace

AttentionResult Attend(const Attention& a) {
  const double inf = std::numeric_limits<double>::infinity();
  AttentionResult result;
  result.out.assign(static_cast<size_t>(a.T * a.G * a.Dv), 0.0);
  result.lse.assign(static_cast<size_t>(a.T * a.G), -inf);
  for (int64_t t = 0; t < a.T; ++t) {
    for (int64_t g = 0; g < a.G; ++g) {
      const int64_t i = a.q_position + t;
      std::vector<std::pair<int64_t, double>> scores;
      double top = -inf;
      for (int64_t j = a.first_key; j <= a.last_key; ++j) {
        if ((a.causal || !a.rk.empty()) && j > i) continue;
        if (a.window > 0 && j <= i - a.window) continue;
        const double s = Score(a, t, g, j);
        scores.emplace_back(j, s);
        top = std::max(top, s);
        if (std::isfinite(s)) result.largest_score = std::max(result.largest_score, std::abs(s));
      }
      if (top == -inf) continue;
      double sum = 0;
      for (auto& [j, s] : scores) sum += std::exp(s - top);
      double* out = result.out.data() + (t * a.G + g) * a.Dv;
      for (auto& [j, s] : scores) {
        for (int64_t c = 0; c < a.Dv; ++c) {
          const double v = a.v[static_cast<size_t>((j - a.first_position) * a.Dv + c)];
          out[c] += std::exp(s - top) / sum * v;
          result.largest_value = std::max(result.largest_value, std::abs(v));
        }
      }
      result.lse[static_cast<size_t>(t * a.G + g)] = top + std::log(sum);
    }
  }
  return result;
}

}  // namespace tern::reference
