// Routing: which rows each expert computes. Serial and cheap; everything lies in the caller's memory, at its largest.
#pragma once

#include <cstdint>

#include "engine/graph/ops.h"
#include "engine/kernels/kernels.h"

namespace tern {

// The expert of one row and its probability: p = softmax(logits) [E], the lowest index of the largest.
struct Choice {
  int32_t expert;
  float gate;
};
inline Choice ChooseExpert(const KernelTable& kernels, const float* logits, int64_t experts, float* p) {
  kernels.softmax(logits, experts, p);
  const int64_t e = kernels.argmax(p, experts);
  return {static_cast<int32_t>(e), p[e]};
}

// r rows, E experts.
struct Routing {
  int32_t* expert = nullptr;   // [r] in: the chosen expert; out: ~expert where it had no room
  int32_t* order = nullptr;    // [r] out: the rows with room, by expert, each expert's as they stand
  int32_t* offsets = nullptr;  // [E + 1] out: expert e has order[offsets[e]] .. order[offsets[e + 1] - 1]
  int32_t* counts = nullptr;   // [E] scratch
  int32_t* active = nullptr;   // [E] out: the experts that have rows, ascending
};

// Sequence q of the batch is rows begin(q) .. begin(q + 1) - 1. In each an expert has room for `capacity` rows, first come first served (unless the policy
// has no limit). A counting sort; returns how many experts are active.
template <class Begin>
int64_t SortByExpert(const Routing& s, int64_t rows, int64_t experts, int64_t capacity, CapacityPolicy policy, int64_t sequences, Begin&& begin) {
  for (int64_t q = 0; policy != CapacityPolicy::kNone && q < sequences; ++q) {
    const int64_t first = begin(q), end = begin(q + 1);
    if (end - first <= capacity) continue;
    for (int64_t e = 0; e < experts; ++e) s.counts[e] = 0;
    for (int64_t r = first; r < end; ++r)
      if (++s.counts[s.expert[r]] > capacity) s.expert[r] = ~s.expert[r];
  }
  for (int64_t e = 0; e <= experts; ++e) s.offsets[e] = 0;
  for (int64_t r = 0; r < rows; ++r)
    if (s.expert[r] >= 0) ++s.offsets[s.expert[r] + 1];
  int64_t active = 0;
  for (int64_t e = 0; e < experts; ++e) {
    if (s.offsets[e + 1] > 0) s.active[active++] = static_cast<int32_t>(e);
    s.offsets[e + 1] += s.offsets[e];
    s.counts[e] = s.offsets[e];
  }
  for (int64_t r = 0; r < rows; ++r)
    if (s.expert[r] >= 0) s.order[s.counts[s.expert[r]]++] = static_cast<int32_t>(r);
  return active;
}

// The rows of one op: sequences as `starts` [sequences + 1] has them, or without it op.batch lanes of equal length.
inline int64_t SortRows(const ExpertsOp& op, const Routing& s, int64_t rows, const int32_t* starts, int64_t sequences) {
  if (!starts) return SortByExpert(s, rows, op.experts, op.capacity, op.policy, op.batch, [tokens = rows / op.batch](int64_t q) { return q * tokens; });
  return SortByExpert(s, rows, op.experts, op.capacity, op.policy, sequences, [starts](int64_t q) { return int64_t{starts[q]}; });
}

}  // namespace tern
