// Forward of encoder-decoders.
#include <algorithm>
#include <cstring>

#include "engine/runtime/forward_parts.h"
#include "engine/runtime/seq2seq.h"

namespace tern {
namespace {

class EncoderDecoderForward {
 public:
  EncoderDecoderForward(std::shared_ptr<const Model> model, const EncoderDecoderNetwork& network, const ForwardOptions& options)
      : model_(std::move(model)), config_(network.t5()), options_(options) {}

  Result<std::vector<NamedTensor>> Run(const std::vector<NamedInput>& inputs) {
    if (!options_.chunks.empty()) return UsageError("an encoder-decoder reads a sequence whole; --chunks is for decoders");
    for (const NamedInput& in : inputs) TERN_RETURN_IF_ERROR(Read(in));
    if (ids_.empty()) return UsageError("the input 'input_ids' is missing or empty");
    if (!mask_.empty() && mask_.size() != ids_.size()) return UsageError("the mask has another shape than the ids").Where("input 'attention_mask'");
    TERN_RETURN_IF_ERROR(Plain());
    if (options_.generate > 0) {
      const std::vector<int64_t> beams = options_.beams.empty() ? std::vector<int64_t>{1} : options_.beams;
      for (int64_t k : beams) TERN_RETURN_IF_ERROR(Generate(k));
    }
    return std::move(out_);
  }

 private:
  Status Read(const NamedInput& in) {
    ConstTensor t = in.tensor;
    const bool is_mask = in.name == "attention_mask", is_target = in.name == "decoder_input_ids";
    if (in.name != "input_ids" && !is_mask && !(is_target && config_.decoder))
      return UsageError("the model takes no such input").Where(Str("input '", Printable(in.name), "'")).Hint(config_.decoder ? "It takes input_ids, attention_mask and decoder_input_ids" : "It takes input_ids and attention_mask");
    if (is_mask && t.type == DType::boolean && t.shape.rank() == 2) {
      mask_.assign(t.as<uint8_t>(), t.as<uint8_t>() + t.shape.elements());
    } else {
      TERN_ASSIGN(std::vector<int32_t> values, InputIds(t, in.name, is_mask ? 2 : config_.vocab_size));
      if (is_mask) mask_.assign(values.begin(), values.end());
      else (is_target ? target_ids_ : ids_) = std::move(values);
    }
    if (batch_ < 0) batch_ = t.shape[0];
    if (t.shape[0] != batch_) return UsageError("the inputs have different batches").Where(Str("input '", in.name, "'")).Got(t.shape[0], batch_);
    (is_target ? target_time_ : time_) = t.shape[1];
    return {};
  }

  std::vector<EncoderInput> Sources(int64_t begin, int64_t end) const {
    std::vector<EncoderInput> out;
    for (int64_t b = begin; b < end; ++b) {
      const size_t at = static_cast<size_t>(b * time_), n = static_cast<size_t>(time_);
      EncoderInput in{{ids_.data() + at, n}};
      if (!mask_.empty()) in.mask = {mask_.data() + at, n};
      out.push_back(in);
    }
    return out;
  }

  // Room for [batch, time, cols]; rows are filled group by group.
  Result<NamedTensor*> Room(const std::string& name, int64_t time, int64_t cols) {
    for (NamedTensor& t : out_)
      if (t.name == name) return &t;
    NamedTensor t{name, DType::f32, {batch_, time, cols}, {}};
    auto elements = t.shape.CheckedElements();
    if (!elements || *elements > AvailableMemory() / 4) return MemoryError(Str("the output '", name, "' does not fit into memory"));
    t.bytes.resize(static_cast<size_t>(*elements) * 4);
    out_.push_back(std::move(t));
    return &out_.back();
  }

