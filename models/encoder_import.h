// How the tensors of public encoder checkpoints become ours.
#pragma once

#include "models/encoder.h"

namespace tern {

// Which head a foreign config's class has; kMalformed naming the classes that are known.
Result<EncoderHead> HeadOfClass(EncoderFamily family, std::string_view class_name);

Result<Import> ImportEncoder(const EncoderConfig& config, const std::vector<ForeignTensor>& checkpoint);

// Whether the checkpoint holds the pooler of this family.
bool HasPooler(EncoderFamily family, const std::vector<ForeignTensor>& checkpoint);

}  // namespace tern
