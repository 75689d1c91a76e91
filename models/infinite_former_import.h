// How the tensors of public infinity-former checkpoints become ours.
#pragma once

#include "models/infinite_former.h"

namespace tern {

// Whether a pickled module carries regression tables of the sizes the config asks for: a model is then run with the tables it was trained with.
bool HasMemoryTables(const InfiniteFormerConfig& config, const std::vector<ForeignTensor>& checkpoint);

Result<Import> ImportInfiniteFormer(const InfiniteFormerConfig& config, const std::vector<ForeignTensor>& checkpoint);

}  // namespace tern
