// EncoderDecoderSession: sources are read at once, then decoded token by token in lanes (the beams of each source). A source's keys and values are computed
// once; the lanes' own are kept in pages that beams share. Used by one thread at a time; the Model is shared.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/base/parallel.h"
#include "engine/runtime/encoder_session.h"
#include "engine/runtime/execute.h"
#include "engine/runtime/kv_pages.h"
#include "engine/runtime/session.h"
#include "models/t5.h"

namespace tern {

struct EncoderDecoderOptions {
  int threads = 0;
  int64_t beams = 1;                     // lanes per source
  int64_t positions = 1;                 // tokens the decoder may be given in all, per lane
  LogitsMode logits = LogitsMode::kAll;  // kAll, or kLast
  bool trace = false;
  int64_t memory_limit = 0;              // bytes; 0: what the system has left
  const CancelToken* cancel = nullptr;
  OpObserver* observer = nullptr;        // sees every op (execute.h)
};

class EncoderDecoderSession {
 public:
  // kUsage if the model is no encoder-decoder.
  static Result<std::unique_ptr<EncoderDecoderSession>> Create(std::shared_ptr<const Model> model, const EncoderDecoderOptions& options);

  // Reads a batch of sources and begins to decode anew. kUsage for an empty source or ids out of range, kMemory before anything is run. Plans and state grow
  // to the largest batch seen and are kept; a batch that fits allocates nothing.
  // Padding (mask 0) at the ends of a T5 source is left out, which is exact. In a Switch Transformer padding before a token takes expert capacity, as in
  // the public implementation, so only what stands behind the last token is left out.
  Status Encode(std::span<const EncoderInput> sources);
  // Outputs of Encode, per row of the packed batch: `encoder_last_hidden_state`, with trace `encoder_hidden_states.N`.
  const Operand& encoded(std::string_view name) const { return encoder_->output(name); }
  std::vector<std::string> encoded_names() const;
  int64_t RowOf(int64_t source, int64_t position) const;  // -1: padding that was left out

  // Feeds T tokens to each of the lanes: ids [sources * beams, T]. kUsage beyond `positions`. After kCancelled the call may be repeated.
  Status Decode(std::span<const int32_t> ids);
  const Operand& output(std::string_view name) const { return decoder_->output(name); }
  std::vector<std::string> output_names() const;
  // Lane i goes on from lane parents[i], which reads the same source. No key or value is moved.
  void Reorder(std::span<const int32_t> parents) { pages_.Reorder(parents); }

  bool has_decoder() const { return network_->t5().decoder; }
  int64_t sources() const { return sources_; }
  int64_t lanes() const { return sources_ * options_.beams; }
  int64_t tokens_seen() const { return tokens_seen_; }
  const EncoderDecoderNetwork& network() const { return *network_; }
  const Model& model() const { return *model_; }
  const EncoderDecoderOptions& options() const { return options_; }
  const MemoryUse& memory() const { return memory_; }
  const KvPages& pages() const { return pages_; }
  int threads() const { return gang_->threads(); }

 private:
  EncoderDecoderSession() = default;
  Status Pack(std::span<const EncoderInput> sources);
  Status GrowEncoder();
  Status GrowDecoder(int64_t tokens);
  Result<std::unique_ptr<Executor>> Prepare(const EntryOptions& entry, Region* arena, std::shared_ptr<const Region>* constants);
  void CountMemory();

  std::shared_ptr<const Model> model_;
  const EncoderDecoderNetwork* network_ = nullptr;
  EncoderDecoderOptions options_;
  std::unique_ptr<Gang> gang_;
  MemoryUse memory_;
  Region state_, encoder_arena_;
  std::shared_ptr<const Region> encoder_constants_;
  std::unique_ptr<Executor> encoder_;
  // Plans for chunks of tokens of one shape of lanes; the smallest that fits is used.
  struct DecoderPlan {
    int64_t tokens;
    Region arena;
    std::shared_ptr<const Region> constants;
    std::unique_ptr<Executor> executor;
  };
  std::vector<DecoderPlan> decoders_;
  Executor* decoder_ = nullptr;
  EntryOptions capacity_;  // what state and encoder plan were made for
  KvPages pages_;
  int64_t sources_ = 0, longest_ = 0, tokens_seen_ = 0;
  // The packed batch.
  std::vector<int32_t> ids_, starts_, kept_rows_, kept_starts_, lane_starts_, source_lengths_;
  std::vector<float> key_bias_;
  std::vector<int64_t> row_of_, token_begin_;
  bool biased_ = false;
};

// The plans of a session without the session: reading `sources` sources of `source_tokens` tokens, then, with a decoder, one step of decoding.
Result<SessionPlan> PlanEncoderDecoder(const Model& model, const EncoderDecoderOptions& options, int64_t sources, int64_t source_tokens);

}  // namespace tern
