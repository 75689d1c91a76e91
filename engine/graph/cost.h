// Cost: the same description read a third time. Floating-point operations (a multiply-add is two) and weight bytes of one run at given lengths.
#pragma once

#include <cstdint>
#include <span>

#include "engine/graph/graph.h"

namespace tern {

struct Cost {
  double flops = 0;         // of matrix products and attention; norms and activations are left out
  double weight_bytes = 0;  // f32 size of the weights read (a table counts the rows looked up)
  Cost& operator+=(const Cost& o) {
    flops += o.flops, weight_bytes += o.weight_bytes;
    return *this;
  }
};

// `lengths[i]`: the run-time value of Graph::lengths[i]; `visible`: keys an attention query sees on average.
Cost OpCost(const Graph& graph, const Op& op, std::span<const int64_t> lengths, double visible);
Cost RunCost(const Graph& graph, std::span<const int64_t> lengths, double visible);  // all ops that are not constant

}  // namespace tern
