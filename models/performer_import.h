// Where the tensors of a PerformerLM state_dict go.
#pragma once

#include "models/performer.h"

namespace tern {

Result<Import> ImportPerformer(const PerformerConfig& config, const std::vector<ForeignTensor>& checkpoint);

// Features of the checkpoint's projections; 0 if it has none.
int64_t FeaturesOf(const std::vector<ForeignTensor>& checkpoint);

}  // namespace tern
