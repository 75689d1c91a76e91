// RETRO as a function: input_ids [B, n] and, for retrieval, retrieved [B, l, k, R].
#include <cstring>

#include "engine/runtime/forward_parts.h"

namespace tern {
namespace {

// The neighbours of an input tensor [B, l, k, R], chunk by chunk.
class TensorSource : public NeighborSource {
 public:
  static Result<TensorSource> Create(const ConstTensor& t, int64_t vocab_size) {
    if (t.shape.rank() != 4 || t.shape[2] < 1 || t.shape[3] < 1)
      return UsageError("an input has the wrong shape").Where("input 'retrieved'").Got(t.shape, "[batch, chunks, neighbours, tokens]");
    if (t.shape[2] > 1024 || t.shape[3] > (1 << 20))
      return UsageError("there are too many neighbours, or they are too long").Where("input 'retrieved'").Got(t.shape, "at most 1024 neighbours of 1048576 tokens");
    TensorSource s;
    s.batch_ = t.shape[0], s.chunks_ = t.shape[1], s.size_ = t.shape[2] * t.shape[3];
    ConstTensor flat = t;
    flat.shape = {t.shape[0] * t.shape[1], s.size_};
    TERN_ASSIGN(s.ids_, InputIds(flat, "retrieved", vocab_size));
    return s;
  }
  Status Fetch(int64_t lane, int64_t chunk, std::span<const int32_t>, std::span<int32_t> neighbors) override {
    if (chunk >= chunks_)
      return UsageError("there are too few chunks of neighbours").Where("input 'retrieved'").Got(chunks_, Str("at least ", chunk + 1)).Hint(
          "One for every chunk of tokens that is complete");
    std::memcpy(neighbors.data(), ids_.data() + (lane * chunks_ + chunk) * size_, static_cast<size_t>(size_) * 4);
    return {};
  }
  int64_t batch() const { return batch_; }

 private:
  std::vector<int32_t> ids_;
  int64_t batch_ = 0, chunks_ = 0, size_ = 0;
};

}  // namespace

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
  TERN_ASSIGN(TensorSource source, TensorSource::Create(*retrieved, model->network().vocab_size()));
  if (ids && ids->shape.rank() == 2 && ids->shape[0] != source.batch())
    return UsageError("the inputs have different batches").Where("input 'retrieved'").Got(source.batch(), ids->shape[0]);
  RetrievalOptions retrieval{retrieved->shape[2], retrieved->shape[3], &source, ids && ids->shape.rank() == 2 ? ids->shape[1] : 0};
  return ForwardDecoder(std::move(model), others, options, retrieval);
}

}  // namespace tern
