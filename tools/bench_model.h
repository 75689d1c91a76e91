// What `bench model` and `bench decode` share: ids from a file, a model with its load time, and what a step costs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/runtime/session.h"
#include "formats/safetensors.h"
#include "tools/bench.h"

namespace tern {

// `name` [B, T] of a safetensors file, integers. Negative ones only where allowed (labels that do not count), as -1. kUsage if it is not there, kMalformed for
// another type or shape.
struct Ids {
  int64_t batch = 0, tokens = 0;
  std::vector<int32_t> values;
};
Result<Ids> ReadIds(const Safetensors& file, const std::string& path, const std::string& name, bool negative_allowed = false);
// Columns [begin, begin + count) of ids [B, T], as [B, count].
std::vector<int32_t> Columns(const Ids& ids, int64_t begin, int64_t count);

Result<std::shared_ptr<const Model>> OpenModel(const std::string& path, const Settings& settings, Console& console);

// Operations and bytes of one run of `entry` on `tokens` new tokens per lane, each seeing `visible` keys on average: every weight is read once as it is stored,
// and so are the keys and values.
struct StepCost {
  double flops = 0, bytes = 0;
};
StepCost CostOf(const Model& model, const EntryOptions& entry, double visible);

// The keys of the contract that say what was loaded.
void AddMemory(Json* json, double load_seconds, const MemoryUse& memory, const Model& model, const RepeatFlags& flags);

}  // namespace tern
