// Seq2seq: sequences from an encoder-decoder - greedy, sampled or by beam search - and the log-likelihood of given ones.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "engine/runtime/beam_search.h"
#include "engine/runtime/encoder_decoder_session.h"
#include "engine/runtime/sampler.h"

namespace tern {

struct Seq2seqOptions {
  int64_t new_tokens = 20;
  float length_penalty = 1;  // of beam search, as in BeamOptions
  EarlyStopping early_stopping = EarlyStopping::kHeuristic;
  int64_t no_repeat_ngram_size = 0;
  SamplerOptions sampler;    // of one beam; its seed is that of the first source, the next has the next
  bool ignore_eos = false;   // exactly new_tokens
};

struct Decoded {
  std::vector<int32_t> ids;  // the decoder's start token, what was generated, and the end symbol if it came
  float score = 0;           // beam search: sum of log-probabilities / length^penalty
  bool ended = false;        // by the end symbol
};

// The session's number of beams decides between the two. It must have room for new_tokens positions, and give logits of the last position (kLast).
// `on_token` (may be empty; one beam and one source) gets every id as it comes and returns false to stop. kCancelled leaves what was there in `out`.
Status DecodeSources(EncoderDecoderSession& session, std::span<const EncoderInput> sources, const Seq2seqOptions& options, const std::function<bool(int32_t)>& on_token,
                     std::vector<Decoded>* out);

struct TargetScore {
  int64_t tokens = 0;
  double nll = 0;  // nats, summed over the target's tokens
  std::vector<float> log_probs;
};
// Log-probability of `target` (without start token; usually ending with the end symbol) given the source. The session has one beam, room for the target's
// positions and gives all logits (kAll).
Result<TargetScore> ScoreTarget(EncoderDecoderSession& session, const EncoderInput& source, std::span<const int32_t> target);

}  // namespace tern
