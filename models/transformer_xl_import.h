// How the tensors of public Transformer-XL checkpoints become ours.
#pragma once

#include "models/transformer_xl.h"

namespace tern {

// Fills in what foreign configs leave out: ties of the projections, attributes of a pickled module's parts, whether biases are per layer.
Status CompleteTransformerXl(const Json& foreign_config, const std::vector<ForeignTensor>& checkpoint, TransformerXlConfig* config);

Result<Import> ImportTransformerXl(const TransformerXlConfig& config, const std::vector<ForeignTensor>& checkpoint);

}  // namespace tern
