#include <algorithm>

#include "engine/runtime/forward_parts.h"

namespace tern {
namespace {

// Draws to be replayed: [updates, layers, batch, samples], bins 0 .. 127. There must be one for every update of the pieces.
Result<std::vector<int32_t>> StickyBins(const ConstTensor& t, const LongTermMemory& m, int64_t layers, int64_t batch, const std::vector<int64_t>& pieces) {
  auto bad = [](std::string what) { return UsageError(std::move(what)).Where("input 'sticky_bins'"); };
  if (!m.sticky) return bad("this model has no sticky memories");
  if (t.type != DType::i32 && t.type != DType::i64) return bad("an input has the wrong type").Got(DTypeName(t.type), "i32 or i64");
  int64_t updates = 0, begin = 0;
  for (size_t i = 1; i < pieces.size(); ++i) {
    begin += pieces[i - 1];
    const MemoryUpdate u = UpdateAt(m, begin, pieces[i - 1], static_cast<int64_t>(i));
    if (u.kind == MemoryUpdate::Kind::kUpdate) updates = u.sticky_update + 1;
  }
  if (t.shape.rank() != 4 || t.shape[0] < updates || t.shape[1] != layers || t.shape[2] != batch || t.shape[3] != m.samples)
    return bad("an input has the wrong shape").Got(t.shape, Str(Shape{updates, layers, batch, m.samples}, " (updates, layers, batch, samples)"));
  std::vector<int32_t> bins(static_cast<size_t>(t.shape.elements()));
  for (size_t i = 0; i < bins.size(); ++i) {
    const int64_t bin = t.type == DType::i32 ? t.as<int32_t>()[i] : t.as<int64_t>()[i];
    if (bin < 0 || bin >= LongTermMemory::kBins) return bad("a bin is out of range").Got(bin, Str("0 to ", LongTermMemory::kBins - 1));
    bins[i] = static_cast<int32_t>(bin);
  }
  return bins;
}

}  // namespace

Result<std::vector<NamedTensor>> ForwardInfiniteFormer(std::shared_ptr<const Model> model, const InfiniteFormerNetwork& network,
                                                       const std::vector<NamedInput>& inputs, const ForwardOptions& options) {
  const InfiniteFormerConfig& config = network.infinite();
  const ConstTensor *ids_tensor = nullptr, *types_tensor = nullptr, *bins_tensor = nullptr;
  for (const NamedInput& in : inputs) {
    if (in.name == "input_ids") ids_tensor = &in.tensor;
    else if (in.name == "token_type_ids" && config.host == MemoryHost::kDocument) types_tensor = &in.tensor;
    else if (in.name == "sticky_bins") bins_tensor = &in.tensor;
    else
      return UsageError("the model takes no such input").Where(Str("input '", Printable(in.name), "'"))
          .Hint("It takes input_ids, sticky_bins if it has sticky memories, and on documents token_type_ids");
  }
  if (!ids_tensor) return UsageError("the input 'input_ids' is missing");
  TERN_ASSIGN(const std::vector<int32_t> ids, InputIds(*ids_tensor, "input_ids", network.vocab_size()));
  const int64_t batch = ids_tensor->shape[0], time = ids_tensor->shape[1];
  std::vector<int32_t> types, bins;
  if (types_tensor) {
    if (!(types_tensor->shape == ids_tensor->shape)) return UsageError("the inputs have different shapes").Where("input 'token_type_ids'").Got(types_tensor->shape, ids_tensor->shape);
    TERN_ASSIGN(types, InputIds(*types_tensor, "token_type_ids", network.vocab_size()));
  }
  std::vector<NamedTensor> out;
  if (batch == 0 || time == 0) {
    out.push_back({"last_hidden_state", DType::f32, {batch, time, config.d_model()}, {}});
    out.push_back({"logits", DType::f32, {batch, time, network.vocab_size()}, {}});
    return out;
  }
  std::vector<int64_t> pieces;
  if (options.chunks.empty())  // full segments and a rest
    for (int64_t at = 0; at < time; at += config.segment()) pieces.push_back(std::min(config.segment(), time - at));
  else {
    TERN_ASSIGN(pieces, Pieces(options, time));
  }
  if (bins_tensor) {
    TERN_ASSIGN(bins, StickyBins(*bins_tensor, config.memory, config.n_layers(), batch, pieces));
  }

  SessionOptions session_options;
  session_options.batch = batch, session_options.threads = options.threads, session_options.cancel = options.cancel;
  session_options.call_is_segment = true;
  session_options.plans = {{*std::max_element(pieces.begin(), pieces.end()), LogitsMode::kAll, options.trace}};
  TERN_ASSIGN(auto session, Session::Create(model, session_options));
  std::vector<int32_t> piece_types;
  return FeedPieces(session.get(), ids, pieces, options.trace, [&](int64_t begin, int64_t count) {
    if (!types.empty()) piece_types = ColumnsOf(types, batch, begin, count);
    session->SetExtraInputs({piece_types, bins});
  });
}

}  // namespace tern
