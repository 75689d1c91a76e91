#include "engine/runtime/sticky.h"

#include <algorithm>
#include <cmath>

#include "engine/base/rng.h"

namespace tern {

void StickyProbabilities(const float* looks, int64_t heads, int64_t stride, int64_t queries, double* probabilities, Gang* gang) {
  constexpr int64_t kBins = LongTermMemory::kBins;
  double below[kBins + 1];  // sum of the mass below each edge
  auto edge = [&](int64_t k, int) {
    double at = static_cast<double>(k) / kBins;
    if (k == 0) at -= 1e-6;
    if (k == kBins) at += 1e-6;
    double sum = 0;
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t q = 0; q < queries; ++q) {
        const float* look = looks + (h * stride + q) * 2;
        sum += 0.5 * std::erfc((static_cast<double>(look[0]) - at) / std::sqrt(2 * static_cast<double>(look[1])));
      }
    below[k] = sum;
  };
  if (gang) gang->For(kBins + 1, edge);
  else
    for (int64_t k = 0; k <= kBins; ++k) edge(k, 0);
  double total = 0;
  for (int64_t b = 0; b < kBins; ++b) total += probabilities[b] = std::max(0.0, below[b + 1] - below[b]);
  for (int64_t b = 0; b < kBins; ++b) probabilities[b] = total > 0 ? probabilities[b] / total : 0;
}

void ChooseBins(const LongTermMemory& m, uint64_t lane, uint64_t update, const double* probabilities, int64_t* counts) {
  constexpr int64_t kBins = LongTermMemory::kBins;
  double cumulative[kBins], sum = 0;
  for (int64_t b = 0; b < kBins; ++b) cumulative[b] = sum += probabilities[b];
  std::fill_n(counts, kBins, 0);
  const uint64_t stream = RandomBits(RandomBits(RandomBits(m.seed, static_cast<uint64_t>(m.layer)), lane), update);
  for (int64_t i = 0; i < m.samples; ++i) {
    const double at = m.choice == StickyChoice::kDraws ? RandomUniform(stream, static_cast<uint64_t>(i)) : (static_cast<double>(i) + 0.5) / static_cast<double>(m.samples);
    const int64_t bin = std::upper_bound(cumulative, cumulative + kBins, at) - cumulative;
    ++counts[std::min(bin, kBins - 1)];  // rounding may leave the last sum below 1
  }
}

}  // namespace tern
