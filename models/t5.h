// T5 (Raffel et al. 2020; v1.0, v1.1, mT5) and Switch Transformers (Fedus et al. 2021): pre-norm encoder-decoders with relative position buckets. A
// Switch Transformer is a T5 in which some feed-forward layers are mixtures of experts, of which every token takes one.
//
// Entry "encode" reads a batch packed without padding. Lengths: R rows (tokens) in all, S sources, S1 = S + 1, N rows that are no padding.
//   inputs   input_ids [R, 1] i32; starts [S1, 1] i32; key_bias [R, 1] f32 (0, or -infinity for padding; may be bound to nothing); with a decoder also
//            kept_rows [N, 1] i32 and kept_starts [S1, 1] i32: the rows that the decoder may look at
//   outputs  encoder_last_hidden_state [R, D] (encoder-only models: last_hidden_state)
//   states   decoder.layers.L.cross: keys and values of every source, computed once
// Entry "decode" takes T new tokens of `batch` lanes. Lengths: T, S, S1.
//   inputs   decoder_input_ids [batch * T, 1] i32; lane_starts [S1, 1] i32 (lanes lane_starts[s] .. lane_starts[s+1]-1 read source s); source_lengths
//            [S, 1] i32
//   outputs  logits [batch * T, V] (kAll) or [batch, V] (kLast); without a head last_hidden_state
//   states   those of "encode", and decoder.layers.L.self: pages of keys and values, which beams share
#pragma once

#include "models/architecture.h"

namespace tern {

enum class T5Family : uint8_t { kT5, kSwitch };

struct T5Config {
  T5Family family = T5Family::kT5;
  int64_t vocab_size = 0, d_model = 0, d_kv = 0, d_ff = 0, n_heads = 0;
  int64_t n_layers = 0, n_decoder_layers = 0;
  bool decoder = true, head = true;  // encoder-only models have neither
  int64_t relative_attention_num_buckets = 32, relative_attention_max_distance = 128;
  double layer_norm_epsilon = 1e-6;
  Activation activation = Activation::kRelu;
  bool gated = false;  // wo(act(wi_0 x) * wi_1 x)
  bool tied = true;    // the head is the embedding, times d_model^-0.5
  int64_t pad_token_id = 0, eos_token_id = 1, decoder_start_token_id = 0;
  // Switch: the layers whose feed-forward is a mixture, ascending.
  std::vector<int64_t> sparse_encoder_layers, sparse_decoder_layers;
  int64_t n_experts = 0, expert_capacity = 64;
  bool router_bias = false;
  CapacityPolicy capacity_policy = CapacityPolicy::kZero;

  int64_t inner() const { return n_heads * d_kv; }  // may differ from d_model
  bool sparse(bool in_decoder, int64_t layer) const {
    for (int64_t l : in_decoder ? sparse_decoder_layers : sparse_encoder_layers)
      if (l == layer) return true;
    return false;
  }
  int64_t sparse_layers() const { return static_cast<int64_t>(sparse_encoder_layers.size() + sparse_decoder_layers.size()); }
};

// The parts of an encoder-decoder that runtime tasks need beside Network.
class EncoderDecoderNetwork : public Network {
 public:
  virtual const T5Config& t5() const = 0;
};

extern const Architecture kT5, kSwitch;

}  // namespace tern
