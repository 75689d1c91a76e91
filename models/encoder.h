// Encoders that share the post-norm Transformer block: ALBERT (Lan et al. 2020), BERT (Devlin et al. 2019), RoBERTa, DistilBERT, and MiniLM and other
// sentence encoders, which are BERT by another name. Sharing is naming: ALBERT asks for one block's weights in every layer.
//
// Entry "encode" works on a batch packed without padding. Lengths: R rows (tokens) in all, S sequences, S1 = S + 1, N selected rows.
//   inputs   input_ids, position_ids, token_type_ids (where the model has types) [R, 1] i32; starts [S1, 1] i32; key_bias [R, 1] f32 (0, or -infinity for a
//            row that is no key; may be bound to nothing); first_rows [S, 1] i32 (the row of each sequence's position 0); for Logits::kLast rows [N, 1] i32
//   outputs  by head, as the public classes name them:
//            none               last_hidden_state [R, D], pooler_output [S, D] if there is a pooler
//            masked_lm          logits [R, V] (kAll) or [N, V] of the selected rows (kLast)
//            pretraining        prediction_logits [R, V], sop_logits or seq_relationship_logits [S, 2]
//            sequence, choice   logits [S, n]
//            token              logits [R, n]
//            question           start_logits, end_logits [R, 1]
// Entry "embed": sentence vectors [S, D], output "embeddings".
#pragma once

#include "models/architecture.h"

namespace tern {

enum class EncoderFamily : uint8_t { kAlbert, kBert, kRoberta, kDistilBert };
enum class EncoderHead : uint8_t { kNone, kMaskedLm, kPretraining, kSequence, kToken, kQuestion, kChoice };
enum class Pooling : uint8_t { kMean, kCls };

struct EncoderConfig {
  EncoderFamily family = EncoderFamily::kBert;
  EncoderHead head = EncoderHead::kNone;
  int64_t vocab_size = 0, d_embed = 0, d_model = 0, n_layers = 0, n_heads = 0, d_inner = 0;
  int64_t n_groups = 1, inner_group_num = 1;      // ALBERT
  int64_t max_positions = 512, type_vocab_size = 2;  // rows of the position table; 0: no token types
  int64_t pad_token_id = 0, n_labels = 2;
  Activation activation = Activation::kGelu;
  double layer_norm_epsilon = 1e-12;
  bool pooler = false;         // the checkpoint has one and the head reads it, or it is an output
  bool tied_decoder = true;
  std::vector<std::string> labels;  // id2label, for classification heads
  Pooling pooling = Pooling::kMean;  // sentence vectors
  bool normalize = true;
  int64_t max_length = 0;      // tokens a request may have; 0: as many as there are positions

  // Position of a sequence's first token: RoBERTa counts from pad + 1.
  int64_t first_position() const { return family == EncoderFamily::kRoberta ? pad_token_id + 1 : 0; }
  int64_t longest() const { return max_positions - first_position(); }
  // The block of layer l, inner layer j: "groups.0.inner.1" or "layers.3".
  int64_t group_of(int64_t layer) const { return layer * n_groups / n_layers; }
};

// The parts of the encoder interface that runtime tasks need beside Network.
class EncoderNetwork : public Network {
 public:
  virtual const EncoderConfig& encoder() const = 0;
};

extern const Architecture kAlbert, kBert, kRoberta, kDistilBert;

}  // namespace tern
