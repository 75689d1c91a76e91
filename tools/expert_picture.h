// Load and balance of experts for people: a table, JSON and a picture of layers x experts.
#pragma once

#include <string>

#include "engine/runtime/expert_usage.h"
#include "tools/output.h"

namespace tern {

// A row per layer: tokens, experts with a token, the busiest ones, how even the load is, tokens over capacity.
std::string ExpertTable(const ExpertUsage& usage, const Console& console);
// The same and each expert's load: [{"layer", "tokens", "used", "largest", "imbalance", "evenness", "dropped", "load": [E]}].
Json ExpertLayersJson(const ExpertUsage& usage);
// SVG, self-contained: layers down, experts across, darker with more tokens than an even load would have.
std::string ExpertSvg(const std::string& title, const ExpertUsage& usage);
Status WriteExpertSvg(const std::string& path, const std::string& title, const ExpertUsage& usage);

}  // namespace tern
