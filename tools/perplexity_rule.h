// A quality rule that asks a model: documents whose perplexity lies outside a range fail.
#pragma once

#include <memory>
#include <string>

#include "engine/base/cancel.h"
#include "engine/base/status.h"
#include "engine/runtime/model.h"
#include "tools/corpus/rules.h"

namespace tern {

struct PerplexityRange {
  double least = 0, most = 0;
};
// "10:200", ":200", "10:": kUsage if neither side is given, or the range is empty.
Result<PerplexityRange> ParsePerplexityRange(const std::string& text);

// Documents of fewer than two tokens have no perplexity and pass. Each of the filter's threads runs a session of its own, so the verdicts do not depend on
// their number. kMalformed if the model cannot score text (no tokenizer, an encoder).
Result<std::unique_ptr<corpus::RuleSet>> MakePerplexityRule(const std::string& model_path, PerplexityRange range, const CancelToken* cancel);

}  // namespace tern
