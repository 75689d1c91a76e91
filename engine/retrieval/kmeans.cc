#include "engine/retrieval/kmeans.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/base/checked.h"

namespace tern {
namespace {

constexpr int64_t kBlockPanels = 64;  // centroids that are scored before the best is taken: their scores stay in the cache
constexpr int64_t kBlock = kBlockPanels * kPanelColumns;

// An empty cluster takes half of the largest one.
void FillEmpty(int64_t dim, std::vector<int64_t>* size, std::vector<float>* centroids) {
  for (size_t l = 0; l < size->size(); ++l) {
    if ((*size)[l] > 0) continue;
    const size_t big = static_cast<size_t>(std::max_element(size->begin(), size->end()) - size->begin());
    for (int64_t j = 0; j < dim; ++j) {
      float &from = (*centroids)[big * static_cast<size_t>(dim) + static_cast<size_t>(j)], &to = (*centroids)[l * static_cast<size_t>(dim) + static_cast<size_t>(j)];
      to = from * (j % 2 ? 1 + 0x1p-10f : 1 - 0x1p-10f), from *= j % 2 ? 1 - 0x1p-10f : 1 + 0x1p-10f;
    }
    (*size)[l] = (*size)[big] / 2, (*size)[big] -= (*size)[l];
  }
}

}  // namespace

void Normalize(float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  const double length = std::sqrt(sum);
  for (int64_t i = 0; i < n && length > 0; ++i) x[i] = static_cast<float>(x[i] / length);
}

Result<NearestCentroid> NearestCentroid::Create(const float* centroids, int64_t count, int64_t dim, bool by_distance, Precision precision) {
  NearestCentroid c;
  const DType type = precision == Precision::kQ8 ? DType::i8 : DType::f32;
  const auto bytes = PackedBytes(type, count, dim);
  if (!bytes) return UsageError("there are too many centroids").Got(count, "fewer");
  TERN_ASSIGN(c.region_, Region::Create(*bytes));
  PackMatrix(type, centroids, dim, count, dim, c.region_.data());
  c.packed_ = {c.region_.data(), type, count, dim};
  for (int64_t l = 0; l < count && by_distance; ++l) {
    double sum = 0;
    for (int64_t i = 0; i < dim; ++i) sum += static_cast<double>(centroids[l * dim + i]) * centroids[l * dim + i];
    c.half_.push_back(static_cast<float>(-sum / 2));
  }
  return c;
}

Result<NearestCentroid::Workspace> NearestCentroid::MakeWorkspace() const {
  Workspace w;
  TERN_ASSIGN(w.scores, Region::Create(kRowsAtOnce * std::min(kBlock, RoundUp(count(), kPanelColumns)) * 4));
  TERN_ASSIGN(w.scratch, Region::Create(GemmScratchBytes(DType::f32, kRowsAtOnce, packed_.k)));
  if (packed_.type == DType::i8) w.quantized.resize(static_cast<size_t>(kRowsAtOnce * RoundUp(packed_.k, 4))), w.scales.resize(kRowsAtOnce);
  return w;
}

void NearestCentroid::Nearest(const float* rows, int64_t ld, int64_t n, Workspace* w, int32_t* nearest) const {
  const KernelTable& k = Kernels();
  const int64_t padded = RoundUp(packed_.k, 4), stride = std::min(kBlock, RoundUp(count(), kPanelColumns));
  float* scores = reinterpret_cast<float*>(w->scores.data());
  if (packed_.type == DType::i8)
    for (int64_t r = 0; r < n; ++r) k.quantize_row(rows + r * ld, packed_.k, w->quantized.data() + r * padded, w->scales.data() + r);
  float best[kRowsAtOnce];
  for (int64_t begin = 0; begin < count(); begin += kBlock) {
    const int64_t width = std::min(kBlock, count() - begin), panel_begin = begin / kPanelColumns, panel_end = CeilDiv(begin + width, kPanelColumns);
    const float* bias = half_.empty() ? nullptr : half_.data();
    if (packed_.type == DType::i8) {
      GemmQ8Call g;
      g.x = w->quantized.data(), g.x_scales = w->scales.data(), g.ldx = padded, g.m = n;
      g.w = packed_, g.panel_begin = panel_begin, g.panel_end = panel_end, g.bias = bias;
      g.y = scores - begin, g.ldy = stride;
      k.gemm_q8(g);
    } else {
      GemmCall g;
      g.x = rows, g.ldx = ld, g.m = n;
      g.w = packed_, g.panel_begin = panel_begin, g.panel_end = panel_end, g.bias = bias;
      g.y = scores - begin, g.ldy = stride, g.scratch = w->scratch.data();
      k.gemm(g);
    }
    for (int64_t r = 0; r < n; ++r) {
      const int64_t at = k.argmax(scores + r * stride, width);
      const float value = scores[r * stride + at];
      if (begin == 0 || value > best[r]) best[r] = value, nearest[r] = static_cast<int32_t>(begin + at);
    }
  }
}

void NearestCentroid::Scores(const float* rows, int64_t ld, int64_t n, int64_t panel_begin, int64_t panel_end, void* scratch, float* scores) const {
  GemmCall g;
  g.x = rows, g.ldx = ld, g.m = n;
  g.w = packed_, g.panel_begin = panel_begin, g.panel_end = panel_end, g.bias = half_.empty() ? nullptr : half_.data();
  g.y = scores, g.ldy = count(), g.scratch = scratch;
  Kernels().gemm(g);
}

Result<std::vector<float>> KMeans(const float* rows, int64_t ld, int64_t n, int64_t dim, int64_t count, const KMeansOptions& o, Gang* gang) {
  constexpr int64_t kStep = NearestCentroid::kRowsAtOnce;
  std::vector<float> centroids(static_cast<size_t>(count * dim));
  for (int64_t l = 0; l < count; ++l) std::copy_n(rows + l % n * ld, dim, centroids.data() + l * dim);
  auto on_sphere = [&] {
    for (int64_t l = 0; l < count && o.spherical; ++l) Normalize(centroids.data() + l * dim, dim);
  };
  std::vector<int32_t> nearest(static_cast<size_t>(n));
  std::vector<int64_t> order(static_cast<size_t>(n)), begin(static_cast<size_t>(count) + 1), size(static_cast<size_t>(count));
  for (int64_t iteration = 0; iteration < o.iterations; ++iteration) {
    on_sphere();
    TERN_ASSIGN(NearestCentroid assign, NearestCentroid::Create(centroids.data(), count, dim, !o.spherical, o.precision));
    std::vector<NearestCentroid::Workspace> spaces;
    for (int i = 0; i < gang->threads(); ++i) {
      TERN_ASSIGN(auto space, assign.MakeWorkspace());
      spaces.push_back(std::move(space));
    }
    gang->Run([&] {
      gang->For(CeilDiv(n, kStep), [&](int64_t chunk, int worker) {
        if (o.cancel && o.cancel->cancelled()) return;
        const int64_t first = chunk * kStep;
        assign.Nearest(rows + first * ld, ld, std::min(kStep, n - first), &spaces[static_cast<size_t>(worker)], nearest.data() + first);
      });
    });
    if (o.cancel && o.cancel->cancelled()) return Status(Code::kCancelled, "cancelled");
    // Rows by cluster, ascending; each cluster's mean in double, summed in that order.
    std::fill(begin.begin(), begin.end(), 0);
    for (int32_t l : nearest) ++begin[static_cast<size_t>(l) + 1];
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    std::vector<int64_t> at(begin.begin(), begin.end() - 1);
    for (int64_t i = 0; i < n; ++i) order[static_cast<size_t>(at[static_cast<size_t>(nearest[static_cast<size_t>(i)])]++)] = i;
    gang->Run([&] {
      gang->For(count, [&](int64_t l, int) {
        const int64_t first = begin[static_cast<size_t>(l)], last = begin[static_cast<size_t>(l) + 1];
        size[static_cast<size_t>(l)] = last - first;
        std::vector<double> sum(static_cast<size_t>(dim));
        for (int64_t i = first; i < last; ++i) {
          const float* row = rows + order[static_cast<size_t>(i)] * ld;
          for (int64_t j = 0; j < dim; ++j) sum[static_cast<size_t>(j)] += row[j];
        }
        for (int64_t j = 0; j < dim && last > first; ++j) centroids[static_cast<size_t>(l * dim + j)] = static_cast<float>(sum[static_cast<size_t>(j)] / static_cast<double>(last - first));
      });
    });
    FillEmpty(dim, &size, &centroids);
  }
  on_sphere();
  return centroids;
}

}  // namespace tern
