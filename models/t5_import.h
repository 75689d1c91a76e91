// Names of Hugging Face T5 and Switch Transformers checkpoints.
#pragma once

#include "models/t5.h"

namespace tern {

// The layers that have a router in the checkpoint: versions of the public code differ in which ones a config means, the tensors do not.
std::vector<int64_t> SparseLayersOf(const std::vector<ForeignTensor>& checkpoint, bool decoder);
Result<Import> ImportT5(const T5Config& config, const std::vector<ForeignTensor>& checkpoint);

}  // namespace tern
