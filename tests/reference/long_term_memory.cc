#include "tests/reference/long_term_memory.h"

#include <algorithm>
#include <cmath>

namespace tern {
namespace {

using Numbers = std::vector<double>;
constexpr double kPi = 3.14159265358979323846;

double At(const Numbers& m, int64_t row, int64_t cols, int64_t col) { return m[static_cast<size_t>(row * cols + col)]; }
double Density(double z) { return std::exp(-z * z / 2) / std::sqrt(2 * kPi); }
double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// a [n, n] x = b [n, k], by elimination with pivots.
Numbers SolveLinear(Numbers a, Numbers b, int64_t n, int64_t k) {
  for (int64_t c = 0; c < n; ++c) {
    int64_t pivot = c;
    for (int64_t r = c + 1; r < n; ++r)
      if (std::abs(At(a, r, n, c)) > std::abs(At(a, pivot, n, c))) pivot = r;
    if (pivot != c) {
      std::swap_ranges(a.begin() + c * n, a.begin() + (c + 1) * n, a.begin() + pivot * n);
      std::swap_ranges(b.begin() + c * k, b.begin() + (c + 1) * k, b.begin() + pivot * k);
    }
    for (int64_t r = 0; r < n; ++r) {
      if (r == c) continue;
      const double f = At(a, r, n, c) / At(a, c, n, c);
      for (int64_t j = 0; j < n; ++j) a[static_cast<size_t>(r * n + j)] -= f * At(a, c, n, j);
      for (int64_t j = 0; j < k; ++j) b[static_cast<size_t>(r * k + j)] -= f * At(b, c, k, j);
    }
  }
  for (int64_t c = 0; c < n; ++c)
    for (int64_t j = 0; j < k; ++j) b[static_cast<size_t>(c * k + j)] /= At(a, c, n, c);
  return b;
}

// x [rows, in] w [out, in]^T
Numbers Linear(const Numbers& x, int64_t rows, int64_t in, const Numbers& w, int64_t out) {
  Numbers y(static_cast<size_t>(rows * out));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t o = 0; o < out; ++o)
      for (int64_t i = 0; i < in; ++i) y[static_cast<size_t>(r * out + o)] += At(x, r, in, i) * At(w, o, in, i);
  return y;
}

Numbers Linspace(double a, double b, int64_t n) {
  Numbers out;
  for (int64_t i = 0; i < n; ++i) out.push_back(n == 1 ? a : a + (b - a) * static_cast<double>(i) / static_cast<double>(n - 1));
  return out;
}

}  // namespace

MemoryReference::MemoryReference(const LongTermMemory& m) : m_(m) {
  for (double c : Linspace(0, 1, m.basis / m.n_widths))
    for (int w = 0; w < m.n_widths; ++w) center_.push_back(c), width_.push_back(m.widths[static_cast<size_t>(w)]);
}

Numbers MemoryReference::Psi(double t) const {
  Numbers psi;
  for (size_t n = 0; n < center_.size(); ++n) psi.push_back(Density((t - center_[n]) / width_[n]) / width_[n]);
  return psi;
}

Numbers MemoryReference::Regression(const Numbers& positions) const {
  const int64_t n = m_.basis, count = static_cast<int64_t>(positions.size());
  Numbers f(static_cast<size_t>(n * count)), gram(static_cast<size_t>(n * n));  // F [N, P]
  for (int64_t p = 0; p < count; ++p) {
    const Numbers psi = Psi(positions[static_cast<size_t>(p)]);
    for (int64_t i = 0; i < n; ++i) f[static_cast<size_t>(i * count + p)] = psi[static_cast<size_t>(i)];
  }
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t p = 0; p < count; ++p) gram[static_cast<size_t>(i * n + j)] += At(f, i, count, p) * At(f, j, count, p);
      if (i == j) gram[static_cast<size_t>(i * n + j)] += m_.ridge;
    }
  const Numbers solved = SolveLinear(gram, f, n, count);  // (F F^T + ridge I)^-1 F
  Numbers g(static_cast<size_t>(count * n));
  for (int64_t p = 0; p < count; ++p)
    for (int64_t i = 0; i < n; ++i) g[static_cast<size_t>(p * n + i)] = At(solved, i, count, p);
  return g;
}

Numbers MemoryReference::Renew(const Numbers& b, const Numbers& x, int64_t e, Numbers bins) const {
  const int64_t l = static_cast<int64_t>(x.size()) / e, n = m_.basis;
  Numbers positions, signal;
  int64_t first = 0;
  if (b.empty()) {
    const double shift = l % 2 == 0 ? 1.0 / (2.0 * static_cast<double>(l)) : 1.0 / static_cast<double>(l);
    positions = Linspace(-0.5 + shift, 1.5 - shift, l % 2 == 0 ? 2 * l : 2 * l - 1);
    first = (static_cast<int64_t>(positions.size()) - l) / 2;
    signal = x;
  } else {
    std::sort(bins.begin(), bins.end());
    for (int64_t s = 0; s < m_.samples; ++s) {
      const Numbers psi = Psi(bins.empty() ? static_cast<double>(s + 1) / static_cast<double>(m_.samples) : bins[static_cast<size_t>(s)] / 128);
      for (int64_t j = 0; j < e; ++j) {
        double sum = 0;
        for (int64_t i = 0; i < n; ++i) sum += psi[static_cast<size_t>(i)] * At(b, i, e, j);
        signal.push_back(sum);
      }
    }
    signal.insert(signal.end(), x.begin(), x.end());
    const double shift = 1.0 / static_cast<double>(2 * l + m_.samples);
    const Numbers grid = Linspace(-0.5 + shift, 1.5 - shift, 2 * (m_.samples + l));
    for (double t : grid)
      if (t < 0) positions.push_back(t);
    first = static_cast<int64_t>(positions.size());
    for (int64_t s = 1; s <= m_.samples; ++s) positions.push_back(m_.tau * static_cast<double>(s) / static_cast<double>(m_.samples));
    for (int64_t j = 1; j <= l; ++j) positions.push_back(m_.tau + (1 - m_.tau) * static_cast<double>(j) / static_cast<double>(l));
    for (double t : grid)
      if (t > 1) positions.push_back(t);
  }
  const Numbers g = Regression(positions);
  Numbers out(static_cast<size_t>(n * e));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < e; ++j)
      for (int64_t r = 0; r < static_cast<int64_t>(signal.size()) / e; ++r) out[static_cast<size_t>(i * e + j)] += At(g, first + r, n, i) * At(signal, r, e, j);
  return out;
}

