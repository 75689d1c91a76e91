// The refusal of files that are no foreign checkpoint at all.
#pragma once

#include <cstdint>
#include <span>

#include "engine/base/status.h"

namespace tern {

// kMalformed that says what the file is, where that can be told. For files that no reader of checkpoints or pickles
// claims.
Status RefuseAsCheckpoint(std::span<const uint8_t> bytes);

}  // namespace tern
