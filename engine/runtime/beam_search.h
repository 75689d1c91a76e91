// Beam search over one source, exactly as transformers 4.57 does it: scores are sums of log-probabilities in f32, hypotheses are ranked by sum / length^penalty
// with the length in generated tokens, twice as many continuations as beams are looked at. Knows no model: it takes logits and says which tokens come next.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/status.h"
#include "engine/kernels/kernels.h"

namespace tern {

// When a source is done before new_tokens: kHeuristic ("false"): when `beams` hypotheses are finished and the best open one, at its present length, is no
// better than the worst of them; kFirst ("true"): when `beams` are finished; kNever: as kHeuristic, but an open one is given its longest length.
enum class EarlyStopping : uint8_t { kHeuristic, kFirst, kNever };

struct BeamOptions {
  int64_t beams = 1;
  int64_t new_tokens = 20;
  float length_penalty = 1;
  EarlyStopping early_stopping = EarlyStopping::kHeuristic;
  int64_t no_repeat_ngram_size = 0;  // > 0: no n tokens in a row come twice (the start token counts)
  int32_t start_id = 0, pad_id = 0;
  int64_t eos_id = 1;  // -1: none
};

// Sets numbers to -infinity whose token would complete an n-gram that `ids` already has.
void BanRepeats(std::span<const int32_t> ids, int64_t n, float* row);

// Allocates in the constructor only. Not thread-safe.
class BeamSearch {
 public:
  // `prompt`: what stands before the generated ids, and takes part in n-grams, where that is not the start token alone.
  BeamSearch(const BeamOptions& options, int64_t vocab_size, const KernelTable& kernels, std::span<const int32_t> prompt = {});

  // Takes the logits [beams, V] that follow the sequences so far. kNumeric if they are not finite.
  Status Step(const float* logits, int64_t stride);
  bool done() const { return done_; }
  // What beam k feeds next, and whose state it continues. Once done: padding, and itself.
  std::span<const int32_t> tokens() const { return tokens_; }
  std::span<const int32_t> parents() const { return parents_; }
  // The best hypothesis: start id or prompt, generated ids, the end symbol if it came; and its score. REQUIRES: done().
  std::span<const int32_t> best() const { return {finished_[0].ids.data(), finished_[0].ids.size()}; }
  float best_score() const { return finished_[0].score; }

 private:
  struct Hypothesis {
    std::vector<int32_t> ids;
    float score = 0;
    bool finished = false;
  };
  struct Candidate {
    float score;
    int32_t beam, id;
    bool ends;
  };
  Status Candidates(const float* logits, int64_t stride);
  void TakeFinished();
  void TakeRunning();
  void Idle();

  BeamOptions o_;
  int64_t vocab_size_;
  const KernelTable& kernels_;
  std::vector<Hypothesis> running_, next_, finished_, merged_;
  std::vector<Candidate> candidates_, all_;
  std::vector<int32_t> tokens_, parents_, order_;
  std::vector<float> row_, top_values_;
  std::vector<int32_t> top_ids_;
  int64_t generated_ = 0;
  bool may_improve_ = true, done_ = false;
};

}  // namespace tern
