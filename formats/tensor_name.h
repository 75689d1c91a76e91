// Which tensor names are accepted from foreign files.
#pragma once

#include <string_view>

#include "engine/base/status.h"

namespace tern {

inline constexpr size_t kMaxTensorNameBytes = 512;

// kMalformed unless `name` is 1 to 512 bytes of valid UTF-8 without control characters, invisible marks or characters
// that turn the writing direction.
Status CheckTensorName(std::string_view name);

}  // namespace tern
