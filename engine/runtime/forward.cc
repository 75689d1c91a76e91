#include "engine/runtime/forward.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "engine/base/checked.h"

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

}  // namespace

Result<std::vector<NamedTensor>> Forward(std::shared_ptr<const Model> model, const std::vector<NamedInput>& inputs, const ForwardOptions& options) {
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

}  // namespace tern
