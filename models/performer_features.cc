#include "models/performer_features.h"

#include <algorithm>
#include <cmath>

#include "engine/base/rng.h"

namespace tern {
namespace {

double Dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// d orthonormal rows of length d: Gram-Schmidt over Gaussian rows, each twice, which is orthogonal to the last digit.
std::vector<double> OrthogonalBlock(int64_t d, Rng* rng) {
  std::vector<double> rows(static_cast<size_t>(d * d));
  for (int64_t i = 0; i < d; ++i) {
    double* row = rows.data() + i * d;
    double length = 0;
    do {  // a row that falls into the span of those before is drawn again
      for (int64_t c = 0; c < d; ++c) row[c] = rng->Normal();
      for (int pass = 0; pass < 2; ++pass)
        for (int64_t j = 0; j < i; ++j) {
          const double along = Dot(row, rows.data() + j * d, d);
          for (int64_t c = 0; c < d; ++c) row[c] -= along * rows[static_cast<size_t>(j * d + c)];
        }
      length = std::sqrt(Dot(row, row, d));
    } while (!(length > 1e-9));
    for (int64_t c = 0; c < d; ++c) row[c] /= length;
  }
  return rows;
}

}  // namespace

std::vector<float> OrthogonalFeatures(int64_t features, int64_t d, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> out;
  out.reserve(static_cast<size_t>(features * d));
  for (int64_t begin = 0; begin < features; begin += d) {
    const std::vector<double> block = OrthogonalBlock(d, &rng);
    for (int64_t i = 0; i < std::min(d, features - begin); ++i) {
      double length = 0;
      for (int64_t c = 0; c < d; ++c) {
        const double x = rng.Normal();
        length += x * x;
      }
      for (int64_t c = 0; c < d; ++c) out.push_back(static_cast<float>(std::sqrt(length) * block[static_cast<size_t>(i * d + c)]));
    }
  }
  return out;
}

}  // namespace tern
