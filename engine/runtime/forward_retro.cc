// RETRO as a function: input_ids [B, n] and, for retrieval, retrieved [B, l, k, R].
#include "engine/runtime/forward_parts.h"
#include "engine/runtime/tensor_neighbors.h"

namespace tern {

Result<std::vector<NamedTensor>> ForwardRetro(std::shared_ptr<const Model> model, const std::vector<NamedInput>& inputs, const ForwardOptions& options) {
  std::vector<NamedInput> others;
  const ConstTensor *retrieved = nullptr, *ids = nullptr;
  for (const NamedInput& in : inputs) {
    if (in.name == "retrieved") retrieved = &in.tensor;
    else if (in.name == "input_ids") ids = &in.tensor;
    else return UsageError("the model takes no such input").Where(Str("input '", Printable(in.name), "'")).Hint("It takes input_ids and retrieved");
    if (in.name != "retrieved") others.push_back(in);
  }
  if (!retrieved) return ForwardDecoder(std::move(model), others, options);
  TERN_ASSIGN(TensorNeighbors source, TensorNeighbors::Create(*retrieved, model->network().vocab_size()));
  if (ids && ids->shape.rank() == 2 && ids->shape[0] != source.batch())
    return UsageError("the inputs have different batches").Where("input 'retrieved'").Got(source.batch(), ids->shape[0]);
  const RetrievalOptions retrieval = source.Options(ids && ids->shape.rank() == 2 ? ids->shape[1] : 0);
  return ForwardDecoder(std::move(model), others, options, retrieval);
}

}  // namespace tern
