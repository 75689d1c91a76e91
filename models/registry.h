// The list of architectures: one line each in registry.cc.
#pragma once

#include <span>

#include "models/architecture.h"

namespace tern {

std::span<const Architecture* const> Architectures();

// By its canonical name ("transformer-xl"); null if unknown.
const Architecture* FindArchitecture(std::string_view name);

// The architecture that recognises a foreign config, or kMalformed with the list of those that exist.
Result<const Architecture*> RecognizeArchitecture(const Json& foreign_config);

}  // namespace tern
