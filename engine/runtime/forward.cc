#include "engine/runtime/forward.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "engine/base/checked.h"
#include "engine/runtime/encoder_session.h"

namespace tern {

Result<std::vector<int32_t>> InputIds(const ConstTensor& t, std::string_view name, int64_t vocab_size) {
  if (t.shape.rank() != 2) return UsageError("an input has the wrong shape").Where(Str("input '", name, "'")).Got(t.shape, "[batch, time]");
  if (t.type != DType::i64 && t.type != DType::i32) return UsageError("an input has the wrong type").Where(Str("input '", name, "'")).Got(DTypeName(t.type), "i64 or i32");
  std::vector<int32_t> ids(static_cast<size_t>(t.shape.elements()));
  for (size_t i = 0; i < ids.size(); ++i) {
    const int64_t id = t.type == DType::i64 ? t.as<int64_t>()[i] : t.as<int32_t>()[i];
    if (id < 0 || id >= vocab_size) return UsageError("a token id lies outside the vocabulary").Where(Str("input '", name, "', element ", i)).Got(id, Str("0 to ", vocab_size - 1));
    ids[i] = static_cast<int32_t>(id);
  }
  return ids;
}

namespace {

// Outputs of all pieces, joined along time: [B, T, cols] from pieces [B * t, cols].
class Joined {
 public:
  static Result<Joined> Create(std::string name, int64_t batch, int64_t time, int64_t cols) {
    Joined j;
    j.batch_ = batch, j.time_ = time, j.cols_ = cols;
    auto bytes = CheckedMul(batch * time, cols * 4);
    if (!bytes || *bytes > AvailableMemory()) return MemoryError(Str("the output '", name, "' does not fit into memory")).Got(Str(batch, " x ", time, " x ", cols, " numbers"), "fewer");
    j.tensor.name = std::move(name);
    j.tensor.shape = {batch, time, cols};
    j.tensor.bytes.resize(static_cast<size_t>(*bytes));
    return j;
  }
  void Take(const Operand& piece, int64_t begin, int64_t tokens) {
    for (int64_t b = 0; b < batch_; ++b)
      for (int64_t t = 0; t < tokens; ++t)
        std::memcpy(tensor.bytes.data() + ((b * time_ + begin + t) * cols_) * 4, piece.f32() + (b * tokens + t) * piece.stride, static_cast<size_t>(cols_) * 4);
  }
  NamedTensor tensor;

 private:
  int64_t batch_ = 0, time_ = 0, cols_ = 0;
};

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
    session_options.threads = options_.threads, session_options.trace = options_.trace, session_options.cancel = options_.cancel;
    TERN_ASSIGN(auto session, EncoderSession::Create(model_, session_options));
    // Some thousand tokens at once: enough for the products, and the arena stays small.
    const int64_t step = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, time_));
    for (int64_t begin = 0; begin < batch_; begin += step) TERN_RETURN_IF_ERROR(Batch(*session, begin, std::min(batch_, begin + step)));
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
      return UsageError("the model takes no such input").Where(Str("input '", Printable(in.name), "'")).Hint("It takes input_ids, attention_mask and, if it has types, token_type_ids");
    std::vector<uint8_t> bytes;
    if (is_mask && t.type == DType::boolean && t.shape.rank() == 2) {
      mask_.assign(t.as<uint8_t>(), t.as<uint8_t>() + t.shape.elements());
    } else {
      TERN_ASSIGN(std::vector<int32_t> values, InputIds(t, in.name, is_mask ? 2 : is_types ? config_.type_vocab_size : config_.vocab_size));
      if (is_mask) mask_.assign(values.begin(), values.end());
      else (is_types ? types_ : ids_) = std::move(values);
    }
    if (batch_ == 0 && time_ == 0) batch_ = t.shape[0], time_ = t.shape[1];
    if (t.shape[0] != batch_ || t.shape[1] != time_) return UsageError("the inputs have different shapes").Where(Str("input '", in.name, "'")).Got(t.shape, Shape{batch_, time_});
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
        if (!elements || *elements > AvailableMemory() / 4) return MemoryError(Str("the output '", names[i], "' does not fit into memory"));
        t.bytes.resize(static_cast<size_t>(*elements) * 4);
        out_.push_back(std::move(t));
      }
      float* to = reinterpret_cast<float*>(out_[i].bytes.data());
      for (int64_t b = begin; b < end; ++b)
        for (int64_t p = 0; p < (tokens ? time_ : 1); ++p) {
          const int64_t row = tokens ? session.RowOf(b - begin, p) : b - begin;
          if (row >= 0) std::memcpy(to + (tokens ? b * time_ + p : b) * o.cols, o.f32() + row * o.stride, static_cast<size_t>(o.cols) * 4);
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

Result<std::vector<NamedTensor>> ForwardDecoder(std::shared_ptr<const Model> model, const std::vector<NamedInput>& inputs, const ForwardOptions& options) {
  const ConstTensor* ids_tensor = nullptr;
  for (const NamedInput& in : inputs) {
    if (in.name == "input_ids") ids_tensor = &in.tensor;
    else return UsageError("the model takes no such input").Where(Str("input '", Printable(in.name), "'")).Hint("It takes input_ids");
  }
  if (!ids_tensor) return UsageError("the input 'input_ids' is missing");
  TERN_ASSIGN(std::vector<int32_t> ids, InputIds(*ids_tensor, "input_ids", model->network().vocab_size()));
  const int64_t batch = ids_tensor->shape[0], time = ids_tensor->shape[1];
  std::vector<NamedTensor> out;
  if (batch == 0 || time == 0) {
    out.push_back({"logits", DType::f32, {batch, time, model->network().vocab_size()}, {}});
    return out;
  }
  std::vector<int64_t> chunks = options.chunks.empty() ? std::vector<int64_t>{time} : options.chunks;
  int64_t sum = 0;
  for (int64_t c : chunks)
    if (c < 1 || c > time || (sum += c) > time) break;
  if (sum != time) return UsageError("the chunks do not add up to the sequence").Got(sum, time);

  SessionOptions session_options;
  session_options.batch = batch, session_options.threads = options.threads, session_options.cancel = options.cancel;
  session_options.plans = {{*std::max_element(chunks.begin(), chunks.end()), LogitsMode::kAll, options.trace}};
  TERN_ASSIGN(auto session, Session::Create(model, session_options));

  std::vector<Joined> joined;
  std::vector<int32_t> piece;
  int64_t begin = 0;
  for (int64_t tokens : chunks) {
    piece.clear();
    for (int64_t b = 0; b < batch; ++b) piece.insert(piece.end(), ids.begin() + b * time + begin, ids.begin() + b * time + begin + tokens);
    TERN_RETURN_IF_ERROR(session->Feed(piece, LogitsMode::kAll, {}, options.trace));
    if (begin == 0)
      for (const std::string& name : session->output_names()) {
        TERN_ASSIGN(Joined j, Joined::Create(name, batch, time, session->output(name).cols));
        joined.push_back(std::move(j));
      }
    for (Joined& j : joined) j.Take(session->output(j.tensor.name), begin, tokens);
    begin += tokens;
  }
  for (Joined& j : joined) out.push_back(std::move(j.tensor));
  return out;
}

}  // namespace

Result<std::vector<NamedTensor>> Forward(std::shared_ptr<const Model> model, const std::vector<NamedInput>& inputs, const ForwardOptions& options) {
  if (const auto* encoder = dynamic_cast<const EncoderNetwork*>(&model->network())) return EncoderForward(model, *encoder, options).Run(inputs);
  return ForwardDecoder(std::move(model), inputs, options);
}

}  // namespace tern
