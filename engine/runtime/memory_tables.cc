#include "engine/runtime/memory_tables.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <mutex>

#include "engine/runtime/carve.h"

namespace tern {
namespace {

template <class F>
void For(Gang* gang, int64_t chunks, F&& f) {
  if (gang) return gang->For(chunks, [&](int64_t i, int) { f(i); });
  for (int64_t i = 0; i < chunks; ++i) f(i);
}

// As torch.linspace: the two halves are counted from their own ends.
std::vector<double> Linspace(double first, double last, int64_t n) {
  std::vector<double> out(static_cast<size_t>(n));
  const double step = n > 1 ? (last - first) / static_cast<double>(n - 1) : 0;
  for (int64_t i = 0; i < n; ++i) out[static_cast<size_t>(i)] = i < n / 2 || n == 1 ? first + step * static_cast<double>(i) : last - step * static_cast<double>(n - 1 - i);
  return out;
}

// psi at all positions: [P, N].
std::vector<double> Design(const RbfBasis& basis, std::span<const double> positions, Gang* gang) {
  const int64_t n = basis.size(), count = static_cast<int64_t>(positions.size());
  std::vector<double> f(static_cast<size_t>(count * n));
  For(gang, (count + 63) / 64, [&](int64_t chunk) {
    for (int64_t p = chunk * 64; p < std::min(count, chunk * 64 + 64); ++p) basis.Evaluate(positions[static_cast<size_t>(p)], f.data() + p * n);
  });
  return f;
}

// The lower triangle of F F^T + ridge I [N, N], f = F^T [P, N].
std::vector<double> Gram(const std::vector<double>& f, int64_t count, int64_t n, double ridge, Gang* gang) {
  std::vector<double> g(static_cast<size_t>(n * n));
  constexpr int64_t kRows = 16;
  For(gang, (n + kRows - 1) / kRows, [&](int64_t chunk) {
    for (int64_t p = 0; p < count; ++p) {
      const double* row = f.data() + p * n;
      for (int64_t i = chunk * kRows; i < std::min(n, (chunk + 1) * kRows); ++i) {
        const double a = row[i];
        if (a == 0) continue;
        double* to = g.data() + i * n;
        for (int64_t j = 0; j <= i; ++j) to[j] += a * row[j];
      }
    }
    for (int64_t i = chunk * kRows; i < std::min(n, (chunk + 1) * kRows); ++i) g[static_cast<size_t>(i * n + i)] += ridge;
  });
  return g;
}

// In place: the lower triangle becomes L of A = L L^T. A is positive definite: a sum of squares and ridge > 0.
void Cholesky(std::vector<double>* a, int64_t n, Gang* gang) {
  double* m = a->data();
  std::vector<double> column(static_cast<size_t>(n));
  for (int64_t k = 0; k < n; ++k) {
    const double d = std::sqrt(m[k * n + k]);
    m[k * n + k] = d;
    for (int64_t i = k + 1; i < n; ++i) column[static_cast<size_t>(i)] = m[i * n + k] /= d;
    constexpr int64_t kRows = 64;
    For(gang, (n - k - 1 + kRows - 1) / kRows, [&](int64_t chunk) {
      for (int64_t i = k + 1 + chunk * kRows; i < std::min(n, k + 1 + (chunk + 1) * kRows); ++i) {
        const double l = column[static_cast<size_t>(i)];
        double* to = m + i * n;
        for (int64_t j = k + 1; j <= i; ++j) to[j] -= l * column[static_cast<size_t>(j)];
      }
    });
  }
}

// x [N, columns] := A^-1 x, by the triangle L.
void Solve(const double* l, int64_t n, double* x, int64_t columns) {
  auto subtract = [&](double* to, double factor, const double* from) {
    for (int64_t c = 0; c < columns; ++c) to[c] -= factor * from[c];
  };
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < i; ++j) subtract(x + i * columns, l[i * n + j], x + j * columns);
    for (int64_t c = 0; c < columns; ++c) x[i * columns + c] /= l[i * n + i];
  }
  for (int64_t i = n - 1; i >= 0; --i) {
    for (int64_t j = i + 1; j < n; ++j) subtract(x + i * columns, l[j * n + i], x + j * columns);
    for (int64_t c = 0; c < columns; ++c) x[i * columns + c] /= l[i * n + i];
  }
}

