#include <algorithm>

#include "engine/runtime/forward_parts.h"

namespace tern {

Result<std::vector<NamedTensor>> ForwardDecoder(std::shared_ptr<const Model> model,
                                                const std::vector<NamedInput>& inputs, const ForwardOptions& options,
                                                const RetrievalOptions& retrieval) {
  const ConstTensor* ids_tensor = nullptr;
  for (const NamedInput& in : inputs) {
    if (in.name == "input_ids")
      ids_tensor = &in.tensor;
    else
      return UsageError("the model takes no such input")
          .Where(Str("input '", Printable(in.name), "'"))
          .Hint("It takes input_ids");
  }
  if (!ids_tensor) return UsageError("the input 'input_ids' is missing");
  TERN_ASSIGN(std::vector<int32_t> ids, InputIds(*ids_tensor, "input_ids", model->network().vocab_size()));
  const int64_t batch = ids_tensor->shape[0], time = ids_tensor->shape[1];
  std::vector<NamedTensor> out;
  if (batch == 0 || time == 0) {
    out.push_back({"logits", DType::f32, {batch, time, model->network().vocab_size()}, {}});
    return out;
  }
  TERN_ASSIGN(const std::vector<int64_t> chunks, Pieces(options, time));

  SessionOptions session_options;
  session_options.batch = batch, session_options.threads = options.threads, session_options.cancel = options.cancel;
  session_options.retrieval = retrieval;
  session_options.plans = {{*std::max_element(chunks.begin(), chunks.end()), LogitsMode::kAll, options.trace}};
  TERN_ASSIGN(auto session, Session::Create(model, session_options));
  return FeedPieces(session.get(), ids, chunks, options.trace);
}

}  // namespace tern
