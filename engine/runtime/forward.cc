#include "engine/runtime/forward.h"

#include <cstring>

#include "engine/base/checked.h"
#include "engine/runtime/forward_parts.h"

namespace tern {

Result<std::vector<int32_t>> InputIds(const ConstTensor& t, std::string_view name, int64_t vocab_size) {
  if (t.shape.rank() != 2)
    return UsageError("an input has the wrong shape").Where(Str("input '", name, "'")).Got(t.shape, "[batch, time]");
  if (t.type != DType::i64 && t.type != DType::i32)
    return UsageError("an input has the wrong type")
        .Where(Str("input '", name, "'"))
        .Got(DTypeName(t.type), "i64 or i32");
  std::vector<int32_t> ids(static_cast<size_t>(t.shape.elements()));
  for (size_t i = 0; i < ids.size(); ++i) {
    const int64_t id = t.type == DType::i64 ? t.as<int64_t>()[i] : t.as<int32_t>()[i];
    if (id < 0 || id >= vocab_size)
      return UsageError("a token id lies outside the vocabulary")
          .Where(Str("input '", name, "', element ", i))
          .Got(id, Str("0 to ", vocab_size - 1));
    ids[i] = static_cast<int32_t>(id);
  }
  return ids;
}

Result<Joined> Joined::Create(std::string name, int64_t batch, int64_t time, int64_t cols) {
  Joined j;
  j.batch_ = batch, j.time_ = time, j.cols_ = cols;
  auto bytes = CheckedMul(batch * time, cols * 4);
  if (!bytes || *bytes > AvailableMemory())
    return MemoryError(Str("the output '", name, "' does not fit into memory"))
        .Got(Str(batch, " x ", time, " x ", cols, " numbers"), "fewer");
  j.tensor.name = std::move(name);
  j.tensor.shape = {batch, time, cols};
  j.tensor.bytes.resize(static_cast<size_t>(*bytes));
  return j;
}

void Joined::Take(const Operand& piece, int64_t begin, int64_t tokens) {
  for (int64_t b = 0; b < batch_; ++b)
    for (int64_t t = 0; t < tokens; ++t)
      std::memcpy(tensor.bytes.data() + ((b * time_ + begin + t) * cols_) * 4,
                  piece.f32() + (b * tokens + t) * piece.stride, static_cast<size_t>(cols_) * 4);
}

Result<std::vector<int64_t>> Pieces(const ForwardOptions& options, int64_t time) {
  if (options.chunks.empty()) return std::vector<int64_t>{time};
  int64_t sum = 0;
  for (int64_t c : options.chunks)
    if (c < 1 || c > time || (sum += c) > time) break;
  if (sum != time) return UsageError("the chunks do not add up to the sequence").Got(sum, time);
  return options.chunks;
}

std::vector<int32_t> ColumnsOf(const std::vector<int32_t>& from, int64_t batch, int64_t begin, int64_t count) {
  const int64_t time = static_cast<int64_t>(from.size()) / batch;
  std::vector<int32_t> out;
  out.reserve(static_cast<size_t>(batch * count));
  for (int64_t b = 0; b < batch && time > 0; ++b) out.insert(out.end(), from.begin() + b * time + begin, from.begin() + b * time + begin + count);
  return out;
}

Result<std::vector<NamedTensor>> FeedPieces(Session* session, const std::vector<int32_t>& ids, const std::vector<int64_t>& pieces, bool trace,
                                            const std::function<void(int64_t begin, int64_t count)>& before) {
  const int64_t batch = session->options().batch, time = static_cast<int64_t>(ids.size()) / batch;
  std::vector<Joined> joined;
  int64_t begin = 0;
  for (int64_t tokens : pieces) {
    if (before) before(begin, tokens);
    TERN_RETURN_IF_ERROR(session->Feed(ColumnsOf(ids, batch, begin, tokens), LogitsMode::kAll, {}, trace));
    if (begin == 0)
      for (const std::string& name : session->output_names()) {
        TERN_ASSIGN(Joined j, Joined::Create(name, batch, time, session->output(name).cols));
        joined.push_back(std::move(j));
      }
    for (Joined& j : joined) j.Take(session->output(j.tensor.name), begin, tokens);
    begin += tokens;
  }
  std::vector<NamedTensor> out;
  for (Joined& j : joined) out.push_back(std::move(j.tensor));
  return out;
}

Result<std::vector<NamedTensor>> Forward(std::shared_ptr<const Model> model, const std::vector<NamedInput>& inputs,
                                         const ForwardOptions& options) {
  if (const auto* reformer = dynamic_cast<const ReformerNetwork*>(&model->network()))
    return ForwardReformer(model, reformer->reformer(), inputs, options);
  if (const auto* pair = dynamic_cast<const EncoderDecoderNetwork*>(&model->network()))
    return ForwardEncoderDecoder(model, *pair, inputs, options);
  if (options.generate > 0) return UsageError("decoding along with the outputs is not there for this kind of model").Where("--generate").Hint("Use tern run");
  if (const auto* encoder = dynamic_cast<const EncoderNetwork*>(&model->network()))
    return ForwardEncoder(model, *encoder, inputs, options);
  if (dynamic_cast<const RetroNetwork*>(&model->network())) return ForwardRetro(std::move(model), inputs, options);
  if (const auto* performer = dynamic_cast<const PerformerNetwork*>(&model->network()))
    return ForwardPerformer(model, *performer, inputs, options);
  if (const auto* infinite = dynamic_cast<const InfiniteFormerNetwork*>(&model->network()))
    return ForwardInfiniteFormer(model, *infinite, inputs, options);
  return ForwardDecoder(std::move(model), inputs, options);
}

}  // namespace tern
