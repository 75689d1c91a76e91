// Where a Reformer's tensors stand in a Hugging Face checkpoint.
#pragma once

#include "models/reformer.h"

namespace tern {

// The head of a class name: "ReformerModelWithLMHead". kMalformed for one that is not known.
Result<ReformerHead> ReformerHeadOfClass(std::string_view name);

Import ImportReformer(const ReformerConfig& c);

}  // namespace tern
