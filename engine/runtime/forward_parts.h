// What the ways to run a model as a function share: one per kind of network, chosen in forward.cc.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/runtime/encoder_session.h"
#include "engine/runtime/forward.h"
#include "models/infinite_former.h"
#include "models/performer.h"
#include "models/reformer.h"
#include "models/t5.h"

namespace tern {

// Outputs of all pieces, joined along time: [B, T, cols] from pieces [B * t, cols].
class Joined {
 public:
  static Result<Joined> Create(std::string name, int64_t batch, int64_t time, int64_t cols);
  void Take(const Operand& piece, int64_t begin, int64_t tokens);  // positions [begin, begin + tokens) of the sequence
  NamedTensor tensor;

 private:
  int64_t batch_ = 0, time_ = 0, cols_ = 0;
};

// The lengths of the pieces a sequence of `time` is fed in. kUsage if they do not add up to it.
Result<std::vector<int64_t>> Pieces(const ForwardOptions& options, int64_t time);

// Columns [begin, begin + count) of rows [B, T] that lie in `from`.
std::vector<int32_t> ColumnsOf(const std::vector<int32_t>& from, int64_t batch, int64_t begin, int64_t count);
// Feeds ids [B, T] to a session of B lanes, piece by piece, and joins every output along time. `before`, if not empty, is called before each piece.
Result<std::vector<NamedTensor>> FeedPieces(Session* session, const std::vector<int32_t>& ids, const std::vector<int64_t>& pieces, bool trace,
                                            const std::function<void(int64_t begin, int64_t count)>& before = {});

Result<std::vector<NamedTensor>> ForwardEncoder(std::shared_ptr<const Model> model, const EncoderNetwork& network,
                                                const std::vector<NamedInput>& inputs, const ForwardOptions& options);
Result<std::vector<NamedTensor>> ForwardPerformer(std::shared_ptr<const Model> model, const PerformerNetwork& network,
                                                  const std::vector<NamedInput>& inputs, const ForwardOptions& options);
// Inputs input_ids [B, T]; attention_mask [B, T], num_hashes [1] and rotations [H, Dh, rounds, directions] if wanted.
Result<std::vector<NamedTensor>> ForwardReformer(std::shared_ptr<const Model> model, const ReformerConfig& config,
                                                 const std::vector<NamedInput>& inputs, const ForwardOptions& options);
// The infinity-former: every piece is a segment; token_type_ids are cut like input_ids, sticky_bins are replayed.
Result<std::vector<NamedTensor>> ForwardInfiniteFormer(std::shared_ptr<const Model> model, const InfiniteFormerNetwork& network,
                                                       const std::vector<NamedInput>& inputs, const ForwardOptions& options);
// input_ids, attention_mask [B, S] and decoder_input_ids [B, T] -> encoder_last_hidden_state [B, S, D] (zeros where the mask is), logits [B, T, V]; with
// options.generate also greedy_ids and beamK_ids [B, longest] (i64), filled with padding.
Result<std::vector<NamedTensor>> ForwardEncoderDecoder(std::shared_ptr<const Model> model,
                                                       const EncoderDecoderNetwork& network,
                                                       const std::vector<NamedInput>& inputs,
                                                       const ForwardOptions& options);
Result<std::vector<NamedTensor>> ForwardDecoder(std::shared_ptr<const Model> model,
                                                const std::vector<NamedInput>& inputs, const ForwardOptions& options,
                                                const RetrievalOptions& retrieval = {});
// RETRO: also the input retrieved [B, l, k, R] (i64 or i32), neighbours of the chunks in order.
Result<std::vector<NamedTensor>> ForwardRetro(std::shared_ptr<const Model> model, const std::vector<NamedInput>& inputs,
                                              const ForwardOptions& options);

}  // namespace tern