  Status Plain() {
    const bool decode = config_.decoder && !target_ids_.empty();
    EncoderDecoderOptions session_options;
    session_options.threads = options_.threads, session_options.trace = options_.trace, session_options.cancel = options_.cancel;
    session_options.positions = std::max<int64_t>(1, target_time_);
    TERN_ASSIGN(auto session, EncoderDecoderSession::Create(model_, session_options));
    // Some thousand tokens at once: enough for the products, and the arena stays small.
    const int64_t step = std::max<int64_t>(1, 4096 / std::max(time_, target_time_));
    for (int64_t begin = 0; begin < batch_; begin += step) {
      const int64_t end = std::min(batch_, begin + step);
      TERN_RETURN_IF_ERROR(session->Encode(Sources(begin, end)));
      for (const std::string& name : session->encoded_names()) {
        const Operand& o = session->encoded(name);
        TERN_ASSIGN(NamedTensor * t, Room(name, time_, o.cols));
        float* to = reinterpret_cast<float*>(t->bytes.data());
        for (int64_t b = begin; b < end; ++b)
          for (int64_t p = 0; p < time_; ++p)
            if (int64_t row = session->RowOf(b - begin, p); row >= 0) std::memcpy(to + (b * time_ + p) * o.cols, o.f32() + row * o.stride, static_cast<size_t>(o.cols) * 4);
      }
      if (!decode) continue;
      TERN_RETURN_IF_ERROR(session->Decode({target_ids_.data() + begin * target_time_, static_cast<size_t>((end - begin) * target_time_)}));
      for (const std::string& name : session->output_names()) {
        const Operand& o = session->output(name);
        TERN_ASSIGN(NamedTensor * t, Room(name, target_time_, o.cols));
        float* to = reinterpret_cast<float*>(t->bytes.data()) + begin * target_time_ * o.cols;
        for (int64_t r = 0; r < (end - begin) * target_time_; ++r) std::memcpy(to + r * o.cols, o.f32() + r * o.stride, static_cast<size_t>(o.cols) * 4);
      }
    }
    return {};
  }

  Status Generate(int64_t beams) {
    EncoderDecoderOptions session_options;
    session_options.threads = options_.threads, session_options.cancel = options_.cancel;
    session_options.beams = beams, session_options.positions = options_.generate, session_options.logits = LogitsMode::kLast;
    TERN_ASSIGN(auto session, EncoderDecoderSession::Create(model_, session_options));
    Seq2seqOptions decode;
    decode.new_tokens = options_.generate;
    std::vector<Decoded> rows;
    TERN_RETURN_IF_ERROR(DecodeSources(*session, Sources(0, batch_), decode, {}, &rows));
    size_t longest = 0;
    for (const Decoded& r : rows) longest = std::max(longest, r.ids.size());
    NamedTensor t{beams == 1 ? "greedy_ids" : Str("beam", beams, "_ids"), DType::i64, {batch_, static_cast<int64_t>(longest)}, {}};
    std::vector<int64_t> all;
    for (const Decoded& r : rows) {
      all.insert(all.end(), r.ids.begin(), r.ids.end());
      all.insert(all.end(), longest - r.ids.size(), config_.pad_token_id);
    }
    t.bytes.resize(all.size() * sizeof(int64_t));
    std::memcpy(t.bytes.data(), all.data(), t.bytes.size());
    out_.push_back(std::move(t));
    return {};
  }

  std::shared_ptr<const Model> model_;
  const T5Config& config_;
  const ForwardOptions& options_;
  std::vector<int32_t> ids_, target_ids_;
  std::vector<uint8_t> mask_;
  int64_t batch_ = -1, time_ = 0, target_time_ = 0;
  std::vector<NamedTensor> out_;
};

}  // namespace

Result<std::vector<NamedTensor>> ForwardEncoderDecoder(std::shared_ptr<const Model> model, const EncoderDecoderNetwork& network, const std::vector<NamedInput>& inputs,
                                                       const ForwardOptions& options) {
  return EncoderDecoderForward(std::move(model), network, options).Run(inputs);
}

}  // namespace tern
