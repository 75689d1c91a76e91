// Inputs: from what stands on the command line to a list of sources with their formats and their names under kept/.
#pragma once

#include <string>
#include <vector>

#include "engine/base/status.h"
#include "tools/corpus/corpus.h"
#include "tools/corpus/options.h"

namespace tern::corpus {

// kUsage for none, kIo for a file that is missing or a pattern that matches nothing.
Result<std::vector<Source>> FindSources(const CommonOptions& options);

}  // namespace tern::corpus
