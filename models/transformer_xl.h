// Transformer-XL (Dai et al. 2019): segment recurrence, relative positions, adaptive softmax.
//
// Sources: Hugging Face TransfoXLLMHeadModel (transfo-xl-wt103 layout), the original PyTorch module (model.pt, attn_type 0).
// Entry "step": inputs input_ids [B*T, 1] i32 and, for Logits::kTarget, targets [B*T, 1] i32; outputs logits [B*T or B, V] (log-probabilities in id order),
// or log_probs [B*T, 1]; with trace, hidden_states.N [B*T, D].
#pragma once

#include "models/architecture.h"

namespace tern {

struct TransformerXlConfig {
  int64_t vocab_size = 0, d_model = 0, d_embed = 0, n_heads = 0, d_head = 0, d_inner = 0, n_layers = 0, div_val = 1;
  std::vector<int64_t> cutoffs;      // without 0 and the vocabulary's size; ascending
  std::vector<bool> tie_projs;       // one per cluster
  bool tie_weight = true, untie_r = true, pre_lnorm = false, same_length = false;
  int64_t mem_len = 0, clamp_len = -1, eos_token_id = -1, tgt_len = 128;
  double layer_norm_epsilon = 1e-5;
  bool zero_memory = true;           // the memory starts as mem_len rows of zeros that are attended (Hugging Face, TF), else empty (original PyTorch)
  int64_t segment = 0;               // infinity-former: tokens of a segment that may be fed in pieces
  bool reversed_clusters = false;    // original PyTorch code: the cluster columns of the head count from the end

  int64_t clusters() const { return static_cast<int64_t>(cutoffs.size()) + 1; }
  int64_t cluster_begin(int64_t c) const { return c == 0 ? 0 : cutoffs[static_cast<size_t>(c - 1)]; }
  int64_t cluster_end(int64_t c) const { return c == clusters() - 1 ? vocab_size : cutoffs[static_cast<size_t>(c)]; }
  int64_t cluster_size(int64_t c) const { return cluster_end(c) - cluster_begin(c); }
  int64_t cluster_width(int64_t c) const {
    int64_t width = d_embed;
    for (int64_t i = 0; i < c; ++i) width /= div_val;
    return width;
  }
  bool projected() const { return div_val > 1 || d_embed != d_model; }
};

extern const Architecture kTransformerXl;

// What models built on Transformer-XL share with it.
//
// What no config may ask for, whether it came from a file or from --set.
Status CheckTransformerXl(const TransformerXlConfig& config);
// The sinusoids of all distances [P, D]: the same for all layers.
Value XlSinusoid(Builder& b, const TransformerXlConfig& config, const EntryOptions& options);
// One layer: x [B*T, D] -> [B*T, D]. `extra`, if there is one, makes of q and the attention's projected output what goes on to the residual.
using XlExtra = std::function<Value(Value q, Value o)>;
Value XlLayer(Builder& b, const TransformerXlConfig& config, const EntryOptions& options, Value x, Value sinusoid, const XlExtra& extra);

}  // namespace tern
