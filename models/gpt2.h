// GPT-2 (Radford et al. 2019): a pre-norm decoder with learned positions and a tied output table.
//
// Source: Hugging Face GPT2LMHeadModel. Entry "step": inputs input_ids [B*T, 1] i32 and, for Logits::kTarget, targets [B*T, 1] i32; outputs logits
// [B*T or B, V] (as the public class gives them: not normalised), or log_probs [B*T, 1]; with trace, hidden_states.N [B*T, D] (the last after the final norm).
#pragma once

#include "models/architecture.h"

namespace tern {

struct Gpt2Config {
  int64_t vocab_size = 0, d_model = 0, n_layers = 0, n_heads = 0, d_inner = 0, n_positions = 0, eos_token_id = -1;
  int64_t n_context = 0;          // positions used, at most n_positions (a run-time setting)
  Activation activation = Activation::kGeluNew;
  double layer_norm_epsilon = 1e-5;
  bool scale_by_layer = false;  // scores are also divided by (layer + 1)

  int64_t head_width() const { return d_model / n_heads; }
};

extern const Architecture kGpt2;

// What GPT-2 and models built on it share.
//
// The fields of a config of either kind (foreign, or ours), checked.
Result<Gpt2Config> ReadGpt2Config(const Json& config);
void WriteGpt2Config(const Gpt2Config& config, Json* out);

// One of a linear layer's sizes and names: weight [out, in] and bias [out] below `name`.
Value Gpt2Linear(Builder& b, std::string_view name, Value x, int64_t out, Activation activation = Activation::kNone);
Value Gpt2Norm(Builder& b, std::string_view name, Value x, double epsilon);
// x -> x + ff(norm(x))
Value Gpt2FeedForward(Builder& b, const Gpt2Config& c, Value x);
// Queries, keys and values of the new tokens [B*T, 3D] -> attention output [B*T, D] before its projection; keys and values go into the state "kv".
Value Gpt2Attention(Builder& b, const Gpt2Config& c, const EntryOptions& options, int64_t layer, Value qkv);
// The final norm and what comes out, as in the header's first comment.
void Gpt2Outputs(Builder& b, const Gpt2Config& c, const EntryOptions& options, Dim rows, Value x, bool last_hidden_state);
// The rules of all that a plain GPT-2 has; ours "layers.N...." from "transformer.h.N...." (the bare class leaves "transformer." out).
Import ImportGpt2(const Gpt2Config& c, const std::vector<ForeignTensor>& checkpoint);

}  // namespace tern
