// Sampler: the next token from a row of logits. The same seed gives the same tokens, whatever the number of threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/status.h"
#include "engine/kernels/kernels.h"

namespace tern {

// Filters apply in this order: repetition penalty, temperature, top_k, top_p, min_p.
struct SamplerOptions {
  double temperature = 0;           // 0: greedy, the largest logit (lowest id on ties)
  int64_t top_k = 0;                // > 0: only the k most likely
  double top_p = 1;                 // < 1: the smallest set of most likely tokens whose probability reaches top_p (Holtzman et al. 2020)
  double min_p = 0;                 // > 0: only tokens at least min_p times as likely as the most likely
  double repetition_penalty = 1;    // > 1: logits of tokens among the last `repetition_window` are divided by it, or multiplied if negative (CTRL)
  int64_t repetition_window = 256;
  uint64_t seed = 0;
};

Status CheckSamplerOptions(const SamplerOptions& options);

// Not thread-safe. Allocates at construction only.
class Sampler {
 public:
  Sampler(const SamplerOptions& options, int64_t vocab_size, const KernelTable& kernels);

  // logits [V], unnormalised or log-probabilities. -1 if none is finite.
  int32_t Sample(std::span<const float> logits);
  // Tells the sampler of a token that was fed (prompt or sampled): the repetition penalty counts it.
  void Accept(int32_t id);

  // What a saved conversation needs to go on with the same draws.
  Json State() const;
  Status Restore(const Json& state);

 private:
  void Penalize();
  int64_t Candidates(double total, float top);

  SamplerOptions options_;
  const KernelTable& kernels_;
  std::vector<float> logits_, weights_, values_;
  std::vector<int32_t> indices_, recent_;  // recent_: a ring
  int64_t accepted_ = 0;
  uint64_t draws_ = 0;
};

}  // namespace tern
