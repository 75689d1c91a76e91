// How the tensors of public RETRO checkpoints become ours, and what foreign configs leave to the checkpoint.
#pragma once

#include "models/retro.h"

namespace tern {

Result<RetroConfig> ParseLucidRetro(const Json& config, const std::vector<ForeignTensor>& checkpoint);     // dialects lucid and paper
Result<RetroConfig> ParseMegatronRetro(const Json& config, const std::vector<ForeignTensor>& checkpoint);
Result<Import> ImportRetro(const RetroConfig& config, const std::vector<ForeignTensor>& checkpoint);

}  // namespace tern
