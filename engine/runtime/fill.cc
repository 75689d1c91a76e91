#include "engine/runtime/fill.h"

#include <algorithm>
#include <cmath>

#include "engine/runtime/embed.h"

namespace tern {

Result<std::unique_ptr<MaskFiller>> MaskFiller::Create(std::shared_ptr<const Model> model, int threads, const CancelToken* cancel) {
  std::unique_ptr<MaskFiller> f(new MaskFiller());
  EncoderOptions options;
  options.threads = threads, options.logits = LogitsMode::kLast, options.cancel = cancel;
  const std::string path = model->file().path();
  TERN_ASSIGN(f->tokenizer_, model->NeedTokenizer());
  TERN_ASSIGN(f->session_, EncoderSession::Create(std::move(model), options));
  if (f->session_->network().encoder().head != EncoderHead::kMaskedLm) return UsageError("the model has no masked-LM head").File(path);
  const int32_t mask = f->tokenizer_->special_ids().mask;
  if (mask < 0) return Malformed("the tokenizer has no mask token").File(path);
  f->mask_ = f->tokenizer_->PieceOf(mask);
  return f;
}

Result<std::vector<std::vector<Filling>>> MaskFiller::Fill(const std::string& text, int64_t top) {
  TERN_ASSIGN(Encoding e, tokenizer_->Encode(text, {}));
  if (static_cast<int64_t>(e.ids.size()) > session_->longest())
    return UsageError("the text is too long for the model").Got(Str(e.ids.size(), " tokens"), Str("at most ", session_->longest()));
  std::vector<EncoderSession::Place> places;
  for (size_t i = 0; i < e.ids.size(); ++i)
    if (e.ids[i] == tokenizer_->special_ids().mask) places.push_back({0, static_cast<int64_t>(i)});
  if (places.empty()) return UsageError(Str("the text has no mask; write ", mask_));
  const EncoderInput input = InputOf(e);
  TERN_RETURN_IF_ERROR(session_->Run({&input, 1}, places));

  const Operand& logits = session_->output("logits");
  const KernelTable& kernels = session_->model().kernels();
  top = std::min(top, logits.cols);
  std::vector<float> values(static_cast<size_t>(top));
  std::vector<int32_t> indices(static_cast<size_t>(top));
  std::vector<std::vector<Filling>> out;
  for (int64_t m = 0; m < logits.rows; ++m) {
    const float* row = logits.f32() + m * logits.stride;
    const double lse = kernels.log_sum_exp(row, logits.cols);
    if (!std::isfinite(lse)) return Status(Code::kNumeric, "the logits are not finite").Hint("Check the weights with tern verify");
    kernels.top_k(row, logits.cols, top, values.data(), indices.data());
    std::vector<Filling> fillings;
    for (size_t i = 0; i < values.size(); ++i) {
      Filling f{indices[i], tokenizer_->PieceOf(indices[i]), {}, std::exp(values[i] - lse)};
      std::vector<int32_t> ids = e.ids;
      ids[static_cast<size_t>(places[static_cast<size_t>(m)].position)] = f.id;
      f.text = tokenizer_->Decode(ids);
      fillings.push_back(std::move(f));
    }
    out.push_back(std::move(fillings));
  }
  return out;
}

}  // namespace tern
