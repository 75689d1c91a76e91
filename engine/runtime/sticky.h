// Sticky memories: where in the past the last segment's queries looked decides how densely the old signal is kept.
#pragma once

#include <cstdint>

#include "engine/base/parallel.h"
#include "engine/graph/long_term_memory.h"

namespace tern {

// The mass that all queries' normal densities put into each of 128 equal bins of [0, 1], normalised. looks [heads, stride, 2]: mu and sigma^2, of which the
// first `queries` of each head count. The outer edges lie 1e-6 outside. All zero if no density reaches [0, 1] or there are none. gang may be null.
void StickyProbabilities(const float* looks, int64_t heads, int64_t stride, int64_t queries, double* probabilities, Gang* gang);

// How many of the memory's samples each bin gets: bins are chosen by the memory's rule - systematic (sample i takes the first bin whose cumulative probability
// exceeds (i + 1/2) / samples; no chance in it), or independent draws that depend only on the seed, the layer, the lane and the number of the update.
void ChooseBins(const LongTermMemory& m, uint64_t lane, uint64_t update, const double* probabilities, int64_t* counts);

}  // namespace tern
