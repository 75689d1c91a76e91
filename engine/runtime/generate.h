// Generate: text from a decoder, token by token, as it becomes certain.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/runtime/sampler.h"
#include "engine/runtime/session.h"

namespace tern {

struct GenerateOptions {
  int64_t new_tokens = 100;
  bool ignore_eos = false;
  std::vector<std::string> stop;  // generation ends before the first of these texts; it is not given out
};

struct GenerateReport {
  std::vector<int32_t> ids;       // the new ones
  int64_t prompt_tokens = 0;
  double prefill_seconds = 0, step_seconds = 0;
  enum class End { kLength, kEos, kStop, kCancelled, kListener, kContext } end = End::kLength;
};

// Plans that Generate needs of a session: `chunk` prompt tokens at once, then one.
std::vector<PlanRequest> GeneratePlans(int64_t chunk);

// A conversation: session, sampler and the tokens that were sampled but not yet fed. Not thread-safe.
class Conversation {
 public:
  Conversation(Session* session, const SamplerOptions& options);

  // Feeds pending tokens and the prompt, then samples up to new_tokens. `on_text` gets whole UTF-8 characters and returns false to stop (may be empty; text
  // needs `tokenizer`). kUsage if there is nothing to begin from, kNumeric if the logits are not finite.
  Result<GenerateReport> Generate(std::span<const int32_t> prompt, const GenerateOptions& options, const Tokenizer* tokenizer,
                                  const std::function<bool(std::string_view)>& on_text);

  // State of session, sampler and pending tokens; a conversation continued from the file gives the tokens of one never interrupted.
  Status Save(const std::string& path) const;
  Status Restore(const std::string& path);

 private:
  Status Prefill(std::span<const int32_t> tokens);

  Session* session_;
  Sampler sampler_;
  std::vector<int32_t> pending_;
};

}  // namespace tern
