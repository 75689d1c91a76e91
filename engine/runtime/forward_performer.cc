#include <algorithm>
#include <cstring>

#include "engine/runtime/forward_parts.h"
#include "engine/runtime/named_run.h"

namespace tern {
namespace {

// Whole sequences, with what may stand beside them.
class PerformerForward {
 public:
  PerformerForward(std::shared_ptr<const Model> model, const PerformerConfig& config, const ForwardOptions& options)
      : model_(std::move(model)), config_(config), options_(options) {}

  Result<std::vector<NamedTensor>> Run(const std::vector<NamedInput>& inputs) {
    for (const NamedInput& in : inputs) TERN_RETURN_IF_ERROR(Read(in));
    if (batch_ < 0) return UsageError("the input 'input_ids' is missing");
    TERN_RETURN_IF_ERROR(CheckShapes());
    std::vector<NamedTensor> out;
    if (batch_ == 0 || time_ == 0) {
      out.push_back({"logits", DType::f32, {batch_, time_, config_.vocab_size}, {}});
      return out;
    }
    EntryOptions entry;
    entry.entry = "encode";
    entry.batch = batch_, entry.tokens = time_, entry.chunk = std::max<int64_t>(1, context_time_), entry.trace = options_.trace;
    TERN_ASSIGN(auto run, NamedRun::Create(model_, entry, options_.threads, options_.cancel));
    run->Bind("input_ids", ids_.data());
    if (!mask_.empty()) run->Bind("mask", mask_.data());
    if (!context_mask_.empty()) run->Bind("context_mask", context_mask_.data());
    if (context_) run->Bind("context", context_);
    TERN_RETURN_IF_ERROR(run->Run({time_, context_time_, 0, 0}));
    for (const std::string& name : run->output_names()) {
      TERN_ASSIGN(Joined joined, Joined::Create(name, batch_, time_, run->output(name).cols));
      joined.Take(run->output(name), 0, time_);
      out.push_back(std::move(joined.tensor));
    }
    return out;
  }

 private:
  Status Read(const NamedInput& in) {
    const ConstTensor& t = in.tensor;
    const bool cross = config_.cross_attend;
    if (in.name == "input_ids") {
      TERN_ASSIGN(ids_, InputIds(t, in.name, config_.vocab_size));
      batch_ = t.shape[0], time_ = t.shape[1];
      if (time_ > config_.max_positions) return UsageError("the sequence is too long").Where("input 'input_ids'").Got(Str(time_, " tokens"), Str("at most ", config_.max_positions));
      return {};
    }
    if (in.name == "mask") return ReadMask(in, &mask_, &mask_shape_);
    if (in.name == "context_mask" && cross) return ReadMask(in, &context_mask_, &context_mask_shape_);
    if (in.name == "context" && cross) {
      if (t.type != DType::f32 || t.shape.rank() != 3 || t.shape[2] != config_.d_model)
        return UsageError("an input has the wrong shape or type").Where("input 'context'").Got(Str(DTypeName(t.type), " ", t.shape), Str("f32 [batch, time, ", config_.d_model, "]"));
      context_ = t.data;
      context_batch_ = t.shape[0], context_time_ = t.shape[1];
      return {};
    }
    return UsageError("the model takes no such input").Where(Str("input '", Printable(in.name), "'")).Hint(Str("It takes input_ids, mask", cross ? ", context and context_mask" : ""));
  }

  static Status ReadMask(const NamedInput& in, std::vector<float>* mask, Shape* shape) {
    const ConstTensor& t = in.tensor;
    *shape = t.shape;
    if (t.type == DType::boolean && t.shape.rank() == 2) {
      for (int64_t i = 0; i < t.shape.elements(); ++i) mask->push_back(t.as<uint8_t>()[i] != 0 ? 1.0f : 0.0f);
      return {};
    }
    TERN_ASSIGN(std::vector<int32_t> values, InputIds(t, in.name, 2));
    mask->assign(values.begin(), values.end());
    return {};
  }

  Status CheckShapes() const {
    auto fits = [](const std::vector<float>& mask, const Shape& shape, int64_t batch, int64_t time) { return mask.empty() || shape == Shape{batch, time}; };
    if (!fits(mask_, mask_shape_, batch_, time_)) return UsageError("the inputs have different shapes").Where("input 'mask'").Got(mask_shape_, Shape{batch_, time_});
    if (!config_.cross_attend) return {};
    if (!context_ || context_time_ < 1) return UsageError("the input 'context' is missing").Hint("The model attends to a context: f32 [batch, time, dim]");
    if (context_batch_ != batch_) return UsageError("the inputs have different batches").Where("input 'context'").Got(context_batch_, batch_);
    if (!fits(context_mask_, context_mask_shape_, batch_, context_time_))
      return UsageError("the inputs have different shapes").Where("input 'context_mask'").Got(context_mask_shape_, Shape{batch_, context_time_});
    return {};
  }

  std::shared_ptr<const Model> model_;
  const PerformerConfig& config_;
  const ForwardOptions& options_;
  std::vector<int32_t> ids_;
  std::vector<float> mask_, context_mask_;
  Shape mask_shape_, context_mask_shape_;
  const void* context_ = nullptr;
  int64_t batch_ = -1, time_ = 0, context_batch_ = 0, context_time_ = 0;
};

}  // namespace

Result<std::vector<NamedTensor>> ForwardPerformer(std::shared_ptr<const Model> model, const PerformerNetwork& network, const std::vector<NamedInput>& inputs,
                                                  const ForwardOptions& options) {
  const PerformerConfig& config = network.performer();
  if (options.chunks.empty()) return PerformerForward(std::move(model), config, options).Run(inputs);
  if (!config.causal || config.cross_attend) return UsageError("only a causal model without cross attention reads a sequence in pieces (--chunks)");
  for (const NamedInput& in : inputs)
    if (in.name == "mask") return UsageError("a mask goes with a whole sequence, not with pieces (--chunks)");
  return ForwardDecoder(std::move(model), inputs, options);
}

}  // namespace tern
