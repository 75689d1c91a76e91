#include <cstring>

#include "engine/runtime/forward_parts.h"

namespace tern {
namespace {

// Encoders. Masked tokens are no rows of ours; their outputs are zeros.
class EncoderForward {
 public:
  EncoderForward(std::shared_ptr<const Model> model, const EncoderNetwork& network, const ForwardOptions& options)
      : model_(std::move(model)), config_(network.encoder()), options_(options) {}

  Result<std::vector<NamedTensor>> Run(const std::vector<NamedInput>& inputs) {
    if (!options_.chunks.empty()) return UsageError("an encoder reads a sequence whole; --chunks is for decoders");
    const bool choice = config_.head == EncoderHead::kChoice;
    for (const NamedInput& in : inputs) TERN_RETURN_IF_ERROR(Read(in, choice));
    if (ids_.empty() && batch_ == 0) return UsageError("the input 'input_ids' is missing");
    EncoderOptions session_options;
    session_options.threads = options_.threads, session_options.trace = options_.trace,
    session_options.cancel = options_.cancel;
    TERN_ASSIGN(auto session, EncoderSession::Create(model_, session_options));
    // Some thousand tokens at once: enough for the products, and the arena stays small.
    const int64_t step = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, time_));
    for (int64_t begin = 0; begin < batch_; begin += step)
      TERN_RETURN_IF_ERROR(Batch(*session, begin, std::min(batch_, begin + step)));
    if (choice)  // [B * C, 1] -> [B, C]
      for (NamedTensor& t : out_)
        if (t.name == "logits") t.shape = {batch_ / choices_, choices_};
    return std::move(out_);
  }

 private:
  Status Read(const NamedInput& in, bool choice) {
    ConstTensor t = in.tensor;
    if (choice && t.shape.rank() == 3) {  // the choices are sequences of their own
      choices_ = t.shape[1];
      t.shape = {t.shape[0] * t.shape[1], t.shape[2]};
    }
    const bool is_mask = in.name == "attention_mask", is_types = in.name == "token_type_ids";
    if (in.name != "input_ids" && !is_mask && !(is_types && config_.type_vocab_size > 0))
      return UsageError("the model takes no such input")
          .Where(Str("input '", Printable(in.name), "'"))
          .Hint("It takes input_ids, attention_mask and, if it has types, token_type_ids");
    std::vector<uint8_t> bytes;
    if (is_mask && t.type == DType::boolean && t.shape.rank() == 2) {
      mask_.assign(t.as<uint8_t>(), t.as<uint8_t>() + t.shape.elements());
    } else {
      TERN_ASSIGN(std::vector<int32_t> values, InputIds(t, in.name,
                                                        is_mask    ? 2
                                                        : is_types ? config_.type_vocab_size
                                                                   : config_.vocab_size));
      if (is_mask)
        mask_.assign(values.begin(), values.end());
      else
        (is_types ? types_ : ids_) = std::move(values);
    }
    if (batch_ == 0 && time_ == 0) batch_ = t.shape[0], time_ = t.shape[1];
    if (t.shape[0] != batch_ || t.shape[1] != time_)
      return UsageError("the inputs have different shapes")
          .Where(Str("input '", in.name, "'"))
          .Got(t.shape, Shape{batch_, time_});
    return {};
  }

  Status Batch(EncoderSession& session, int64_t begin, int64_t end) {
    std::vector<EncoderInput> batch;
    for (int64_t b = begin; b < end; ++b) {
      const size_t at = static_cast<size_t>(b * time_), n = static_cast<size_t>(time_);
      EncoderInput in{{ids_.data() + at, n}};
      if (!types_.empty()) in.type_ids = {types_.data() + at, n};
      if (!mask_.empty()) in.mask = {mask_.data() + at, n};
      batch.push_back(in);
    }
    TERN_RETURN_IF_ERROR(session.Run(batch));
    const auto names = session.output_names();
    for (size_t i = 0; i < names.size(); ++i) {
      const Operand& o = session.output(names[i]);
      const bool tokens = session.per_token(names[i]);
      if (begin == 0) {
        NamedTensor t{names[i], DType::f32, {batch_}, {}};
        if (tokens) t.shape.Push(time_);
        if (o.cols > 1 || !tokens) t.shape.Push(o.cols);  // start and end logits are [B, S]
        auto elements = t.shape.CheckedElements();
        if (!elements || *elements > AvailableMemory() / 4)
          return MemoryError(Str("the output '", names[i], "' does not fit into memory"));
        t.bytes.resize(static_cast<size_t>(*elements) * 4);
        out_.push_back(std::move(t));
      }
      float* to = reinterpret_cast<float*>(out_[i].bytes.data());
      for (int64_t b = begin; b < end; ++b)
        for (int64_t p = 0; p < (tokens ? time_ : 1); ++p) {
          const int64_t row = tokens ? session.RowOf(b - begin, p) : b - begin;
          if (row >= 0)
            std::memcpy(to + (tokens ? b * time_ + p : b) * o.cols, o.f32() + row * o.stride,
                        static_cast<size_t>(o.cols) * 4);
        }
    }
    return {};
  }

  std::shared_ptr<const Model> model_;
  const EncoderConfig& config_;
  const ForwardOptions& options_;
  std::vector<int32_t> ids_, types_;
  std::vector<uint8_t> mask_;
  int64_t batch_ = 0, time_ = 0, choices_ = 1;
  std::vector<NamedTensor> out_;
};

}  // namespace

Result<std::vector<NamedTensor>> ForwardEncoder(std::shared_ptr<const Model> model, const EncoderNetwork& network,
                                                const std::vector<NamedInput>& inputs, const ForwardOptions& options) {
  return EncoderForward(std::move(model), network, options).Run(inputs);
}

}  // namespace tern
