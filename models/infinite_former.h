// The infinity-former (Martins, Marinho & Martins 2022): a decoder whose past is kept as a continuous signal of N basis functions, however long it grows.
//
// Three hosts, as the public code has them (deep-spin/infinite-former): a Transformer-XL (MemTransformerLM: sorting, language modelling; a pickled module or
// a state dict), a GPT-2 that reads blocks of L tokens, and a document-grounded GPT-2 whose memory takes normalised rows and whose first block may be short.
//
// Entry "step": inputs input_ids [B*T, 1] i32, token_type_ids likewise (document host; may be bound to nothing), for Logits::kTarget targets; outputs
// last_hidden_state [B*T, D] (kAll) and logits [B*T or B, V], or log_probs [B*T, 1]; with trace, hidden_states.N.
#pragma once

#include "models/architecture.h"
#include "models/gpt2.h"
#include "models/transformer_xl.h"

namespace tern {

enum class MemoryHost : uint8_t { kTransformerXl, kGpt2, kDocument };

struct InfiniteFormerConfig {
  MemoryHost host = MemoryHost::kTransformerXl;
  TransformerXlConfig xl;            // the XL host's; its `segment` is tgt_len
  Gpt2Config gpt2;                   // the GPT-2 hosts'
  bool long_term_attention = true;   // false: the XL host alone
  LongTermMemory memory;             // batch, queries and layer are an entry's
  int64_t mem_threshold = 0;         // GPT-2: the memory starts anew after so many tokens; 0: never

  bool on_gpt2() const { return host != MemoryHost::kTransformerXl; }
  int64_t n_layers() const { return on_gpt2() ? gpt2.n_layers : xl.n_layers; }
  int64_t vocab_size() const { return on_gpt2() ? gpt2.vocab_size : xl.vocab_size; }
  int64_t d_model() const { return on_gpt2() ? gpt2.d_model : xl.d_model; }
  int64_t segment() const { return on_gpt2() ? memory.length : xl.segment; }
};

// What runtime tasks need beside Network.
class InfiniteFormerNetwork : public Network {
 public:
  virtual const InfiniteFormerConfig& infinite() const = 0;
};

extern const Architecture kInfiniteFormer;

}  // namespace tern
