// Performer (Choromanski et al. 2021): random-feature attention, linear in length, as performer_pytorch's PerformerLM builds it, with its options: feature maps,
// exact local heads beside the others, rotary, axial or learned positions, GLU, ReZero, ScaleNorm, token shift, reversible blocks, cross attention.
//
// Entry "step" (causal, without cross attention): inputs input_ids [B*T, 1] i32 and, for Logits::kTarget, targets [B*T, 1] i32; outputs logits [B*T or B, V],
// not normalised, or log_probs [B*T, 1]. State: prefix sums, constant in length; a piece's rows are those of a run that ends with it.
// Entry "encode" (every model): whole sequences; beside input_ids the inputs mask [B*T, 1] f32 (0: masked; may be bound to nothing) and, with cross attention,
// context [B*C, D] f32 and context_mask [B*C, 1] f32. Lengths: T, then C. Output logits.
#pragma once

#include "models/architecture.h"

namespace tern {

struct PerformerConfig {
  int64_t vocab_size = 0, max_positions = 0, d_model = 0, n_layers = 0, n_heads = 0, d_head = 64, d_inner = 0;
  std::vector<int64_t> local_heads;  // per layer
  int64_t local_window = 256;
  int64_t n_features = 0;            // m
  FavorOp::Kernel kernel = FavorOp::Kernel::kSoftmax;
  bool causal = false, reversible = false, glu = false, shift_tokens = false, cross_attend = false, tie_embed = false, qkv_bias = false, out_bias = false;
  bool mask_keys = false;            // run-time setting: masked keys leave the sums too, not their values alone
  enum class Wrapper : uint8_t { kLayerNorm, kReZero, kScaleNorm } wrapper = Wrapper::kLayerNorm;
  enum class Positions : uint8_t { kRotary, kAxial, kLearned } positions = Positions::kRotary;
  std::vector<int64_t> axial_shape;

  int64_t width() const { return n_heads * d_head; }
};

class PerformerNetwork : public Network {
 public:
  virtual const PerformerConfig& performer() const = 0;
};

extern const Architecture kPerformer;

}  // namespace tern
