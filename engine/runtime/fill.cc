#include "engine/runtime/fill.h"

#include <algorithm>
#include <cmath>

#include "engine/runtime/embed.h"
#include "models/performer.h"

namespace tern {

Result<std::unique_ptr<MaskFiller>> MaskFiller::Create(std::shared_ptr<const Model> model, int threads, const CancelToken* cancel) {
  std::unique_ptr<MaskFiller> f(new MaskFiller());
  f->model_ = std::move(model), f->threads_ = threads, f->cancel_ = cancel;
  const std::string path = f->model_->file().path();
  TERN_ASSIGN(f->tokenizer_, f->model_->NeedTokenizer());
  if (const auto* performer = dynamic_cast<const PerformerNetwork*>(&f->model_->network())) {
    if (performer->performer().causal || performer->performer().cross_attend) return UsageError("the model is no masked language model").File(path);
  } else {
    EncoderOptions options;
    options.threads = threads, options.logits = LogitsMode::kLast, options.cancel = cancel;
    TERN_ASSIGN(f->session_, EncoderSession::Create(f->model_, options));
    if (f->session_->network().encoder().head != EncoderHead::kMaskedLm) return UsageError("the model has no masked-LM head").File(path);
  }
  const int32_t mask = f->tokenizer_->special_ids().mask;
  if (mask < 0) return Malformed("the tokenizer has no mask token").File(path);
  f->mask_ = f->tokenizer_->PieceOf(mask);
  return f;
}

int64_t MaskFiller::longest() const { return session_ ? session_->longest() : model_->network().segments().length; }

// Rows in the order of the places.
Result<const Operand*> MaskFiller::RunEncoder(const Encoding& e, const std::vector<int64_t>& places) {
  std::vector<EncoderSession::Place> rows;
  for (int64_t position : places) rows.push_back({0, position});
  const EncoderInput input = InputOf(e);
  TERN_RETURN_IF_ERROR(session_->Run({&input, 1}, rows));
  return &session_->output("logits");
}

// A row for every position.
Result<const Operand*> MaskFiller::RunWhole(const Encoding& e) {
  EntryOptions entry;
  entry.entry = "encode", entry.tokens = static_cast<int64_t>(e.ids.size());
  TERN_ASSIGN(whole_, NamedRun::Create(model_, entry, threads_, cancel_));
  whole_->Bind("input_ids", e.ids.data());
  const std::vector<float> mask(e.attention_mask.begin(), e.attention_mask.end());  // 0: padding that the tokenizer's file asked for
  if (!mask.empty()) whole_->Bind("mask", mask.data());
  TERN_RETURN_IF_ERROR(whole_->Run({entry.tokens, 0, 0, 0}));
  return &whole_->output("logits");
}

Result<std::vector<std::vector<Filling>>> MaskFiller::Fill(const std::string& text, int64_t top) {
  TERN_ASSIGN(Encoding e, tokenizer_->Encode(text, {}));
  if (static_cast<int64_t>(e.ids.size()) > longest()) return UsageError("the text is too long for the model").Got(Str(e.ids.size(), " tokens"), Str("at most ", longest()));
  std::vector<int64_t> places;
  for (size_t i = 0; i < e.ids.size(); ++i)
    if (e.ids[i] == tokenizer_->special_ids().mask) places.push_back(static_cast<int64_t>(i));
  if (places.empty()) return UsageError(Str("the text has no mask; write ", mask_));
  const int64_t vocabulary = model_->network().vocab_size();
  for (int32_t id : e.ids)
    if (id < 0 || id >= vocabulary) return UsageError("a token id lies outside the vocabulary").Got(id, Str("0 to ", vocabulary - 1));
  TERN_ASSIGN(const Operand* all, session_ ? RunEncoder(e, places) : RunWhole(e));
  const Operand& logits = *all;
  const KernelTable& kernels = model_->kernels();
  top = std::min(top, logits.cols);
  std::vector<float> values(static_cast<size_t>(top));
  std::vector<int32_t> indices(static_cast<size_t>(top));
  std::vector<std::vector<Filling>> out;
  for (size_t m = 0; m < places.size(); ++m) {
    const float* row = logits.f32() + (session_ ? static_cast<int64_t>(m) : places[m]) * logits.stride;
    const double lse = kernels.log_sum_exp(row, logits.cols);
    if (!std::isfinite(lse)) return Status(Code::kNumeric, "the logits are not finite").Hint("Check the weights with tern verify");
    kernels.top_k(row, logits.cols, top, values.data(), indices.data());
    std::vector<Filling> fillings;
    for (size_t i = 0; i < values.size(); ++i) {
      Filling f{indices[i], tokenizer_->PieceOf(indices[i]), {}, std::exp(values[i] - lse)};
      std::vector<int32_t> ids = e.ids;
      ids[static_cast<size_t>(places[m])] = f.id;
      f.text = tokenizer_->Decode(ids);
      fillings.push_back(std::move(f));
    }
    out.push_back(std::move(fillings));
  }
  return out;
}

}  // namespace tern