RbfBasis BasisOf(const LongTermMemory& m) { return RbfBasis::Create(m.basis, {m.widths.data(), static_cast<size_t>(m.n_widths)}); }

// to [N, rows] = from [rows, N]^T
void Transpose(const double* from, int64_t rows, int64_t n, float* to) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < n; ++i) to[i * rows + r] = static_cast<float>(from[r * n + i]);
}

}  // namespace

RbfBasis RbfBasis::Create(int64_t basis, std::span<const double> widths) {
  RbfBasis b;
  const int64_t w = static_cast<int64_t>(widths.size());
  for (double c : Linspace(0, 1, basis / w))
    for (double s : widths) b.centers.push_back(c), b.widths.push_back(s);
  return b;
}

void RbfBasis::Evaluate(double t, double* psi) const {
  constexpr double kInvSqrt2Pi = 0.39894228040143267794;
  for (size_t i = 0; i < centers.size(); ++i) {
    const double z = (t - centers[i]) / widths[i];
    psi[i] = std::abs(z) > 38 ? 0 : std::exp(-0.5 * z * z) * kInvSqrt2Pi / widths[i];
  }
}

std::vector<double> FitPositions(int64_t l) {
  const double shift = l % 2 == 0 ? 1.0 / static_cast<double>(2 * l) : 1.0 / static_cast<double>(l);
  return Linspace(-0.5 + shift, 1.5 - shift, l % 2 == 0 ? 2 * l : 2 * l - 1);
}

std::vector<double> UpdatePositions(int64_t samples, int64_t length, double tau, int64_t* padding) {
  const int64_t rows = samples + length;
  const double shift = 1.0 / static_cast<double>(2 * length + samples);  // the public code's, not 2 (length + samples)
  const std::vector<double> grid = Linspace(-0.5 + shift, 1.5 - shift, 2 * rows);
  std::vector<double> out;
  for (double t : grid)
    if (t < 0) out.push_back(t);
  *padding = static_cast<int64_t>(out.size());
  for (int64_t i = 1; i <= samples; ++i) out.push_back(tau * (static_cast<double>(i) / static_cast<double>(samples)));
  for (int64_t j = 1; j <= length; ++j) out.push_back(tau + (1 - tau) * (static_cast<double>(j) / static_cast<double>(length)));
  for (double t : grid)
    if (t > 1) out.push_back(t);
  return out;
}

std::vector<double> RidgeRows(const RbfBasis& basis, std::span<const double> positions, int64_t first, int64_t rows, double ridge, Gang* gang) {
  const int64_t n = basis.size(), count = static_cast<int64_t>(positions.size());
  const std::vector<double> f = Design(basis, positions, gang);
  std::vector<double> a = Gram(f, count, n, ridge, gang);
  Cholesky(&a, n, gang);
  // (A^-1 F)^T row by row; some columns of F at a time, so that they stay near.
  std::vector<double> out(static_cast<size_t>(rows * n));
  constexpr int64_t kColumns = 32;
  For(gang, (rows + kColumns - 1) / kColumns, [&](int64_t chunk) {
    const int64_t begin = chunk * kColumns, columns = std::min(rows - begin, kColumns);
    std::vector<double> x(static_cast<size_t>(n * columns));
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t i = 0; i < n; ++i) x[static_cast<size_t>(i * columns + c)] = f[static_cast<size_t>((first + begin + c) * n + i)];
    Solve(a.data(), n, x.data(), columns);
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t i = 0; i < n; ++i) out[static_cast<size_t>((begin + c) * n + i)] = x[static_cast<size_t>(i * columns + c)];
  });
  return out;
}

namespace {

MemoryTables Place(Carve& carve, const LongTermMemory& m) {
  MemoryTables t;
  t.centers = carve.Take<float>(m.basis);
  t.variances = carve.Take<float>(m.basis);
  t.fit = carve.Take<float>(m.basis * m.length);
  t.contract = carve.Take<float>(m.basis * m.basis);
  t.fresh = carve.Take<float>(m.basis * m.length);
  if (m.sticky) {
    t.edges = carve.Take<float>(LongTermMemory::kBins * m.basis);
    t.old_sums = carve.Take<double>((m.samples + 1) * m.basis);
  }
  return t;
}

std::vector<double> Fit(const LongTermMemory& m, int64_t l, Gang* gang) {
  const std::vector<double> positions = FitPositions(l);
  return RidgeRows(BasisOf(m), positions, (static_cast<int64_t>(positions.size()) - l) / 2, l, m.ridge, gang);
}

}  // namespace

