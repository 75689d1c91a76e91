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

// Which sources this rank reads: [*begin, *end), about as many bytes as every other rank; standard input and all before it go to the root. The root decides.
// Collective. kUsage if a rank sees other sources than the root.
Status ShareSources(Ranks& ranks, const std::vector<Source>& sources, size_t* begin, size_t* end);
// Collective: what the first pass found out about the sources of each rank becomes known to all.
Status TellSources(Ranks& ranks, std::vector<Source>* sources, size_t begin, size_t end);

}  // namespace tern::corpus
