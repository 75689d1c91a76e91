#include "tools/eigenvalues.h"

#include <algorithm>
#include <cmath>

namespace tern {
namespace {

// d: the diagonal, e[i]: beside it, between i and i + 1 (e[n-1] unused). Reflections from the last row upwards, each applied to what is left.
void Tridiagonalize(std::vector<double>& a, int64_t n, std::vector<double>* d, std::vector<double>* e) {
  auto at = [&](int64_t i, int64_t j) -> double& { return a[static_cast<size_t>(i * n + j)]; };
  std::vector<double> u(static_cast<size_t>(n)), p(static_cast<size_t>(n));
  for (int64_t i = n - 1; i > 0; --i) {
    // Row i left of the diagonal becomes (0, ..., 0, e): H = I - u u^T / h.
    double squares = 0;
    for (int64_t j = 0; j < i; ++j) u[static_cast<size_t>(j)] = at(i, j), squares += at(i, j) * at(i, j);
    double above = 0;
    for (int64_t j = 0; j + 1 < i; ++j) above += u[static_cast<size_t>(j)] * u[static_cast<size_t>(j)];
    const size_t last = static_cast<size_t>(i - 1);
    if (above == 0) {
      (*e)[last] = u[last];
      continue;
    }
    const double norm = u[last] > 0 ? -std::sqrt(squares) : std::sqrt(squares);
    const double h = squares - norm * u[last];
    u[last] -= norm;
    (*e)[last] = norm;
    double k = 0;
    for (int64_t r = 0; r < i; ++r) {
      double sum = 0;
      for (int64_t j = 0; j <= r; ++j) sum += at(r, j) * u[static_cast<size_t>(j)];
      for (int64_t j = r + 1; j < i; ++j) sum += at(j, r) * u[static_cast<size_t>(j)];
      p[static_cast<size_t>(r)] = sum / h;
      k += u[static_cast<size_t>(r)] * sum / h;
    }
    k /= 2 * h;
    for (int64_t r = 0; r < i; ++r) p[static_cast<size_t>(r)] -= k * u[static_cast<size_t>(r)];
    for (int64_t r = 0; r < i; ++r)
      for (int64_t j = 0; j <= r; ++j) at(r, j) -= u[static_cast<size_t>(r)] * p[static_cast<size_t>(j)] + p[static_cast<size_t>(r)] * u[static_cast<size_t>(j)];
  }
  for (int64_t i = 0; i < n; ++i) (*d)[static_cast<size_t>(i)] = at(i, i);
}

// Implicit QL with Wilkinson's shift on d, e; at most 60 sweeps an eigenvalue (a few are usual).
void ReduceToDiagonal(int64_t n, std::vector<double>& d, std::vector<double>& e) {
  for (int64_t l = 0; l < n; ++l)
    for (int sweep = 0; sweep < 60; ++sweep) {
      int64_t m = l;
      for (; m + 1 < n; ++m) {
        const double scale = std::fabs(d[static_cast<size_t>(m)]) + std::fabs(d[static_cast<size_t>(m + 1)]);
        if (std::fabs(e[static_cast<size_t>(m)]) <= 1e-16 * scale) break;
      }
      if (m == l) break;
      double g = (d[static_cast<size_t>(l + 1)] - d[static_cast<size_t>(l)]) / (2 * e[static_cast<size_t>(l)]);
      double r = std::hypot(g, 1.0);
      g = d[static_cast<size_t>(m)] - d[static_cast<size_t>(l)] + e[static_cast<size_t>(l)] / (g + (g >= 0 ? r : -r));
      double s = 1, c = 1, p = 0;
      int64_t i = m - 1;
      for (; i >= l; --i) {
        const double f = s * e[static_cast<size_t>(i)], b = c * e[static_cast<size_t>(i)];
        r = std::hypot(f, g);
        e[static_cast<size_t>(i + 1)] = r;
        if (r == 0) {  // an eigenvalue split off on the way
          d[static_cast<size_t>(i + 1)] -= p;
          e[static_cast<size_t>(m)] = 0;
          break;
        }
        s = f / r, c = g / r;
        g = d[static_cast<size_t>(i + 1)] - p;
        r = (d[static_cast<size_t>(i)] - g) * s + 2 * c * b;
        p = s * r;
        d[static_cast<size_t>(i + 1)] = g + p;
        g = c * r - b;
      }
      if (r == 0 && i >= l) continue;
      d[static_cast<size_t>(l)] -= p;
      e[static_cast<size_t>(l)] = g;
      if (m < n) e[static_cast<size_t>(m)] = 0;
    }
}

}  // namespace

std::vector<double> SymmetricEigenvalues(std::vector<double>* a, int64_t n) {
  std::vector<double> d(static_cast<size_t>(n)), e(static_cast<size_t>(n) + 1);
  if (n == 0) return d;
  Tridiagonalize(*a, n, &d, &e);
  ReduceToDiagonal(n, d, e);
  std::sort(d.begin(), d.end(), [](double x, double y) { return x > y; });
  return d;
}

}  // namespace tern
