// ConvertPlan: which rows of which foreign tensors make up each tensor of ours, and everything that does not fit. Knows
// no file.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/runtime/weight_source.h"
#include "models/architecture.h"

namespace tern {

struct ConvertProblem {
  enum class Kind { kMissing, kMisshapen, kWrongType, kExtra } kind;
  std::string tensor;  // ours for kMissing, else the foreign name
  std::string text;    // one line for a person, names escaped
};

struct ConvertPlan {
  // Rows [first_row, first_row + rows) of ours come from rows of a foreign tensor, counted after the transposition.
  struct Part {
    size_t source;  // index into the source's tensors
    int64_t first_row = 0, rows = 0;
    bool transposed = false;
    bool flat = false;  // other dimensions, same numbers in the same order (a vector [1, 1, D] as [D]): read whole
  };
  struct Tensor {
    size_t weight;            // index into the manifest
    std::vector<Part> parts;  // in order; empty: `values`
    std::vector<float> values;
  };
  std::vector<Tensor> tensors;  // one for each of the manifest, unless there are problems
  // Tensors that the model takes to be one (a tied pair) and the source holds twice: the first is used, the second
  // should equal it.
  std::vector<std::pair<size_t, size_t>> twins;
  std::vector<std::string> unused;       // foreign tensors that are known and not needed, or allowed to be extra
  std::vector<ConvertProblem> problems;  // all of them, missing first

  Status status() const;  // kIncomplete with the counts and the first problem, or ok
};

// `manifest` and `import` are of the same network; `allow_extra` holds globs of foreign names ('*' any characters).
ConvertPlan PlanConversion(const std::vector<WeightSpec>& manifest, const Import& import,
                           const std::vector<SourceTensor>& source, const std::vector<std::string>& allow_extra);
// A `.tern` file into the network it holds: every tensor by its own name.
Import ImportByName(const std::vector<WeightSpec>& manifest);

bool MatchesGlob(std::string_view pattern, std::string_view name);

}  // namespace tern
