// Score: log-likelihood of a stream of tokens, of any length, in constant memory.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/runtime/session.h"

namespace tern {

struct Score {
  int64_t tokens = 0, scored = 0;
  double nll = 0;  // natural log, summed over the scored tokens

  double perplexity() const;
  double bits_per_token() const;
};

// Feeds tokens in chunks with the state carried from one to the next; the first token is not scored. Where the context is full (GPT-2), it starts anew, empty. Needs a session with a kTarget plan. Not thread-safe.
class Scorer {
 public:
  explicit Scorer(Session* session);
  // Natural-log probabilities of the scored tokens, in order, as they are computed (may be empty).
  using Listener = std::function<void(std::span<const float> log_probs)>;
  Status Push(std::span<const int32_t> ids, const Listener& listener = {});
  Status Finish(const Listener& listener = {});  // what is left; then the scorer is as new, and so is the session
  const Score& score() const { return score_; }

 private:
  Status Feed(size_t count, const Listener& listener);
  Session* session_;
  std::vector<int32_t> waiting_;
  Score score_;
};

// The same text by a plain sliding window: every token's probability from the `window` tokens before it, recomputed from an empty state each time (what a
// model without memory has to do). The session must carry nothing (mem_len = 0) and have a kTarget plan of `window` tokens.
class WindowScorer {
 public:
  WindowScorer(Session* session, int64_t window) : session_(session), window_(static_cast<size_t>(window)) {}
  Status Push(std::span<const int32_t> ids);
  const Score& score() const { return score_; }

 private:
  Session* session_;
  size_t window_;
  std::vector<int32_t> recent_, targets_;
  Score score_;
};

}  // namespace tern
