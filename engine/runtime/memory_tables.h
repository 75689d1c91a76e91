// The regression tables of the long-term memory, computed in double.
//
// F F^T + lambda I has a condition number of 1e5 to 4e6 at the sizes in use: inverted in f32, as the public code does it, G is wrong by percents and the
// model's outputs by up to 0.3. Made in double and then rounded, f32 is enough for everything that follows.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/base/parallel.h"
#include "engine/graph/long_term_memory.h"

namespace tern {

// N normal densities: N / w centers evenly over [0, 1], each with w widths; the width varies fastest.
struct RbfBasis {
  std::vector<double> centers, widths;  // [N]

  static RbfBasis Create(int64_t basis, std::span<const double> widths);  // REQUIRES: basis is a multiple of the number of widths, both >= 1
  int64_t size() const { return static_cast<int64_t>(centers.size()); }
  void Evaluate(double t, double* psi) const;  // psi [N]
};

// Where l rows stand when the memory is fitted: 2l (even l) or 2l - 1 midpoints over [-1/2, 3/2], the middle l of them over [0, 1].
std::vector<double> FitPositions(int64_t l);
// Where `samples` old and `length` new rows stand in an update: the old ones at tau i / samples, the new ones behind them, and padding on both sides.
// *padding: how many points stand before them.
std::vector<double> UpdatePositions(int64_t samples, int64_t length, double tau, int64_t* padding);

// Rows [first, first + rows) of F^T (F F^T + ridge I)^-1, F [N, P] = psi(positions): [rows, N]. gang may be null.
std::vector<double> RidgeRows(const RbfBasis& basis, std::span<const double> positions, int64_t first, int64_t rows, double ridge, Gang* gang);

// The f32 tables in one block of memory (64-byte aligned).
struct MemoryTables {
  float* centers = nullptr;     // [N]
  float* variances = nullptr;   // [N]
  float* fit = nullptr;         // G_fit^T [N, L]
  float* contract = nullptr;    // P [N, N]
  float* fresh = nullptr;       // G_new^T [N, L]
  float* edges = nullptr;       // psi at b / 128 [128, N]; sticky
  double* old_sums = nullptr;   // [samples + 1, N]: sums of the first i rows of G_old; sticky

  static int64_t Bytes(const LongTermMemory& m);
  static MemoryTables At(uint8_t* data, const LongTermMemory& m);
};
// Tables that come with a model instead (a pickled module): f32, as the public code keeps them.
struct ImportedTables {
  const float* fit = nullptr;      // G_L [L, N]
  const float* update = nullptr;   // G_inf [samples + L, N]
  const float* samples = nullptr;  // psi at the samples [samples, N]
  const float* centers = nullptr;  // [N]
  const float* widths = nullptr;   // [N]
};
void MakeMemoryTables(const LongTermMemory& m, const ImportedTables* imported, const MemoryTables& out, Gang* gang);

// G_l^T [N, l] of a first fit with another number of rows, kept for later calls of the process. Thread-safe.
std::shared_ptr<const std::vector<float>> FitTable(const LongTermMemory& m, int64_t l, Gang* gang);

}  // namespace tern