int64_t MemoryTables::Bytes(const LongTermMemory& m) {
  Carve carve;
  Place(carve, m);
  return carve.bytes();
}

MemoryTables MemoryTables::At(uint8_t* data, const LongTermMemory& m) {
  Carve carve(data);
  return Place(carve, m);
}

void MakeMemoryTables(const LongTermMemory& m, const ImportedTables* imported, const MemoryTables& out, Gang* gang) {
  const int64_t n = m.basis;
  RbfBasis basis = BasisOf(m);
  if (imported) basis.centers.assign(imported->centers, imported->centers + n), basis.widths.assign(imported->widths, imported->widths + n);
  for (int64_t i = 0; i < n; ++i) {
    const size_t at = static_cast<size_t>(i);
    out.centers[i] = static_cast<float>(basis.centers[at]);
    out.variances[i] = static_cast<float>(basis.widths[at] * basis.widths[at]);
  }
  std::vector<double> fit, update, samples(static_cast<size_t>(m.samples * n));
  if (imported) {
    fit.assign(imported->fit, imported->fit + m.length * n);
    update.assign(imported->update, imported->update + (m.samples + m.length) * n);
    samples.assign(imported->samples, imported->samples + m.samples * n);
  } else {
    fit = Fit(m, m.length, gang);
    int64_t padding = 0;
    const std::vector<double> positions = UpdatePositions(m.samples, m.length, m.tau, &padding);
    update = RidgeRows(basis, positions, padding, m.samples + m.length, m.ridge, gang);
    for (int64_t i = 0; i < m.samples; ++i) basis.Evaluate(static_cast<double>(i + 1) / static_cast<double>(m.samples), samples.data() + i * n);
  }
  Transpose(fit.data(), m.length, n, out.fit);
  Transpose(update.data() + m.samples * n, m.length, n, out.fresh);
  // P = G_old^T psi(samples)
  For(gang, n, [&](int64_t i) {
    std::vector<double> row(static_cast<size_t>(n));
    for (int64_t s = 0; s < m.samples; ++s) {
      const double g = update[static_cast<size_t>(s * n + i)];
      const double* psi = samples.data() + s * n;
      for (int64_t j = 0; j < n; ++j) row[static_cast<size_t>(j)] += g * psi[j];
    }
    for (int64_t j = 0; j < n; ++j) out.contract[i * n + j] = static_cast<float>(row[static_cast<size_t>(j)]);
  });
  if (!m.sticky) return;
  std::vector<double> psi(static_cast<size_t>(n));
  for (int64_t b = 0; b < LongTermMemory::kBins; ++b) {
    basis.Evaluate(static_cast<double>(b) / LongTermMemory::kBins, psi.data());
    for (int64_t i = 0; i < n; ++i) out.edges[b * n + i] = static_cast<float>(psi[static_cast<size_t>(i)]);
  }
  std::fill_n(out.old_sums, n, 0.0);
  for (int64_t s = 0; s < m.samples; ++s)
    for (int64_t i = 0; i < n; ++i) out.old_sums[(s + 1) * n + i] = out.old_sums[s * n + i] + update[static_cast<size_t>(s * n + i)];
}

std::shared_ptr<const std::vector<float>> FitTable(const LongTermMemory& m, int64_t l, Gang* gang) {
  struct Kept {
    int64_t basis, l;
    double ridge;
    std::array<double, LongTermMemory::kMostWidths> widths;
    std::shared_ptr<const std::vector<float>> table;
  };
  constexpr size_t kMost = 16;
  static std::mutex mutex;
  static std::deque<Kept> kept;
  std::lock_guard<std::mutex> lock(mutex);
  for (const Kept& k : kept)
    if (k.basis == m.basis && k.l == l && k.ridge == m.ridge && k.widths == m.widths) return k.table;
  const std::vector<double> fit = Fit(m, l, gang);
  auto table = std::make_shared<std::vector<float>>(static_cast<size_t>(m.basis * l));
  Transpose(fit.data(), l, m.basis, table->data());
  if (kept.size() == kMost) kept.pop_front();
  kept.push_back({m.basis, l, m.ridge, m.widths, table});
  return table;
}

}  // namespace tern
