// Calibration: what the inputs of a network's products hold, measured by running it, so that eight bits can be shared
// out (engine/runtime/README.md).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/cancel.h"
#include "engine/base/status.h"
#include "engine/runtime/model.h"

namespace tern {

// By the name of a weight [N, K], the largest |x| of each of the K columns it was multiplied with. A weight that
// several layers share has the largest of all of them.
struct ColumnMaxima {
  std::map<std::string, std::vector<float>> of;
};

// Runs an encoder over fixed sequences: ids drawn from its vocabulary by a fixed seed, between the tokenizer's special
// tokens if the model has one, of 1 to 50 tokens. Empty for networks that are no encoders.
Result<ColumnMaxima> MeasureColumns(const std::shared_ptr<const Model>& model, const CancelToken* cancel);

// Which of K columns an i8 matrix should hold more than once: again and again the one whose part is largest. Ascending.
std::vector<int32_t> ChooseSplits(const std::vector<float>& maxima);

}  // namespace tern
