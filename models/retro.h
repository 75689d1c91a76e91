// RETRO (Borgeaud et al. 2021): a decoder that reads retrieved neighbours through chunked cross-attention. Three dialects of public code:
//   lucid     lucidrains' RETRO-pytorch 0.3.9: null key and value, rotary positions (its query positions of chunked cross-attention too)
//   paper     the same tensors with the paper's query positions; null keys and absolute positions may be absent
//   megatron  NVIDIA Megatron-core's RetroModel: LayerNorm, no positions in cross-attention, no mask, a first chunk that may be partial
//
// The sequence is cut into chunks of m tokens. Token (u+1)m - 1 completes chunk u; it and the m - 1 tokens behind it attend to the k neighbours of chunk u,
// each R tokens long, which a small encoder reads, conditioned on the decoder's rows of chunk u at the first cross-attention layer.
//
// Entries "step" (no retrieval: cross-attention is left out) and "retrieve". Inputs, B lanes of T tokens, E chunks completed, N neighbour tokens:
//   input_ids [B*T, 1] i32; targets likewise for Logits::kTarget; position_ids [B*T, 1] i32 (where there are positions)
//   retrieve only: chunks [4, 1] i32 (ops.h), active [B*T, 1] f32 (0 for tokens before the first completed chunk), cross_positions [B*T, 1] i32,
//   neighbor_ids and neighbor_positions [N, 1] i32 (packed, pads left out), starts [S, 1] i32 with S = B*E*k + 1 (ordered by lane, chunk, neighbour),
//   context_positions [B*E*m, 1] i32 (row of the chunk), of which those without use are absent
// Lengths in this order: T, E, N, S. Outputs logits [B*T or B, V], or log_probs [B*T, 1].
// A state "chunk" (m + 1 i32 per lane) belongs to the session: the border, and the tokens of the chunk that is not complete yet.
#pragma once

#include "models/architecture.h"

namespace tern {

enum class RetroNorm : uint8_t { kRms, kRmsGated, kLayerNorm, kLayerNorm1p };
enum class RetroCrossPositions : uint8_t { kNone, kPaper, kLucid };

// What one stack (encoder or decoder) is made of.
struct RetroStack {
  int64_t d_model = 0, d_inner = 0, n_layers = 0;
  std::vector<int64_t> cross_layers;  // 0-based, ascending
  double residual_scale = 1;          // post-norm only
  bool final_norm = true;
};

struct RetroConfig {
  std::string dialect;  // lucid, paper, megatron
  int64_t vocab_size = 0, max_positions = 0, n_heads = 0, d_head = 0;
  int64_t chunk = 64, neighbors = 2, neighbor_length = 128;  // m; k and R, which retrieval uses if nothing else is said
  int64_t pad_token_id = 0, eos_token_id = -1;
  RetroStack encoder, decoder;
  RetroNorm norm = RetroNorm::kRms;
  double layer_norm_epsilon = 1e-5;
  bool post_norm = false;
  int64_t rotary = 0, encoder_rotary = 0;  // rotated numbers of a head; 0: none
  bool positions = true, neighbor_positions = false;  // learned, absolute
  RetroCrossPositions cross_positions = RetroCrossPositions::kPaper;
  bool null_key = true;
  bool masked_pads = true;       // pad tokens of neighbours are left out
  bool normed_context = false;   // what conditions the encoder, and what chunked cross-attention asks with, is one normed value
  bool normed_residual = false;  // the encoder adds its cross-attention to the normed stream
  bool partial_first = false;    // of n tokens the first n mod m make the first chunk, else the last ones are in none
  Activation activation = Activation::kGelu;
  bool gated_ffn = false, qkv_bias = false, o_bias = true, ffn_bias = true;
  bool project_input = false, project_encoder = true;
  bool tied = false;

  int64_t d_attention() const { return n_heads * d_head; }
};

// What the runtime needs beside Network to feed one.
class RetroNetwork : public Network {
 public:
  virtual const RetroConfig& retro() const = 0;
};

extern const Architecture kRetro;

}  // namespace tern
