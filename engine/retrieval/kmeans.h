// k-means (Lloyd), and the nearest of many centroids: what inverted lists and the product quantiser are trained with.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "engine/base/cancel.h"
#include "engine/base/memory.h"
#include "engine/base/parallel.h"
#include "engine/base/status.h"
#include "engine/kernels/kernels.h"

namespace tern {

// Centroids in panels. Immutable; thread-safe, each thread with a Workspace of its own.
class NearestCentroid {
 public:
  enum class Precision { kF32, kQ8 };  // kQ8: int8 products, three times as fast; of centroids that are nearly as near either may be taken
  // centroids [count, dim]. by_distance: least |x - c|^2; otherwise the largest x.c. kMemory.
  static Result<NearestCentroid> Create(const float* centroids, int64_t count, int64_t dim, bool by_distance, Precision precision);

  static constexpr int64_t kRowsAtOnce = 128;
  struct Workspace {
    Region scores, scratch;
    std::vector<uint8_t> quantized;
    std::vector<float> scales;
  };
  Result<Workspace> MakeWorkspace() const;
  // rows [n, ld], n <= kRowsAtOnce. Ties go to the lower number.
  void Nearest(const float* rows, int64_t ld, int64_t n, Workspace* w, int32_t* nearest) const;
  // scores [n, count] of all, x.c or x.c - |c|^2 / 2: those in panels [begin, end). scratch: GemmScratchBytes(f32, n, dim). kF32 only.
  void Scores(const float* rows, int64_t ld, int64_t n, int64_t panel_begin, int64_t panel_end, void* scratch, float* scores) const;

  int64_t count() const { return packed_.n; }
  float half_square(int64_t centroid) const { return half_.empty() ? 0 : -half_[static_cast<size_t>(centroid)]; }  // |c|^2 / 2, by distance

 private:
  Region region_;
  PackedMatrix packed_;
  std::vector<float> half_;  // -|c|^2 / 2
};

// x / |x|; a row of zeros stays.
void Normalize(float* x, int64_t dim);

struct KMeansOptions {
  bool spherical = false;  // by inner product, centroids of length one; otherwise by distance
  NearestCentroid::Precision precision = NearestCentroid::Precision::kF32;
  int64_t iterations = 10;
  const CancelToken* cancel = nullptr;
};
// rows [n, ld] in an order without meaning: the first `count` are where it begins (again from the first, where there are fewer). Gives centroids [count, dim].
// The same for any number of threads. kCancelled, kMemory.
Result<std::vector<float>> KMeans(const float* rows, int64_t ld, int64_t n, int64_t dim, int64_t count, const KMeansOptions& options, Gang* gang);

}  // namespace tern