Numbers MemoryReference::Expectation(double mu, double variance, bool parabola) const {
  Numbers r;
  const double sigma = std::sqrt(variance), half = std::cbrt(1.5 * variance), level = -0.5 * std::pow(3 / (2 * sigma), 2.0 / 3);
  for (size_t n = 0; n < center_.size(); ++n) {
    if (!parabola) {
      const double s = std::sqrt(width_[n] * width_[n] + variance);
      r.push_back(Density((mu - center_[n]) / s) / s);
      continue;
    }
    // By Simpson's rule, each piece of the basis function's middle.
    const double low = std::max(mu - half, center_[n] - 12 * width_[n]), high = std::min(mu + half, center_[n] + 12 * width_[n]);
    constexpr int kSteps = 4000;
    double sum = 0;
    auto value = [&](double t) { return (-level - (t - mu) * (t - mu) / (2 * variance)) * Density((t - center_[n]) / width_[n]) / width_[n]; };
    if (high > low)
      for (int i = 0; i < kSteps; ++i) {
        const double a = low + (high - low) * i / kSteps, b = low + (high - low) * (i + 1) / kSteps;
        sum += (b - a) / 6 * (value(a) + 4 * value((a + b) / 2) + value(b));
      }
    r.push_back(sum);
  }
  return r;
}

Numbers MemoryReference::Attend(const Numbers& b, const Numbers& q, const Numbers& key, const Numbers& value, const Numbers& out, const Numbers& w_mu,
                                const Numbers& w_sigma) const {
  const int64_t n = m_.basis, a = m_.width(), dh = m_.head_width, tokens = static_cast<int64_t>(q.size()) / a;
  const Numbers k = Linear(b, n, a, key, a), v = Linear(b, n, a, value, a);
  Numbers context(q.size());
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t h = 0; h < m_.heads; ++h) {
      Numbers score(static_cast<size_t>(n));
      double mu = 0, variance = 0, total = 0;
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t c = 0; c < dh; ++c) score[static_cast<size_t>(i)] += At(q, t, a, h * dh + c) * At(k, i, a, h * dh + c) / std::sqrt(static_cast<double>(dh));
        if (!w_mu.empty()) mu += w_mu[static_cast<size_t>(i)] * score[static_cast<size_t>(i)], variance += w_sigma[static_cast<size_t>(i)] * score[static_cast<size_t>(i)];
        total += std::exp(score[static_cast<size_t>(i)]);
      }
      if (!w_mu.empty()) {
        mu = Sigmoid(mu);
        variance = std::max(std::log1p(std::exp(variance)), m_.least_variance);
      } else {
        double square = 0;
        for (size_t i = 0; i < score.size(); ++i) {
          const double p = std::exp(score[i]) / total;
          mu += p * center_[i], square += p * (center_[i] * center_[i] + width_[i] * width_[i]);
        }
        variance = square - mu * mu;
      }
      const Numbers r = Expectation(mu, variance, m_.sparsemax);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t c = 0; c < dh; ++c) context[static_cast<size_t>(t * a + h * dh + c)] += r[static_cast<size_t>(i)] * At(v, i, a, h * dh + c);
    }
  return Linear(context, tokens, a, out, a);
}

Numbers MaskConvolution(const Numbers& x, int64_t l, int64_t e, const Numbers& weight, const Numbers& bias) {
  Numbers y = x;
  for (int64_t t = 0; t < l; ++t)
    for (int64_t c = 0; c < e; ++c) {
      double sum = bias[static_cast<size_t>(c)];
      for (int64_t j = 0; j < e; ++j)
        for (int64_t tap = 0; tap < 3; ++tap)
          if (t + tap - 1 >= 0 && t + tap - 1 < l) sum += weight[static_cast<size_t>((c * e + j) * 3 + tap)] * At(x, t + tap - 1, e, j);
      y[static_cast<size_t>(t * e + c)] *= Sigmoid(sum);
    }
  return y;
}

Numbers MaskAffine(const Numbers& x, int64_t l, int64_t e, const Numbers& weight, const Numbers& bias) {
  Numbers y = x;
  for (int64_t t = 0; t < l; ++t)
    for (int64_t c = 0; c < e; ++c) {
      double sum = bias[static_cast<size_t>(t)];
      for (int64_t s = 0; s < l; ++s) sum += At(weight, t, l, s) * At(x, s, e, c);
      y[static_cast<size_t>(t * e + c)] *= Sigmoid(sum);
    }
  return y;
}

}  // namespace tern
