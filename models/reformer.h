// Reformer (Kitaev et al. 2020), as Hugging Face publishes it: local and hashed (LSH) attention layers in any order over a reversible pair of streams, axial
// positions, feed-forward by blocks of rows. Heads: LM, masked LM, question answering, classification of sequences, none.
//
// One graph for every head. Entry "step" (LM) or "encode" (the others). Lengths: T tokens given per lane, S the same padded (PaddedLength).
//   inputs   input_ids [B*T, 1] i32; may be bound to nothing: attention_mask [B*T, 1] i32 (0: no key), rotations [H*Dh, rounds * directions] f32, read as
//            [H, Dh, rounds, directions], used by every hashed layer in place of those of the seed; with Logits::kTarget targets [B*T, 1] i32
//   outputs  lm, masked_lm  logits [B*T, V], or [B, V] (kLast), or log_probs [B*T, 1] (kTarget)
//            question       start_logits, end_logits [B*T, 1]
//            sequence       logits [B, n]
//            none           last_hidden_state [B*T, 2D]
//            with trace also hidden_states.N [B*T, D], the second stream before layer N, and last_hidden_state
// With a context (EntryOptions::context) the layers keep what decoding reads: later calls take one token per lane.
#pragma once

#include "engine/graph/lsh.h"
#include "models/architecture.h"

namespace tern {

enum class ReformerHead : uint8_t { kNone, kLm, kMaskedLm, kQuestion, kSequence };

struct ReformerConfig {
  ReformerHead head = ReformerHead::kNone;
  int64_t vocab_size = 0, d_model = 0, n_heads = 0, d_head = 0, d_inner = 0;
  std::vector<bool> lsh_layers;                 // per layer: hashed, else local
  bool axial = true;
  std::vector<int64_t> axial_shape, axial_dim;  // positions and widths per axis
  int64_t max_positions = 0;
  bool causal = false;
  int64_t local_chunk = 64, local_before = 1, local_after = 0;
  int64_t lsh_chunk = 64, lsh_before = 1, lsh_after = 0;
  int64_t num_hashes = 1;
  BucketFactors buckets;                        // count 0: by the length
  int64_t context = 4096;                       // positions that decoding remembers (a run-time setting)
  uint64_t hash_seed = 0;                       // a checkpoint without one draws anew at every call; here it is 0
  Activation activation = Activation::kRelu;
  double layer_norm_epsilon = 1e-12;
  int64_t pad_token_id = 0, eos_token_id = 2, n_labels = 2;
  std::vector<std::string> labels;

  bool has(bool lsh) const;                     // a layer of this kind
  int64_t longest() const;                      // tokens that have a position
  // Rows that T tokens take: the next multiple of all chunk lengths, if they are more than the shortest chunk.
  int64_t PaddedLength(int64_t tokens) const;
  int64_t LongestText() const;                  // tokens whose padded rows all have a position
};

// What the runtime asks of a network that is a Reformer.
class ReformerNetwork {
 public:
  virtual ~ReformerNetwork() = default;
  virtual const ReformerConfig& reformer() const = 0;
};

extern const Architecture kReformer;

}  // namespace tern
