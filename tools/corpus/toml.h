// TOML as JSON: for files that people write by hand. Built with toml++ where it is installed (TERN_TOML); elsewhere kMalformed with a hint.
#pragma once

#include <string_view>

#include "engine/base/json.h"
#include "engine/base/status.h"

namespace tern::corpus {

// kMalformed with the line for what is no TOML 1.0, for dates and times (JSON has none), and for arrays and tables nested deeper than 64.
Result<Json> ParseToml(std::string_view text);

}  // namespace tern::corpus
